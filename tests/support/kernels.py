"""Kernels in miniature, real in every byte that a loader looks at, so that a test can break any of them.

The code in them is a guest for both kinds of KVM: it prints its command line and the start of its initrd on
COM1 and resets the machine.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import struct
import sys
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from corral.arch.x86_64.boot_params import SetupHeader

MIB = 1 << 20
LOAD_ADDRESS = 16 * MIB
TEXT = 0xFFFFFFFF81000000
VERSION = b"6.1.0-miniature (tester) #1 SMP"

EM_386, EM_X86_64 = 3, 62
ET_EXEC = 2
PT_LOAD, PT_INTERP, PT_NOTE, PT_TLS = 1, 3, 4, 7
CLASS32, CLASS64 = 1, 2

# Entered with RSI (or, in protected mode, EBX) at the boot information. The offsets are those of boot_params.
LONG_MODE_CODE = bytes.fromhex(
    "66baf803"  # mov dx, 0x3f8
    "8b9e28020000"  # mov ebx, [rsi + cmd_line_ptr]
    "8a03"  # 1: mov al, [rbx]
    "84c0"  # test al, al
    "7406"  # jz 2f
    "ee"  # out dx, al
    "48ffc3"  # inc rbx
    "ebf4"  # jmp 1b
    "8b8e1c020000"  # 2: mov ecx, [rsi + ramdisk_size]
    "85c9"  # test ecx, ecx
    "7414"  # jz 4f
    "8b9e18020000"  # mov ebx, [rsi + ramdisk_image]
    "b906000000"  # mov ecx, 6
    "8a03"  # 3: mov al, [rbx]
    "ee"  # out dx, al
    "ffc3"  # inc ebx
    "ffc9"  # dec ecx
    "75f7"  # jnz 3b
    "b0fe"  # 4: mov al, 0xfe
    "e664"  # out 0x64, al
    "f4"  # hlt
    "ebfd"  # jmp $-1
)
PROTECTED_MODE_CODE = bytes.fromhex(
    "66baf803"  # mov dx, 0x3f8
    "8b7318"  # mov esi, [ebx + cmdline_paddr]
    "ac"  # 1: lodsb
    "84c0"  # test al, al
    "7403"  # jz 2f
    "ee"  # out dx, al
    "ebf8"  # jmp 1b
    "8b4b0c"  # 2: mov ecx, [ebx + nr_modules]
    "85c9"  # test ecx, ecx
    "740e"  # jz 4f
    "8b7310"  # mov esi, [ebx + modlist_paddr]
    "8b36"  # mov esi, [esi]
    "b906000000"  # mov ecx, 6
    "ac"  # 3: lodsb
    "ee"  # out dx, al
    "e2fc"  # loop 3b
    "b0fe"  # 4: mov al, 0xfe
    "e664"  # out 0x64, al
    "f4"  # hlt
    "ebfd"  # jmp $-1
)


@dataclass(frozen=True)
class Segment:
    """One program header; `file_size`, `offset` and `memory_size` follow from `data` unless given."""

    physical: int = LOAD_ADDRESS
    data: bytes = b""
    virtual: int = TEXT
    type: int = PT_LOAD
    offset: int | None = None
    file_size: int | None = None
    memory_size: int | None = None


def text_segment(code: bytes = LONG_MODE_CODE) -> Segment:
    banner = b"\0Linux version " + VERSION + b"\n\0"
    return Segment(data=code + banner, memory_size=3 * 4096)


@dataclass(frozen=True)
class Elf:
    """An executable; every field of its header can be made to lie."""

    segments: tuple[Segment, ...] = field(default_factory=lambda: (text_segment(),))
    entry: int = LOAD_ADDRESS
    bits: int = 64
    machine: int = EM_X86_64
    type: int = ET_EXEC
    order: int = 1
    count: int | None = None
    table: int | None = None
    entry_size: int | None = None

    def build(self) -> bytes:
        wide = self.bits == 64
        header_size, size = (64, 56) if wide else (52, 32)
        table = header_size if self.table is None else self.table
        offset = header_size + size * len(self.segments)
        headers, contents = [], []
        for segment in self.segments:
            start = offset if segment.offset is None else segment.offset
            in_file = len(segment.data) if segment.file_size is None else segment.file_size
            in_memory = in_file if segment.memory_size is None else segment.memory_size
            if wide:
                fields = (segment.type, 7, start, segment.virtual, segment.physical, in_file, in_memory, 0x1000)
                headers.append(struct.pack("<IIQQQQQQ", *fields))
            else:
                virtual = segment.virtual & 0xFFFFFFFF
                fields = (segment.type, start, virtual, segment.physical, in_file, in_memory, 7, 0x1000)
                headers.append(struct.pack("<IIIIIIII", *fields))
            contents.append(segment.data)
            offset += len(segment.data)
        ident = struct.pack("4sBBB9x", b"\x7fELF", CLASS64 if wide else CLASS32, self.order, 1)
        count = len(self.segments) if self.count is None else self.count
        entry_size = size if self.entry_size is None else self.entry_size
        order = "<" if self.order == 1 else ">"
        layout = order + ("HHIQQQIHHHHHH" if wide else "HHIIIIIHHHHHH")
        numbers = (self.type, self.machine, 1, self.entry, table, 0, 0, header_size, entry_size, count, 0, 0, 0)
        return b"".join((ident, struct.pack(layout, *numbers), *headers, *contents))


def vmlinux(**changes: object) -> bytes:
    """A vmlinux for the 64-bit Linux entry, with `changes` to the fields of Elf."""
    return replace(Elf(), **changes).build()  # type: ignore[arg-type]


def pvh_note(entry: int, width: int = 4) -> Segment:
    """A PT_NOTE segment with another note before XEN_ELFNOTE_PHYS32_ENTRY, as Linux has."""
    other = struct.pack("<III", 6, 2, 0x101) + b"Linux\0\0\0" + b"x\0\0\0"
    note = struct.pack("<III", 4, width, 18) + b"Xen\0" + entry.to_bytes(width, "little")
    return Segment(physical=0, virtual=0, data=other + note, type=PT_NOTE)


def pvh_guest(bits: int = 32) -> bytes:
    """A guest that can only be entered by PVH: linked where it is loaded."""
    machine = EM_386 if bits == 32 else EM_X86_64
    text = Segment(data=PROTECTED_MODE_CODE, physical=MIB, virtual=MIB)
    return Elf((text, pvh_note(MIB)), entry=MIB, bits=bits, machine=machine).build()


def lz4_legacy(data: bytes) -> bytes:
    import lz4.block

    packed = [b"\x02\x21\x4c\x18"]
    for start in range(0, len(data), 8 * MIB):
        block = lz4.block.compress(data[start : start + 8 * MIB], store_size=False)
        packed += [len(block).to_bytes(4, "little"), block]
    return b"".join(packed)


def zstd(data: bytes) -> bytes:
    """A frame that does not tell its size, as the kernel's build makes it."""
    if sys.version_info >= (3, 14):
        from compression import zstd

        return zstd.compress(data, options={zstd.CompressionParameter.content_size_flag: 0})
    import zstandard

    compressor = zstandard.ZstdCompressor(write_content_size=False)
    return compressor.compress(data)


def lzop(data: bytes, pack: Callable[[bytes], bytes]) -> bytes:
    """lzop's container with a checksum of the unpacked data for each block, as the kernel's build makes it."""
    flags = 0x03000001
    header = struct.pack(">HHHBBIIIIB", 0x1040, 0x20A0, 0x0940, 3, 9, flags, 0o100644, 0, 0, 0)
    parts = [b"\x89LZO\0\r\n\x1a\n", header, zlib.adler32(header).to_bytes(4, "big")]
    for start in range(0, len(data), 256 << 10):
        block = data[start : start + (256 << 10)]
        packed = pack(block)
        if len(packed) >= len(block):
            packed = block
        parts += [struct.pack(">III", len(block), len(packed), zlib.adler32(block)), packed]
    return b"".join((*parts, bytes(4)))


def xz_bcj(data: bytes) -> bytes:
    """As the kernel's scripts/xz_wrap.sh compresses on x86."""
    filters = [{"id": lzma.FILTER_X86}, {"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": 32 * MIB}]
    return lzma.compress(data, lzma.FORMAT_XZ, lzma.CHECK_CRC32, filters=filters)


COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda data: gzip.compress(data, mtime=0),
    "bzip2": bz2.compress,
    "xz": xz_bcj,
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
    "lz4": lz4_legacy,
    "zstd": zstd,
    "none": lambda data: data,
}
_WITHOUT_SIZE = ("gzip", "none")


def payload(vmlinux: bytes, compression: str = "gzip") -> bytes:
    """What the kernel's build makes of vmlinux: compressed, and for most formats with its size appended."""
    packed = COMPRESSIONS[compression](vmlinux)
    return packed if compression in _WITHOUT_SIZE else packed + len(vmlinux).to_bytes(4, "little")


def bzimage(payload: bytes, **changes: int) -> bytes:
    """A bzImage around a payload, with `changes` to the fields of its setup header."""
    setup_sectors, before_payload = 4, 0x40
    header = SetupHeader()
    header.setup_sects = setup_sectors
    header.boot_flag = 0xAA55
    header.jump_distance = 0x6A
    header.header = 0x53726448
    header.version = 0x20F
    header.kernel_version = 0x400
    header.loadflags = 1
    header.initrd_addr_max = 0x7FFFFFFF
    header.kernel_alignment = 0x200000
    header.relocatable_kernel = 1
    header.xloadflags = 3
    header.cmdline_size = 2047
    header.payload_offset = before_payload
    header.payload_length = len(payload)
    header.pref_address = LOAD_ADDRESS
    header.init_size = 2 * MIB
    for name, value in changes.items():
        setattr(header, name, value)
    setup = bytearray(512 * (1 + setup_sectors))
    setup[: len(header.data)] = header.data
    setup[0x600 : 0x600 + len(VERSION)] = VERSION
    return bytes(setup) + bytes(before_payload) + payload


def cpio(files: Iterable[tuple[str, bytes]] = (("init", b"#!/bin/sh\n"),), trailer: bool = True) -> bytes:
    """An initramfs in format newc."""
    out = bytearray()
    for name, content in [*files, *([("TRAILER!!!", b"")] if trailer else [])]:
        encoded = name.encode() + b"\0"
        numbers = (1, 0o100755, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(encoded), 0)
        out += b"070701" + b"".join(b"%08x" % number for number in numbers) + encoded
        out += bytes(-len(out) % 4) + content
        out += bytes(-len(out) % 4)
    return bytes(out)


def multiboot(addresses: tuple[int, ...] = (), flags: int = 3, code: bytes = b"\xf4", before: int = 0) -> bytes:
    """A file with a Multiboot header behind `before` bytes; `addresses`: of the header, of its load, its end, the end
    of .bss, the entry."""
    magic = 0x1BADB002
    flags |= 1 << 16 if addresses else 0
    header = struct.pack("<III", magic, flags, -(magic + flags) & 0xFFFFFFFF)
    return b"\x90" * before + header + struct.pack(f"<{len(addresses)}I", *addresses) + code


def multiboot2(tags: Iterable[bytes] = (), code: bytes = b"\xf4", length: int | None = None) -> bytes:
    """A file with a Multiboot 2 header of these tags, and one at their end."""
    body = b"".join([*tags, multiboot2_tag(0)])
    magic, length = 0xE85250D6, 16 + len(body) if length is None else length
    return struct.pack("<IIII", magic, 0, length, -(magic + length) & 0xFFFFFFFF) + body + code


def multiboot2_tag(kind: int, *numbers: int, flags: int = 0, size: int | None = None) -> bytes:
    tag = struct.pack(f"<HHI{len(numbers)}I", kind, flags, 8 + 4 * len(numbers) if size is None else size, *numbers)
    return tag + bytes(-len(tag) % 8)


def multiboot_elf(header: bytes, **changes: object) -> bytes:
    """A 32-bit executable for 1 MiB that begins with a Multiboot header; that of version 2 is at a multiple of 8."""
    header = (bytes(4) if header.startswith(b"\xd6\x50\x52\xe8") else b"") + header
    segments = (Segment(data=header, physical=MIB, virtual=MIB),)
    fields: dict[str, object] = {"segments": segments, "entry": MIB, "bits": 32, "machine": EM_386}
    return vmlinux(**(fields | changes))


def unpacked_program(code: bytes = bytes(4096), **changes: int) -> bytes:
    """A file with Linux's header and no payload, as memtest86+ is."""
    return bzimage(code, **({"payload_offset": 0, "payload_length": 0, "pref_address": MIB} | changes))
