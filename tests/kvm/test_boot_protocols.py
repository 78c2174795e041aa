"""Every boot protocol and every compression, run: miniature kernels that print what they were given and reset."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from corral.backends.console import Console
from corral.boot import Mode
from corral.config import FlatEntry, MachineConfig
from corral.core.exits import Cause, Over
from corral.machine import Machine
from tests.support import kernels

MIB = 1 << 20
CMDLINE = "console=ttyS0 quiet"
INITRD = kernels.cpio()
# The guests print their command line, then the first six bytes of their initrd.
EXPECTED = CMDLINE.encode() + INITRD[:6]


def run(
    kernel: Path, initrd: Path | None, memory: int = 64 * MIB, cmdline: str = CMDLINE, flat: FlatEntry | None = None
) -> bytes:
    """What the guest prints before it resets the machine."""
    config = MachineConfig(str(kernel), str(initrd) if initrd else None, cmdline, memory, flat=flat)
    reader, writer = os.pipe()
    try:
        with Machine(config) as machine:
            outcome = machine.run(Console(output=writer), timeout=20)
    finally:
        os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        printed = stream.read()
    assert (outcome.over, outcome.cause) == (Over.ENDED, Cause.RESET)
    return printed


@pytest.fixture
def initrd(tmp_path: Path) -> Path:
    path = tmp_path / "initrd"
    path.write_bytes(INITRD)
    return path


@pytest.mark.parametrize("compression", kernels.COMPRESSIONS)
def test_bzimage(tmp_path: Path, initrd: Path, compression: str) -> None:
    path = tmp_path / "bzImage"
    path.write_bytes(kernels.bzimage(kernels.payload(kernels.vmlinux(), compression)))
    assert run(path, initrd) == EXPECTED


def test_bzimage_with_lzo(tmp_path: Path, initrd: Path) -> None:
    lzo = pytest.importorskip("lzo", reason="the optional package python-lzo is not installed")
    vmlinux = kernels.vmlinux()
    packed = kernels.lzop(vmlinux, lambda block: bytes(lzo.compress(block, 9, False)))
    path = tmp_path / "bzImage"
    path.write_bytes(kernels.bzimage(packed + len(vmlinux).to_bytes(4, "little")))
    assert run(path, initrd) == EXPECTED


def test_vmlinux(tmp_path: Path, initrd: Path) -> None:
    path = tmp_path / "vmlinux"
    path.write_bytes(kernels.vmlinux())
    assert run(path, initrd) == EXPECTED


def test_without_an_initrd(tmp_path: Path) -> None:
    path = tmp_path / "vmlinux"
    path.write_bytes(kernels.vmlinux())
    assert run(path, None) == CMDLINE.encode()


@pytest.mark.parametrize("memory", [19 * MIB, 3 << 30, 6 << 30])
def test_memory_sizes(tmp_path: Path, initrd: Path, memory: int) -> None:
    path = tmp_path / "vmlinux"
    path.write_bytes(kernels.vmlinux())
    assert run(path, initrd, memory) == EXPECTED


@pytest.mark.parametrize("bits", [32, 64])
def test_pvh(tmp_path: Path, initrd: Path, bits: int) -> None:
    path = tmp_path / "pvh"
    path.write_bytes(kernels.pvh_guest(bits))
    assert run(path, initrd) == EXPECTED


# mov dx, 0x3f8 (in 16-bit code without the prefix); mov al, '!'; out dx, al; mov al, 0xfe; out 0x64, al; hlt
SHOUT = bytes.fromhex("baf803b021eeb0fee664f4")


@pytest.mark.parametrize(
    ("mode", "address", "entry"),
    [
        (Mode.REAL, 0x7C00, 0x7C00),
        (Mode.REAL, 0x8000, 0x8009),
        (Mode.PROTECTED, 0x200000, 0x200003),
        (Mode.LONG, 0x200000, 0x200003),
    ],
)
def test_flat(tmp_path: Path, mode: Mode, address: int, entry: int) -> None:
    prefix = b"" if mode is Mode.REAL else b"\x66"
    path = tmp_path / "flat"
    path.write_bytes(b"\xf4" * (entry - address) + prefix + SHOUT)
    assert run(path, None, cmdline="", flat=FlatEntry(mode, address, entry)) == b"!"
