"""A kernel and a disk that nobody has described: what is on them is found. And cloud-init's disk in the distribution's
kernel."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from corral.guests import cache, initramfs, kernel
from tests.nested.host import NestedHost
from tests.support import root_image, stock_kernels
from tests.support.this_host import ThisHost

Host = ThisHost | NestedHost  # tests/nested/test_any_disk.py has these tests too
CORRAL = [sys.executable, "-m", "corral"]


@pytest.fixture(scope="module", autouse=True)
def made_outside() -> None:
    """What takes a network or a compiler; an emulated host sees the cache, and cannot add to it."""
    initramfs.path()
    for name in ("small", "stock"):
        kernel.get(name)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """In the cache, where an emulated host sees it."""
    os.makedirs(cache.folder("nested"), exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache.folder("nested"), prefix="disks-") as path:
        os.chmod(path, 0o755)
        yield Path(path)


@pytest.fixture(scope="module")
def stranger(folder: Path) -> str:
    """Corral's small kernel, where nobody knows it for that, and its configuration beside it."""
    found = Path(kernel.get("small").path)
    shutil.copy(found.parent / "config", folder / "config-stranger")
    return str(shutil.copy(found, folder / "vmlinux-stranger"))


@pytest.fixture(scope="module")
def partitioned(folder: Path) -> str:
    return str(root_image.partitioned(folder / "disk", root_image.make(folder / "system")))


def test_any_kernel_and_any_disk(host: Host, stranger: str, partitioned: str) -> None:
    """The partition, its file system and how the kernel hears of its disks are found, not named; cloud-init's comes
    last."""
    host.run(["sh", "-c", f"cp {partitioned} {host.own}/disk"])
    script = "mount\ncat /proc/cmdline\necho volume $(head -c 32774 /dev/vdb | tail -c 5)\n"
    script += "echo x >/dev/vdb || echo read-only\n"
    line = f'printf %s "$0" | {" ".join(CORRAL)} boot {stranger} --disk {host.own}/disk --hostname web-1 --timeout 240'
    done = host.run(["sh", "-c", line, script], timeout=300)
    output = done.stdout.replace("\r", "")
    assert done.status == 0, output + done.stderr
    assert done.stderr == ""
    assert "/dev/root on / type ext4" in output
    assert " root=/dev/vda2 rw" in output
    assert "acpi=off" in output
    assert output.count("virtio_mmio.device=") == 2
    assert "\nvolume CD001\n" in output
    assert "\nread-only\n" in output


def test_a_cloud_init_disk_is_mounted_by_the_distributions_kernel(host: Host) -> None:
    """By its own driver of ISO 9660; the modules are what a cloud image's initramfs has."""
    stock = kernel.get("stock")
    archive, modules = stock_kernels.with_modules(stock, ["virtio_mmio", "virtio_blk", "isofs"])
    config = "#cloud-config\\nruncmd: [date]\\n"
    key = "ssh-ed25519 AAAAC3Nz me"
    host.run(["sh", "-c", f"printf '{config}' > {host.own}/user-data; echo '{key}' > {host.own}/key.pub"])
    script = "".join(f"insmod /modules/{module}\n" for module in modules)
    script += "mkdir /mnt; mount -t iso9660 /dev/vda /mnt; ls -l /mnt; cat /mnt/*\n"
    words = f"--cloud-init {host.own}/user-data --hostname web-1 --ssh-key {host.own}/key.pub"
    line = f'printf %s "$0" | {" ".join(CORRAL)} boot {stock.path} --initrd {archive} {words} --timeout 240'
    done = host.run(["sh", "-c", line, script], timeout=300)
    output = done.stdout.replace("\r", "")
    assert done.status == 0, output + done.stderr
    assert "-r--r--r--" in output
    assert 'local-hostname: "web-1"\npublic-keys:\n  - "ssh-ed25519 AAAAC3Nz me"\n' in output
    assert "#cloud-config\nruncmd: [date]\n" in output
