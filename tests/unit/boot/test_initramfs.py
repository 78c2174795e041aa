"""The initrd: where it goes, and which ones are refused before a guest panics over them."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import random
import re
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from corral import boot
from corral.arch.x86_64 import layout
from corral.arch.x86_64.boot_params import BootParams
from corral.boot.ram import free_windows
from corral.errors import BootError
from corral.memory import GuestMemory
from tests.support import kernels

MIB = 1 << 20
GIB = 1 << 30

Save = Callable[[bytes], Path]

FILES = [("init", b"#!/bin/sh\n"), ("bin/busybox", random.Random(3).randbytes(20_000)), ("etc/empty", b"")]
CPIO = kernels.cpio(FILES)


def zstd_of_zeros(size: int) -> bytes:
    """A frame of RLE blocks: four bytes for each 128 KiB."""
    block = (1 | 1 << 1 | (128 << 10) << 3).to_bytes(3, "little") + b"\0"
    more = ((1 << 1) | (128 << 10) << 3).to_bytes(3, "little") + b"\0"
    return b"\x28\xb5\x2f\xfd\x00\x58" + more * (size >> 17) + block


def place(save: Save, memory: GuestMemory, initrd: Path, kernel: bytes | None = None) -> tuple[int, int]:
    """(address, size) as the zero page tells the kernel."""
    with boot.open_kernel(save(kernel or kernels.vmlinux())) as opened:
        opened.load(memory, b"", initrd)
    params = BootParams(memory.read(layout.ZERO_PAGE, 4096))
    address = params.ext_ramdisk_image << 32 | params.ramdisk_image
    return address, params.ext_ramdisk_size << 32 | params.ramdisk_size


def refuse(save: Save, memory: GuestMemory, initrd: Path | str, kernel: bytes | None = None) -> str:
    with pytest.raises(BootError) as caught, boot.open_kernel(save(kernel or kernels.vmlinux())) as opened:
        opened.load(memory, b"", initrd)
    message = str(caught.value)
    assert message.isprintable()
    assert re.fullmatch(r"initrd .*: .*; .*", message), "the initrd's name, what is wrong, what to do"
    return message


GOOD = {
    "cpio": CPIO,
    "cpio with checksums": CPIO.replace(b"070701", b"070702"),
    "zeros before": bytes(512) + CPIO,
    "zeros behind": CPIO + bytes(1000),
    "two archives": CPIO + bytes(512) + kernels.cpio(),
    "microcode, then gzip": kernels.cpio() + bytes(512) + gzip.compress(CPIO),
    "microcode, then zstd": kernels.cpio() + kernels.zstd(CPIO),
    "gzip": gzip.compress(CPIO),
    "gzip, padded": gzip.compress(CPIO) + bytes(300),
    "two of gzip": gzip.compress(CPIO) + gzip.compress(CPIO),
    "bzip2": bz2.compress(CPIO),
    "xz": kernels.xz_bcj(CPIO),
    "xz, padded": kernels.xz_bcj(CPIO) + bytes(4),
    "xz, then gzip": kernels.xz_bcj(CPIO) + gzip.compress(CPIO),
    "lzma": lzma.compress(CPIO, lzma.FORMAT_ALONE),
    "lz4": kernels.lz4_legacy(CPIO),
    "zstd": kernels.zstd(CPIO),
    "zstd of zeros": zstd_of_zeros(1 << 30),
    "lzop": b"\x89LZO\0\r\n\x1a\n" + bytes(100),
    "bootconfig behind": CPIO + b"a=1\0" + (4).to_bytes(4, "little") + bytes(4) + b"#BOOTCONFIG\n",
    "ext2": bytes(0x438) + b"\x53\xef" + bytes(5000),
    "squashfs": b"hsqs" + bytes(5000),
    "romfs": b"-rom1fs-" + bytes(1000),
    "compressed ext2": gzip.compress(b"\1" * 0x438 + b"\x53\xef" + bytes(5000)),
    "no content": kernels.cpio([]),
}

BAD = {
    "empty": (b"", "is empty"),
    "zeros": (bytes(5000), "nothing but zeros"),
    "random": (random.Random(4).randbytes(5000), "in no format that is known; name an initramfs"),
    "text": (b"root=/dev/vda\n", "a text file; name an initramfs"),
    "a kernel": (kernels.bzimage(kernels.payload(kernels.vmlinux())), "is a bzImage; name an initramfs"),
    "a vmlinux": (kernels.vmlinux(), "is a program or a vmlinux; name an initramfs"),
    "old cpio": (b"070707" + b"0" * 200, "a cpio archive in an old format; name an initramfs"),
    "qcow2": (b"QFI\xfb" + bytes(1000), "qcow2"),
    "cut in a header": (CPIO[:60], "is cut off"),
    "cut in a name": (CPIO[:112], "is cut off"),
    "cut in a file": (CPIO[:1000], "is cut off"),
    "cut before the trailer": (kernels.cpio(FILES, trailer=False), "is cut off"),
    "damaged number": (CPIO[:54] + b"0000zzzz" + CPIO[62:], "a damaged cpio header at 0x0"),
    "negative number": (CPIO[:54] + b"-0000070" + CPIO[62:], "a damaged cpio header"),
    "number with a space": (CPIO[:94] + b" 0000005" + CPIO[102:], "a damaged cpio header"),
    "huge number": (CPIO[:54] + b"ffffffff" + CPIO[62:], "is cut off"),
    "huge name": (CPIO[:94] + b"ffffffff" + CPIO[102:], "is cut off"),
    "junk between": (CPIO + b"junk" + CPIO, "belong to no archive"),
    "cut gzip": (gzip.compress(CPIO)[:-5000], "ends too early"),
    "cut bzip2": (bz2.compress(CPIO)[:-5000], "ends too early"),
    "cut xz": (lzma.compress(CPIO)[:-5000], "ends too early"),
    "cut lzma": (lzma.compress(CPIO, lzma.FORMAT_ALONE)[:-5000], "ends too early"),
    "cut zstd": (kernels.zstd(CPIO)[:-5000], "is cut off"),
    "zstd magic": (b"\x28\xb5\x2f\xfd", "is cut off"),
    "reserved zstd block": (b"\x28\xb5\x2f\xfd\x00\x58\x07\0\0" + bytes(10), "damaged zstd block"),
    "cut lz4": (kernels.lz4_legacy(CPIO)[:-5000], "is cut off"),
    "damaged gzip": (
        gzip.compress(CPIO)[:3000] + b"\xff" * 3000 + gzip.compress(CPIO)[6000:],
        "damaged gzip data",
    ),
    "gzip of something else": (gzip.compress(b"hello" * 100), "what is in it is no initramfs"),
    "xz cut, of something else": (lzma.compress(b"hello" * 100) + b"more", "what is in it is no initramfs"),
}


@pytest.mark.parametrize("case", GOOD)
def test_good_ones(save: Save, memory: GuestMemory, case: str) -> None:
    data = GOOD[case]
    address, size = place(save, memory, save(data))
    assert memory.read(address, size) == data


@pytest.mark.parametrize("case", BAD)
def test_bad_ones(save: Save, memory: GuestMemory, case: str) -> None:
    data, message = BAD[case]
    assert message in refuse(save, memory, save(data))


def test_a_tar_archive_is_not_an_initramfs(save: Save, memory: GuestMemory) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("init"), io.BytesIO())
    assert "a tar archive" in refuse(save, memory, save(buffer.getvalue()))
    packed = save(gzip.compress(buffer.getvalue()))
    assert "no initramfs" in refuse(save, memory, packed)


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress])
def test_a_bomb_is_not_unpacked_to_its_end(save: Save, memory: GuestMemory, pack: Callable[[bytes], bytes]) -> None:
    """What the check unpacks is bounded: it does not even see that the end is missing."""
    bomb = pack(kernels.cpio([("init", bytes(50 * MIB))]))[:-20]
    assert place(save, memory, save(bomb))[1] == len(bomb)


def test_it_ends_at_the_end_of_ram(save: Save, memory: GuestMemory) -> None:
    address, size = place(save, memory, save(CPIO))
    assert address % layout.PAGE_SIZE == 0
    assert address + size <= 64 * MIB < address + size + layout.PAGE_SIZE


def test_it_stays_below_initrd_addr_max(save: Save, memory: GuestMemory) -> None:
    payload = kernels.payload(kernels.vmlinux())
    address, size = place(save, memory, save(CPIO), kernels.bzimage(payload, initrd_addr_max=32 * MIB - 1))
    assert address + size <= 32 * MIB < address + size + layout.PAGE_SIZE


def test_it_stays_below_2_gib_in_a_large_guest(save: Save) -> None:
    memory = GuestMemory(6 * GIB)
    try:
        address, size = place(save, memory, save(CPIO))
        assert address + size <= 2 * GIB < address + size + layout.PAGE_SIZE
    finally:
        memory.close()


def test_it_goes_above_4_gib_only_if_it_must_and_may(save: Save) -> None:
    payload = kernels.payload(kernels.vmlinux())
    memory = GuestMemory(6 * GIB)
    try:
        narrow = kernels.bzimage(payload, initrd_addr_max=MIB, xloadflags=3)
        address, size = place(save, memory, save(CPIO), narrow)
        assert address + size <= 7 * GIB < address + size + layout.PAGE_SIZE
        assert memory.read(address, size) == CPIO
        narrow = kernels.bzimage(payload, initrd_addr_max=MIB, xloadflags=1)
        assert "has room for 0M" in refuse(save, memory, save(CPIO), narrow)
    finally:
        memory.close()


def test_it_does_not_overlap_the_kernel(save: Save, memory: GuestMemory) -> None:
    """init_size reaches to 1 MiB below the end of RAM: what is larger than that goes below the kernel."""
    payload = kernels.payload(kernels.vmlinux())
    bzimage = kernels.bzimage(payload, init_size=47 * MIB)
    large = kernels.cpio([("data", bytes(2 * MIB))])
    address, size = place(save, memory, save(CPIO), bzimage)
    assert address >= 63 * MIB
    address, size = place(save, memory, save(large), bzimage)
    assert address + size <= kernels.LOAD_ADDRESS


def test_what_does_not_fit_says_how_much_would(save: Save, memory: GuestMemory) -> None:
    initrd = save(b"")
    os.truncate(initrd, 100 * MIB)
    message = refuse(save, memory, initrd)
    assert "is 100M, the guest has room for 47M of its 64M; give it" in message
    needed = int(re.search(r"give it (\d+)M", message)[1])  # type: ignore[index]
    larger = GuestMemory(needed * MIB)
    try:
        assert "nothing but zeros" in refuse(save, larger, initrd), "it fits now"
    finally:
        larger.close()


def test_a_tebibyte(save: Save, memory: GuestMemory) -> None:
    initrd = save(b"")
    os.truncate(initrd, 1 << 40)
    assert "with --memory, or use a smaller initrd" in refuse(save, memory, initrd)


@pytest.mark.parametrize(
    ("name", "message"),
    [("missing", "no such file"), ("directory", "a directory"), ("fifo", "a pipe"), ("/dev/zero", "a character")],
)
def test_what_is_no_file_to_read(save: Save, memory: GuestMemory, tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "fifo")
    assert message in refuse(save, memory, str(tmp_path / name))


@pytest.mark.parametrize(
    ("taken", "low", "high", "expected"),
    [
        ([], 0, 1 << 64, [(4 * GIB, 5 * GIB), (0, 3 * GIB)]),
        ([(16, 32)], 0, 100, [(32, 100), (0, 16)]),
        ([(0, 100)], 0, 100, []),
        ([(50, 200)], 0, 100, [(0, 50)]),
        ([(16, 32), (60, 70)], 20, 100, [(70, 100), (32, 60)]),
        ([(5 * GIB, 6 * GIB)], 4 * GIB, 1 << 64, [(4 * GIB, 5 * GIB)]),
    ],
)
def test_free_windows(taken: list[tuple[int, int]], low: int, high: int, expected: list[tuple[int, int]]) -> None:
    memory = GuestMemory(4 * GIB)
    try:
        assert list(free_windows(memory, taken, low, high)) == expected
    finally:
        memory.close()
