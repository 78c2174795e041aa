"""Payloads on hardware KVM: Xen, which is a Multiboot kernel; iPXE and GRUB, which need a BIOS; and a cloud-init disk
in the distribution's kernel."""

from __future__ import annotations

import gzip
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from corral.errors import HostError
from corral.guests import cache, debian, initramfs, kernel, parameters, sources
from tests.nested.host import NestedHost
from tests.nested.test_acpi import with_modules
from tests.support import grub_disk, root_image

CORRAL = [sys.executable, "-m", "corral"]
XEN = "xen-hypervisor-4.17-amd64"


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """In the cache, where a nested host sees it."""
    os.makedirs(cache.folder("nested"), exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache.folder("nested"), prefix="payloads-") as path:
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


@pytest.fixture(scope="module")
def xen() -> str:
    """Unpacked, in the cache, where a nested host sees it."""
    try:
        (packed,) = (Path(debian.fetch(XEN)) / "boot").glob("xen-*.gz")
    except HostError as error:
        pytest.skip(str(error))
    content = gzip.decompress(packed.read_bytes())
    target = cache.folder("nested", f"xen_{sources.digest(content)}")
    with cache.making(target) as unfinished:
        if unfinished:
            (Path(unfinished) / "xen").write_bytes(content)
    return str(Path(target) / "xen")


def test_xen(host: NestedHost, xen: str) -> None:
    """With a module it gets as far as its first look at a real-time clock."""
    words = [xen, "--protocol", "multiboot2", "--append", "_ no-real-mode com1=115200 console=com1 noreboot"]
    words += ["--module", f"{kernel.get('stock').path}=words", "--acpi", "on", "--timeout", "10"]
    done = host.run([*CORRAL, "boot", *words], timeout=300)
    assert done.status == 124
    assert "(XEN) Bootloader: Corral" in done.stdout
    assert "(XEN) Command line: no-real-mode" in done.stdout
    assert "dom0 kernel not specified" not in done.stdout
    assert "(XEN) System RAM: 511MB" in done.stdout


def test_ipxe(host: NestedHost) -> None:
    """It needs a BIOS, gets one unasked, and takes its first script from its command line."""
    program = Path(debian.fetch("ipxe")) / "boot" / "ipxe.lkrn"
    done = host.run([*CORRAL, "boot", str(program), "--append", "echo from a script && reboot"], timeout=300)
    assert done.status == 0, done.stdout + done.stderr
    assert "iPXE initialising devices" in done.stdout
    assert "from a scrip" in done.stdout  # the BIOS keeps a letter back, which the reset makes it forget
    assert "so it gets one: SeaBIOS" in done.stderr


@pytest.fixture(scope="module")
def grub(folder: Path) -> Path:
    command = parameters.for_command(["uname -r; exit 7"])  # nothing is typed: a BIOS would take it
    return grub_disk.make(folder / "grub", Path(kernel.get("stock").path), Path(initramfs.path()), command)


def test_a_disk_with_grub(host: NestedHost, grub: Path) -> None:
    """A whole PC's way: BIOS, boot loader, the distribution's kernel by its real-mode entry, a command."""
    words = ["--bios", "--disk", f"{grub},snapshot=on", "--cpus", "2", "--timeout", "240"]
    done = host.run([*CORRAL, "boot", *words], timeout=300)
    assert "GRUB loading" in done.stdout, done.stdout + done.stderr
    assert "-cloud-amd64" in done.stdout
    assert done.status == 7


def test_any_kernel_and_any_disk(host: NestedHost, stranger: str, partitioned: str) -> None:
    """The partition, its file system and how the kernel hears of its disks are found, not named; cloud-init's comes
    last."""
    host.run(["sh", "-c", f"cp {partitioned} /tmp/disk"])
    script = "mount\ncat /proc/cmdline\necho volume $(head -c 32774 /dev/vdb | tail -c 5)\n"
    script += "echo x >/dev/vdb || echo read-only\n"
    line = f'printf %s "$0" | {" ".join(CORRAL)} boot {stranger} --disk /tmp/disk --hostname web-1 --timeout 240'
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


def test_a_cloud_init_disk_is_mounted_by_the_distributions_kernel(host: NestedHost) -> None:
    """By its own driver of ISO 9660; the modules are what a cloud image's initramfs has."""
    stock = kernel.get("stock")
    archive, modules = with_modules(stock, ["virtio_mmio", "virtio_blk", "isofs"])
    config = "#cloud-config\\nruncmd: [date]\\n"
    key = "ssh-ed25519 AAAAC3Nz me"
    host.run(["sh", "-c", f"printf '{config}' > /tmp/user-data; echo '{key}' > /tmp/key.pub"])
    script = "".join(f"insmod /modules/{module}\n" for module in modules)
    script += "mkdir /mnt; mount -t iso9660 /dev/vda /mnt; ls -l /mnt; cat /mnt/*\n"
    words = "--cloud-init /tmp/user-data --hostname web-1 --ssh-key /tmp/key.pub"
    line = f'printf %s "$0" | {" ".join(CORRAL)} boot {stock.path} --initrd {archive} {words} --timeout 240'
    done = host.run(["sh", "-c", line, script], timeout=300)
    output = done.stdout.replace("\r", "")
    assert done.status == 0, output + done.stderr
    assert "-r--r--r--" in output
    assert 'local-hostname: "web-1"\npublic-keys:\n  - "ssh-ed25519 AAAAC3Nz me"\n' in output
    assert "#cloud-config\nruncmd: [date]\n" in output
