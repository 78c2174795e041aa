"""Payloads on hardware KVM: Xen, which is a Multiboot kernel; iPXE and GRUB, which need a BIOS."""

from __future__ import annotations

import gzip
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from corral.guests import bios, cache, initramfs, kernel, parameters, sources
from tests.nested.host import NestedHost
from tests.support import grub_disk, packages

CORRAL = [sys.executable, "-m", "corral"]
XEN = "xen-system-amd64"  # depends on today's hypervisor


@pytest.fixture(scope="module", autouse=True)
def made_outside() -> None:
    """What takes a network or a compiler; a nested host sees the cache, and cannot add to it."""
    initramfs.path()
    bios.get()
    kernel.get("stock")


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """In the cache, where a nested host sees it."""
    os.makedirs(cache.folder("nested"), exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache.folder("nested"), prefix="payloads-") as path:
        os.chmod(path, 0o755)
        yield Path(path)


@pytest.fixture(scope="module")
def xen() -> str:
    """Unpacked, in the cache, where a nested host sees it."""
    packed = packages.file(packages.dependency(XEN, "xen-hypervisor-"), "xen-*.gz")
    content = gzip.decompress(Path(packed).read_bytes())
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
    program = packages.file("ipxe", "ipxe.lkrn")
    done = host.run([*CORRAL, "boot", program, "--append", "echo from a script && reboot"], timeout=300)
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
