"""run: `corral run IMAGE true` of an image that was run before, against `podman run` of the same files and `runc run`
of a prepared bundle, where there are these. Whole processes.

podman has runc below it, a store of this benchmark's own (vfs), no network, and no more open files than it may have.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks import installed
from benchmarks.measure import interleaved, report, seconds, verdict
from benchmarks.restore import contain
from corral.compare.contenders.base import Kit
from corral.compare.contenders.runc import Runc
from corral.guests import initramfs

ROUNDS = 15
CORRAL, FRESH, PODMAN, RUNC = "corral run IMAGE true", "corral run --fresh IMAGE true", "podman run", "runc run"
LIMITS = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024")


def make_root(root: Path) -> None:
    (root / "bin").mkdir(parents=True)
    (root / "bin/busybox").write_bytes(initramfs.busybox())
    (root / "bin/busybox").chmod(0o755)
    for name in ("sh", "true"):
        (root / "bin" / name).symlink_to("busybox")


def podman(folder: Path, root: Path) -> list[str]:
    """The command, with the image in its store; empty where it does not run here."""
    if not shutil.which("podman"):
        print("  podman is not installed: it is left out")
        return []
    store = ["--root", str(folder / "store"), "--runroot", str(folder / "podman"), "--storage-driver", "vfs"]
    base = ["podman", *store, "--cgroup-manager", "cgroupfs", "--events-backend", "file", "--runtime", "runc"]
    archive = str(folder / "image.tar")
    subprocess.run(["tar", "-C", str(root), "-cf", archive, "."], check=True)
    subprocess.run([*base, "import", archive, "bench:1"], check=True, capture_output=True)
    command = [*base, "run", "--rm", "--network", "none", *LIMITS, "bench:1", "true"]
    tried = subprocess.run(command, capture_output=True, text=True, check=False)
    if tried.returncode:
        print(f"  podman does not run here: {tried.stderr.strip().splitlines()[-1]}")
        return []
    return command


def main() -> bool:
    program = installed.corral()
    with tempfile.TemporaryDirectory(prefix="corral-run-") as name:
        folder = Path(name)
        make_root(folder / "root")
        image = str(folder / "image.erofs")
        subprocess.run(["mkfs.erofs", image, str(folder / "root")], check=True, capture_output=True)
        contenders: dict[str, Callable[[], float]] = {
            CORRAL: partial(seconds, [program, "run", image, "true"], installed.environment()),
            FRESH: partial(seconds, [program, "run", "--fresh", image, "true"], installed.environment()),
        }
        if command := podman(folder, folder / "root"):
            contenders[PODMAN] = partial(seconds, command)
        runc = Runc(Kit(folder, 0))
        if not runc.missing():
            contenders[RUNC] = partial(contain, runc)
        medians = report("run, whole processes", interleaved(contenders, ROUNDS, warm_up=2), CORRAL)
        return verdict("corral run / podman run", medians[CORRAL] / medians[PODMAN], 1.0) if PODMAN in medians else True


if __name__ == "__main__":
    sys.exit(not main())
