"""The workloads in a guest, on this host's KVM: on a pagetable KVM those whose time it does not multiply."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from corral.compare import metric_lines, programs
from corral.files import cpio
from corral.guests import initramfs, kernel
from corral.kvm.system import Kind, host_kind
from tests.unit.compare.test_workloads import METRICS


def test_in_a_guest(tmp_path: Path) -> None:
    names = ["integer", "linpack"]
    if host_kind() is Kind.HARDWARE:
        names.append("latency")  # its 32 MB are eight thousand page faults, 3 ms each where the kernel is interpreted
    added = b"".join(
        cpio.entry(f"bin/{name}", 0o100755, programs.binary(name).read_bytes()) for name in [*names, "disk"]
    )
    initrd, disk = tmp_path / "initramfs", tmp_path / "disk"
    initrd.write_bytes(Path(initramfs.path()).read_bytes() + added + cpio.trailer())
    with disk.open("wb") as file:
        os.truncate(file.fileno(), 1 << 20)
    line = "; ".join(["set -e", *(f"{name} 0.1" for name in names), "disk /dev/vda 0.1 1"])
    argv = [sys.executable, "-m", "corral", "boot", kernel.get("small").path, "--initrd", str(initrd)]
    argv += ["--memory", "256M", "--disk", f"{disk},format=raw", "--root", "none", "--timeout", "280", "--", line]
    done = subprocess.run(argv, capture_output=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    found = metric_lines.parse_all(done.stdout.replace(b"\r", b"").splitlines())
    for name in [*names, "disk"]:
        assert set(found) >= METRICS[name]
    assert found["residual"][0] < 16
