"""host: from process start to the end of a guest that looks like its host and runs `true`, against virtme-ng.

In turns, with the same kernel, memory and files; in a nested host where this one has no hardware KVM, and there
`python -m benchmarks.host COMMANDS` does it.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from functools import partial

from benchmarks import installed, nested
from benchmarks.measure import Samples, interleaved, report, seconds, verdict
from corral.guests import cache, debian, host, sources
from corral.kvm.system import Kind, host_kind
from tests.nested.host import in_one_root

ROUNDS = 7
MEMORY = "512M"
PATIENCE = 1200.0  # seconds
PEER = "virtme-ng"


def commands() -> dict[str, list[str]]:
    """By contender. Makes what they need: a nested host sees the cache of this one, and cannot add to it."""
    packages = ["bubblewrap", "diod", "busybox-static", "file", "kmod", "qemu-system-x86"]
    debian.require_installed(packages, "corral boot host and its peer")
    kernel = host.get().kernel
    corral = [installed.corral(), "boot", "host", "--memory", MEMORY, "--", "true"]
    image = kernel.image if kernel.own else _package_of_its_own(kernel)
    vng = installed.in_a_venv(cache.folder("bench", PEER), PEER, "vng")
    path = f"PATH={os.path.dirname(vng)}:{os.environ['PATH']}"  # it calls its other half by name
    peer = ["env", path, vng, "--run", image, "--user", "root", "--cpus", "1", "--memory", MEMORY, "--", "true"]
    subprocess.run([*peer[:-2], "--dry-run"], check=True, stdout=subprocess.DEVNULL)  # makes its list of the modules
    return {"Corral": corral, PEER: ["script", "--quiet", "--return", "--command", shlex.join(peer), "/dev/null"]}


def _package_of_its_own(kernel: host.HostKernel) -> str:
    """The image in a copy of the package that the peer may write to: it finds the modules from there."""
    about = os.stat(kernel.image)
    target = cache.folder("bench", f"host_{kernel.release}_{sources.digest(f'{about.st_mtime_ns}'.encode())}")
    with cache.making(target) as unfinished:
        if unfinished:
            shutil.copytree(kernel.modules, os.path.join(unfinished, "lib", "modules", kernel.release), symlinks=True)
            os.mkdir(os.path.join(unfinished, "boot"))
            shutil.copy(kernel.image, os.path.join(unfinished, "boot", f"vmlinuz-{kernel.release}"))
    return os.path.join(target, "boot", f"vmlinuz-{kernel.release}")


def against_peer(contenders: dict[str, list[str]]) -> Samples:
    """On hardware KVM."""
    environment = installed.environment()
    return interleaved({name: partial(seconds, words, environment) for name, words in contenders.items()}, ROUNDS)


def main() -> bool:
    contenders = commands()
    if host_kind() is Kind.HARDWARE:
        samples = against_peer(contenders)
    else:
        inside = {name: in_one_root(words) for name, words in contenders.items()}
        samples = nested.run("host", inside, timeout=PATIENCE)
    medians = report("a guest like its host, process start to end", samples, PEER, "s")
    return verdict(f"Corral / {PEER}", medians["Corral"] / medians[PEER], 1)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(against_peer(json.loads(sys.argv[1]))))
    else:
        sys.exit(not main())
