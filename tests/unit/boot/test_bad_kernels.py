"""Kernels that are broken, foreign or hostile: a line each, with the file, what is wrong and what to do."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import random
import re
import socket
import struct
import sys
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from corral import boot
from corral.errors import BootError, HostError
from corral.memory import GuestMemory
from tests.support import kernels
from tests.support.kernels import EM_386, LOAD_ADDRESS, Elf, Segment, text_segment

MIB = 1 << 20
GIB = 1 << 30

Save = Callable[[bytes], Path]

GOOD_VMLINUX = kernels.vmlinux()
GOOD = kernels.bzimage(kernels.payload(GOOD_VMLINUX))


def refuse(path: Path | str, memory: GuestMemory | None = None, cmdline: bytes = b"") -> str:
    """The message that opening (and loading) the kernel ends with, found to be one line that names it."""
    with pytest.raises(BootError) as caught, boot.open_kernel(path) as kernel:  # noqa: PT012 (either may raise)
        assert memory is not None, "the kernel was not refused when it was opened"
        kernel.load(memory, cmdline)
    message = str(caught.value)
    assert message.isprintable()
    assert Path(path).name in message or repr(str(path)) in message
    assert re.fullmatch(r"kernel .*: .*; .*", message), "what is wrong, then what to do"
    return message


def at(offset: int, content: bytes, size: int = 40_000) -> bytes:
    return bytes(offset) + content + b"\x01" * (size - offset - len(content))


def tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("vmlinux"), io.BytesIO())
    return buffer.getvalue()


def bootable_iso(code: bytes) -> bytes:
    return (code.ljust(510, b"\0") + b"\x55\xaa").ljust(0x8001, b"\0") + b"CD001" + bytes(4096)


STRANGERS = {
    "ARM64 image": (at(0x38, b"ARM\x64"), "an ARM64 kernel image; use one for x86-64"),
    "ARM64 image with EFI stub": (b"MZ" + at(0x36, b"ARM\x64"), "an ARM64 kernel"),
    "RISC-V image": (at(0x38, b"RSC\x05"), "a RISC-V kernel"),
    "ARM zImage": (at(0x24, b"\x18\x28\x6f\x01"), "32-bit ARM"),
    "uImage": (b"\x27\x05\x19\x56" + bytes(100), "U-Boot"),
    "device tree": (b"\xd0\x0d\xfe\xed" + bytes(100), "device tree"),
    "ISO": (at(0x8001, b"CD001"), "an ISO image; copy the kernel out"),
    "ISO for sticks, without code": (bootable_iso(b""), "an ISO image; copy the kernel out"),
    "ISO for sticks": (
        bootable_iso(b"\x33\xed\x90\x90"),
        "an ISO image with a boot sector; boot it as a PC does: corral boot --bios --disk FILE,ro",
    ),
    "Debian package": (b"!<arch>\ndebian-binary   17", "a Debian package; unpack it: dpkg-deb -x"),
    "static library": (b"!<arch>\nfoo.o/", "static library"),
    "RPM": (b"\xed\xab\xee\xdb\x03", "an RPM package; unpack it: rpm2cpio"),
    "zip": (b"PK\x03\x04" + bytes(40), "a zip archive"),
    "tar": (tar(), "a tar archive"),
    "tar.gz": (gzip.compress(tar()), "tar archive compressed with gzip"),
    "qcow2": (b"QFI\xfb\0\0\0\3" + bytes(500), "qcow2"),
    "GPT disk": (at(510, b"\x55\xaaEFI PART"), "GPT"),
    "MBR disk": (at(510, b"\x55\xaa"), "boot sector or a disk image"),
    "ext4": (at(0x438, b"\x53\xef"), "ext2/3/4"),
    "squashfs": (b"hsqs" + bytes(100), "SquashFS"),
    "EFI program": (at(0, b"MZ"), "an EFI or Windows program"),
    "script": (b"#!/bin/sh\nexec qemu\n", "a script"),
    "web page": (b"\n<!DOCTYPE html><html>404</html>", "web page"),
    "text": ("Grüße\n".encode(), "a text file"),
    "LFS pointer": (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    "cpio": (kernels.cpio(), "--initrd"),
    "cpio.gz": (gzip.compress(kernels.cpio()), "--initrd"),
    "vmlinux.gz": (gzip.compress(GOOD_VMLINUX), "unpack it first: gunzip"),
    "random gzip": (gzip.compress(b"hello"), "compressed with gzip; if a kernel is in it"),
    "broken gzip": (b"\x1f\x8b" + b"\xff" * 100, "compressed with gzip"),
    "xz": (lzma.compress(b"hello"), "compressed with xz"),
    "bzip2": (bz2.compress(b"hello"), "compressed with bzip2"),
    "zstd": (kernels.zstd(b"hello"), "compressed with zstd"),
    "lz4": (kernels.lz4_legacy(b"hello"), "compressed with lz4"),
    "zeros": (bytes(100_000), "nothing but zeros"),
    "one byte": (b"\xff", "is only 1 bytes long"),
    "random": (random.Random(1).randbytes(100_000), "in no format that is known; name a bzImage"),
}

ELFS = {
    "cut off in its header": (GOOD_VMLINUX[:40], "cut off within its ELF header"),
    "cut off in its ident": (GOOD_VMLINUX[:5], "cut off within its ELF header"),
    "cut off in its headers": (GOOD_VMLINUX[:100], "program headers behind its end"),
    "cut off in a segment": (GOOD_VMLINUX[:-1], "ends behind the end of the file; it is cut off"),
    "ARM64": (kernels.vmlinux(machine=183), "built for ARM64; Corral runs x86-64"),
    "RISC-V": (kernels.vmlinux(machine=243), "built for RISC-V"),
    "S/390": (kernels.vmlinux(machine=22, order=2), "built for S/390"),
    "big-endian": (kernels.vmlinux(machine=0x1234, order=2), "a big-endian machine"),
    "unheard of": (kernels.vmlinux(machine=0x1234), "ELF machine 4660"),
    "bad class": (GOOD_VMLINUX[:4] + b"\x07" + GOOD_VMLINUX[5:], "damaged ELF header"),
    "i386": (
        Elf((Segment(physical=MIB, data=b"\xf4", virtual=0xC0100000),), MIB, 32, EM_386).build(),
        "a 32-bit kernel without a PVH entry",
    ),
    "kernel module": (kernels.vmlinux(type=1), "kernel module"),
    "core dump": (kernels.vmlinux(type=4), "a core dump"),
    "odd type": (kernels.vmlinux(type=0xFE00), "type 65024"),
    "program": (
        kernels.vmlinux(segments=(text_segment(), Segment(type=kernels.PT_INTERP, data=b"/lib/ld.so\0"))),
        "a program for user space",
    ),
    "static program": (
        kernels.vmlinux(segments=(text_segment(), Segment(type=kernels.PT_TLS, data=b"x"))),
        "a program for user space",
    ),
    "no program headers": (kernels.vmlinux(count=0), "no loadable segment"),
    "65535 program headers": (kernels.vmlinux(count=0xFFFF), "claims 65535 program headers"),
    "too many program headers": (kernels.vmlinux(count=129), "claims 129 program headers"),
    "odd program headers": (kernels.vmlinux(entry_size=32), "program headers of 32 bytes"),
    "empty program headers": (kernels.vmlinux(entry_size=0), "program headers of 0 bytes"),
    "headers far away": (kernels.vmlinux(table=1 << 40), "program headers behind its end"),
    "headers that wrap": (kernels.vmlinux(table=(1 << 64) - 8), "program headers behind its end"),
    "headers too far in": (
        GOOD_VMLINUX[:32] + struct.pack("<Q", 70_000) + GOOD_VMLINUX[40:] + bytes(80_000),
        "too far from its start",
    ),
    "segment past the end": (
        kernels.vmlinux(segments=(Segment(offset=1 << 20, file_size=16),)),
        "behind the end of the file",
    ),
    "segment offset that wraps": (
        kernels.vmlinux(segments=(Segment(offset=(1 << 64) - 8, file_size=16),)),
        "behind the end of the file",
    ),
    "huge segment of a small file": (
        kernels.vmlinux(segments=(Segment(file_size=1 << 62, memory_size=1 << 62),)),
        "behind the end of the file",
    ),
    "more in the file than in memory": (
        kernels.vmlinux(segments=(Segment(data=b"1234", memory_size=3),)),
        "more bytes in the file than in memory",
    ),
    "memory that wraps": (
        kernels.vmlinux(segments=(Segment(physical=(1 << 64) - 4096, data=b"1", memory_size=8192),)),
        "wraps around",
    ),
    "everything": (
        kernels.vmlinux(segments=(Segment(data=b"1", memory_size=(1 << 64) - 1),)),
        "wraps around",
    ),
    "over the zero page": (
        kernels.vmlinux(segments=(text_segment(), Segment(physical=0x7000, data=b"1"))),
        "below 1 MiB, where the boot structures are",
    ),
    "overlapping segments": (
        kernels.vmlinux(segments=(text_segment(), Segment(physical=LOAD_ADDRESS + 8, data=b"1"))),
        "overlap at 0x1000008",
    ),
    "twice the same": (kernels.vmlinux(segments=(text_segment(), text_segment())), "overlap"),
    "entry nowhere": (kernels.vmlinux(entry=0x1234), "entry point 0x1234 in no segment"),
    "entry behind": (kernels.vmlinux(entry=LOAD_ADDRESS + 3 * 4096), "in no segment"),
    "entry above 4 GiB": (
        kernels.vmlinux(segments=(Segment(physical=5 * GIB, data=b"1"),), entry=5 * GIB),
        "above 4 GiB",
    ),
    "PVH entry nowhere": (
        kernels.vmlinux(segments=(text_segment(), kernels.pvh_note(0x1000))),
        "PVH entry point 0x1000 in no segment",
    ),
    "PVH entry above 4 GiB": (
        kernels.vmlinux(segments=(text_segment(), kernels.pvh_note(1 << 40, 8))),
        "above 4 GiB",
    ),
}

HEADERS = {
    "just the boot flag and the magic": (GOOD[:0x206], "boot protocol 0.00"),
    "cut off in its setup code": (GOOD[:0x300], "is cut off"),
    "cut off in its payload": (GOOD[:-1], "is cut off"),
    "protocol 2.07": (kernels.bzimage(b"", version=0x207), "2.07: older than Linux 2.6.26, or no Linux"),
    "zImage": (kernels.bzimage(b"", loadflags=0), "older than"),
    "i386": (kernels.bzimage(kernels.payload(GOOD_VMLINUX), xloadflags=0), "a 32-bit kernel"),
    "no payload": (kernels.bzimage(b""), "no payload"),
    "payload far away": (
        kernels.bzimage(kernels.payload(GOOD_VMLINUX), payload_offset=0xFFFFFFFF),
        "is cut off",
    ),
    "payload too long": (
        kernels.bzimage(kernels.payload(GOOD_VMLINUX), payload_length=0xFFFFFFFF),
        "is cut off",
    ),
    "offset and length that wrap 32 bits": (
        kernels.bzimage(kernels.payload(GOOD_VMLINUX), payload_offset=0xFFFFFFF0, payload_length=0x20),
        "is cut off",
    ),
    "most setup sectors": (kernels.bzimage(kernels.payload(GOOD_VMLINUX), setup_sects=255), "is cut off"),
    "payload of another format": (kernels.bzimage(b"\x13\x37" * 100), "in no format that is known"),
    "payload of one byte": (kernels.bzimage(b"\x1f"), "in no format that is known"),
    "payload of a magic number": (kernels.bzimage(b"\x1f\x8b\x08\0"), "4 bytes, too short"),
    "claims 4 GiB": (kernels.bzimage(kernels.payload(GOOD_VMLINUX)[:-4] + b"\xff" * 4), "claims to unpack"),
    "claims more than its init_size": (
        kernels.bzimage(kernels.payload(GOOD_VMLINUX), init_size=100),
        "more than its init_size",
    ),
}


@pytest.mark.parametrize("case", STRANGERS)
def test_strangers(save: Save, case: str) -> None:
    data, message = STRANGERS[case]
    assert message in refuse(save(data))


@pytest.mark.parametrize("case", ELFS)
def test_elf_files(save: Save, case: str) -> None:
    data, message = ELFS[case]
    assert message in refuse(save(data))


@pytest.mark.parametrize("case", HEADERS)
def test_setup_headers(save: Save, case: str) -> None:
    data, message = HEADERS[case]
    assert message in refuse(save(data))


@pytest.mark.parametrize("case", [case for case in ELFS if "PVH" not in case])
def test_the_same_elf_files_as_payloads(save: Save, memory: GuestMemory, case: str) -> None:
    """A payload is looked at when it is loaded; only its notes are not, for a bzImage has no PVH entry."""
    data, _ = ELFS[case]
    assert "payload" in refuse(save(kernels.bzimage(kernels.payload(data))), memory)


@pytest.mark.parametrize("compression", [c for c in kernels.COMPRESSIONS if c != "none"])
@pytest.mark.parametrize("damage", ["cut", "flipped", "too short", "too long", "not ELF", "empty"])
def test_damaged_payloads(save: Save, memory: GuestMemory, compression: str, damage: str) -> None:
    content = GOOD_VMLINUX + random.Random(2).randbytes(50_000)
    packed = kernels.COMPRESSIONS[compression](content)
    size = len(content)
    if damage == "cut":
        packed = packed[: len(packed) // 2]
    elif damage == "flipped":
        middle = len(packed) // 2
        packed = packed[:middle] + bytes(byte ^ 0xFF for byte in packed[middle : middle + 64]) + packed[middle + 64 :]
        if compression in ("lz4", "zstd", "lzma"):
            # No checksum in these streams: what is damaged beside the segments goes unnoticed, so cut as well.
            packed = packed[:-1000]
    elif damage == "too short":
        size += 1
    elif damage == "too long":
        size -= 1
    elif damage == "not ELF":
        content = b"hello" * 100
        packed, size = kernels.COMPRESSIONS[compression](content), len(content)
    else:
        packed, size = kernels.COMPRESSIONS[compression](b""), 0
    if compression == "gzip":
        packed = packed[:-4]
    path = save(kernels.bzimage(packed + size.to_bytes(4, "little")))
    message = refuse(path, memory)
    assert "payload" in message or "data" in message


@pytest.mark.parametrize("compression", [c for c in kernels.COMPRESSIONS if c != "none"])
@pytest.mark.parametrize(
    ("claimed", "message"),
    [(300 * MIB, "no kernel is that large"), (len(GOOD_VMLINUX), "another size than it claims")],
    ids=["honest", "small"],
)
def test_decompression_bombs(save: Save, memory: GuestMemory, compression: str, claimed: int, message: str) -> None:
    bomb = kernels.COMPRESSIONS[compression](GOOD_VMLINUX + bytes(16 * MIB))
    if compression == "gzip":
        bomb = bomb[:-4]
    path = save(kernels.bzimage(bomb + claimed.to_bytes(4, "little"), init_size=max(claimed, 32 * MIB)))
    assert message in refuse(path, memory)


def test_a_payload_with_much_behind_its_kernel(save: Save, memory: GuestMemory) -> None:
    content = GOOD_VMLINUX + bytes(20 * MIB)
    path = save(kernels.bzimage(kernels.payload(content), init_size=32 * MIB))
    assert "a payload of 21M with a kernel of 1M in it" in refuse(path, memory)


def test_a_kernel_that_unpacks_to_more_than_the_guests_ram(save: Save, memory: GuestMemory) -> None:
    content = GOOD_VMLINUX + random.Random(1).randbytes(5 * MIB) + bytes(60 * MIB)
    path = save(kernels.bzimage(kernels.payload(content, "lz4"), version=0x209))
    assert "more than the guest's RAM; see --memory" in refuse(path, memory)


def test_a_kernel_that_unpacks_to_far_more_than_it_is(save: Save, memory: GuestMemory) -> None:
    path = save(kernels.bzimage(kernels.payload(GOOD_VMLINUX + bytes(50 * MIB), "zstd"), init_size=80 * MIB))
    assert "claims to unpack to 50 MiB from 1M, as no kernel does" in refuse(path, memory)


@pytest.mark.parametrize("compression", ["lzma", "xz"])
def test_dictionaries_larger_than_any_kernels(save: Save, memory: GuestMemory, compression: str) -> None:
    if compression == "lzma":
        packed = lzma.compress(GOOD_VMLINUX, lzma.FORMAT_ALONE)
        packed = packed[:1] + b"\0\0\xff\xff" + packed[5:]
    else:
        packed = with_largest_dictionary(lzma.compress(GOOD_VMLINUX))
    path = save(kernels.bzimage(packed + len(GOOD_VMLINUX).to_bytes(4, "little")))
    assert f"damaged {compression} data" in refuse(path, memory)


def with_largest_dictionary(stream: bytes) -> bytes:
    """The same xz stream, asking for a dictionary of 4 GiB in its block header."""
    header = bytearray(stream[12:24])
    assert header[0] == 2, "a block header of 12 bytes"
    assert header[2] == 0x21, "the filter is LZMA2"
    header[4] = 40
    header[8:12] = zlib.crc32(header[:8]).to_bytes(4, "little")
    return stream[:12] + bytes(header) + stream[24:]


def test_the_ram_that_a_kernel_needs(save: Save, memory: GuestMemory) -> None:
    bzimage = kernels.bzimage(kernels.payload(GOOD_VMLINUX), init_size=100 * MIB)
    assert "(its init_size) needs RAM" in refuse(save(bzimage), memory)
    vmlinux = kernels.vmlinux(segments=(Segment(data=b"1", memory_size=64 * MIB),))
    assert "the guest has 64M; give it 80M with --memory" in refuse(save(vmlinux), memory)
    segments = tuple(Segment(data=b"1", physical=at * MIB, virtual=at * MIB) for at in (70, 80, 99))
    several = kernels.vmlinux(segments=segments, entry=80 * MIB)
    assert "give it 100M with --memory" in refuse(save(several), memory), "at once, not segment by segment"
    hole = kernels.vmlinux(segments=(Segment(data=b"1", physical=GIB * 3),), entry=GIB * 3)
    assert "where devices are" in refuse(save(hole), memory)
    nowhere = kernels.vmlinux(segments=(text_segment(), Segment(data=b"1", physical=1 << 60)))
    assert "more than any guest has" in refuse(save(nowhere), memory)


def test_a_missing_library_is_named(save: Save, memory: GuestMemory, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = kernels.lzop(GOOD_VMLINUX, lambda block: block) + len(GOOD_VMLINUX).to_bytes(4, "little")
    monkeypatch.setitem(sys.modules, "lzo", None)
    kernel = boot.open_kernel(save(kernels.bzimage(packed)))
    with kernel, pytest.raises(HostError, match="pip install python-lzo") as caught:
        kernel.load(memory)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(("module", "compression"), [("lz4.block", "lz4"), ("zstandard", "zstd")])
def test_a_missing_library_of_our_own_is_named_too(
    save: Save, memory: GuestMemory, monkeypatch: pytest.MonkeyPatch, module: str, compression: str
) -> None:
    if module == "zstandard" and sys.version_info >= (3, 14):
        pytest.skip("Python 3.14 has zstd in its standard library")
    path = save(kernels.bzimage(kernels.payload(GOOD_VMLINUX, compression)))
    monkeypatch.setitem(sys.modules, module, None)
    with boot.open_kernel(path) as kernel, pytest.raises(HostError, match="pip install"):
        kernel.load(memory)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing", "no such file"),
        ("", "no such file"),
        ("x" * 300, "the name is too long"),
        ("file/below", "not a directory"),
        ("loop", "symbolic links form a loop"),
        ("dangling", "no such file"),
        ("directory", "a directory"),
        ("fifo", "a pipe (FIFO)"),
        ("socket", "a socket"),
        ("empty", "is empty"),
        ("two\nlines", "no such file"),
        ("\x1b[31mred", "no such file"),
        ("zero\0byte", "null character"),
    ],
)
def test_what_is_no_file_to_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_bytes(b"1")
    Path("empty").write_bytes(b"")
    Path("directory").mkdir()
    Path("loop").symlink_to("loop")
    Path("dangling").symlink_to("missing")
    os.mkfifo("fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        with pytest.raises(BootError) as caught:
            boot.open_kernel(name)
    assert message in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("device", ["/dev/null", "/dev/zero", "/dev/kvm", "/dev/tty"])
def test_devices_are_not_even_opened(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if not os.path.exists(device):
        pytest.skip(f"there is no {device} here")
    monkeypatch.setattr(os, "open", lambda *_: pytest.fail("opened it"))
    assert "a character device" in refuse(device)


def test_a_file_without_permission(save: Save, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(GOOD)
    path.chmod(0)
    if os.geteuid() == 0:
        # root may read everything: let open() say what it says to everybody else.
        def refused(*_: object) -> int:
            raise PermissionError(13, os.strerror(13))

        monkeypatch.setattr(os, "open", refused)
    assert "no permission to read it; run chmod" in refuse(path)


def test_a_path_that_is_no_text(tmp_path: Path) -> None:
    with pytest.raises(BootError) as caught:
        boot.open_kernel(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe"))
    str(caught.value).encode("utf-8")


def test_a_file_of_a_tebibyte(save: Save, memory: GuestMemory) -> None:
    path = save(b"")
    os.truncate(path, 1 << 40)
    assert "nothing but zeros" in refuse(path)
    vast = Segment(file_size=1 << 39, memory_size=1 << 39)
    path = save(kernels.vmlinux(segments=(vast,)))
    os.truncate(path, 1 << 40)
    assert "more than 512 MiB to load" in refuse(path)
    path = save(GOOD)
    os.truncate(path, 1 << 40)
    with boot.open_kernel(path) as kernel:
        kernel.load(memory)
    path = save(kernels.bzimage(kernels.payload(GOOD_VMLINUX), payload_length=0xFFFFFFFF))
    os.truncate(path, 1 << 40)
    assert "payload" in refuse(path, memory)


@pytest.mark.parametrize("good", [GOOD, GOOD_VMLINUX], ids=["bzImage", "vmlinux"])
def test_a_file_that_shrinks_before_it_is_loaded(save: Save, memory: GuestMemory, good: bytes) -> None:
    path = save(good)
    with boot.open_kernel(path) as kernel:
        os.truncate(path, len(good) - 100)
        with pytest.raises(BootError, match="changed while it was loaded; wait until"):
            kernel.load(memory)


@pytest.mark.parametrize("good", [GOOD, GOOD_VMLINUX], ids=["bzImage", "vmlinux"])
def test_a_file_that_shrinks_while_it_is_loaded(
    save: Save, memory: GuestMemory, good: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(good)
    with boot.open_kernel(path) as kernel:
        preadv, sendfile = os.preadv, os.sendfile

        def shrink_preadv(*arguments: Any) -> int:
            os.truncate(path, 80)
            return preadv(*arguments)

        def shrink_sendfile(*arguments: Any) -> int:
            os.truncate(path, 80)
            return sendfile(*arguments)

        monkeypatch.setattr(os, "preadv", shrink_preadv)
        monkeypatch.setattr(os, "sendfile", shrink_sendfile)
        with pytest.raises(BootError, match="became shorter while it was read"):
            kernel.load(memory)


@pytest.mark.parametrize("good", [GOOD, GOOD_VMLINUX], ids=["bzImage", "vmlinux"])
def test_a_disk_that_fails(save: Save, memory: GuestMemory, good: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise OSError(5, os.strerror(5))

    with boot.open_kernel(save(good)) as kernel:
        monkeypatch.setattr(os, "preadv", fail)
        monkeypatch.setattr(os, "sendfile", fail)
        with pytest.raises(BootError, match=r"cannot be read .*; check its disk"):
            kernel.load(memory)


def test_a_refused_file_is_closed(save: Save) -> None:
    path = save(b"#!/bin/sh\n")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        refuse(path)
    assert len(os.listdir("/proc/self/fd")) == before
