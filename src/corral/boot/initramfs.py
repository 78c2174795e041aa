"""The initrd: placed as high as the kernel can reach, and checked for what a guest would panic about later.

Source: boot.rst (ramdisk_image, initrd_addr_max), Documentation/driver-api/early-userspace/buffer-format.rst,
and for legacy RAM disks init/do_mounts_rd.c. Checks look at an archive's structure; they do not unpack it.
"""

from __future__ import annotations

from corral.arch.x86_64 import layout
from corral.boot.decompress import LZ4_MAGIC, MAGIC_SIZE, Source, identify, unpack
from corral.boot.file import Flaw, ImageFile
from corral.boot.ram import free_windows, size_text, store_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from corral.memory import GuestMemory

_HEAD = 4096
_CPIO = (b"070701", b"070702")
_CPIO_HEADER = 110
_CPIO_TRAILER = b"TRAILER!!!\0"
# Beyond these a file is taken as it is: a check has to cost less than it saves.
_MAX_ENTRIES = 100_000
_MAX_DECODED = 4 << 20  # packed bytes of formats that show damage only to those who unpack them
_MAX_UNPACKED = 32 << 20
_PIECE = 1 << 20
_ZSTD_RLE, _ZSTD_RESERVED = 1, 3

# A bootconfig may follow the archive (Documentation/admin-guide/bootconfig.rst).
_BOOTCONFIG = b"#BOOTCONFIG\n"
_BOOTCONFIG_TAIL = 8 + len(_BOOTCONFIG)


def load(
    memory: GuestMemory,
    path: str | os.PathLike[str],
    taken: list[tuple[int, int]],
    limit: int,
    above_4g: bool,
    any_content: bool = False,
) -> tuple[int, int]:
    """Place the initrd in RAM beside `taken` ranges (start, end); returns its (address, size).

    It ends at or below `limit`, page aligned; where that has no room and `above_4g` allows it, above 4 GiB.
    `any_content`: the guest is not Linux, so do not check what the file holds. Raises BootError naming the
    file.
    """
    with ImageFile(path, "initrd") as file:
        try:
            address = _find_place(memory, file.size, taken, limit, above_4g)
            if not any_content:
                _require_known(file)
            store_file(memory, address, file, 0, file.size)
            if not any_content:
                with memory.view(address, file.size) as view:
                    check(view)
        except Flaw as flaw:
            raise file.error(str(flaw)) from None
        return address, file.size


def check(archive: memoryview) -> None:
    """Flaw if the archive is cut off, damaged or no archive, as far as its structure tells."""
    head = bytes(archive[:_HEAD])
    if _is_ram_disk(head) and not head.startswith(_MAGICS):
        return
    end = len(archive) - _bootconfig_size(archive)
    position = 0
    while (position := _skip_zeros(archive, position, end)) < end:
        magic = bytes(archive[position : position + len(_CPIO[0])])
        if magic in _CPIO:
            position = _walk_cpio(archive, position, end)
            continue
        checker = next((checker for start, checker in _CHECKERS if magic.startswith(start)), None)
        if checker is not None:
            # Released here, lest a traceback keep guest memory from being closed.
            with archive[position:end] as packed:
                checker(packed)
        elif position:
            raise Flaw(f"has bytes at {position:#x} that belong to no archive; build it again")
        return


def _find_place(memory: GuestMemory, size: int, taken: list[tuple[int, int]], limit: int, above_4g: bool) -> int:
    windows = list(free_windows(memory, taken, layout.HIGH_MEMORY, min(limit, layout.RAM_HOLE)))
    if above_4g:
        windows += free_windows(memory, taken, layout.RAM_HOLE_END, 1 << 64)
    largest = 0
    for low, high in windows:
        address = (high - size) & ~(layout.PAGE_SIZE - 1)
        if address >= low:
            return address
        largest = max(largest, high - low)
    needed = size_text(memory.size + size - largest + layout.PAGE_SIZE)
    raise Flaw(
        f"is {size_text(size)}, the guest has room for {largest >> 20}M of its {size_text(memory.size)}; "
        f"give it {needed} with --memory, or use a smaller initrd"
    )


def _require_known(file: ImageFile) -> None:
    """Flaw unless the kernel could unpack the file, or mount it as a RAM disk."""
    head = file.head(_HEAD)
    start = head.lstrip(b"\0")
    if not start:
        if not file.read(0, min(file.size, _PIECE)).strip(b"\0"):
            raise Flaw("is nothing but zeros at its start; copy or build it again")
        return
    if _is_archive(head) or start.startswith(_CPIO):
        return
    from corral.boot.strangers import instead_of_initrd

    raise Flaw(instead_of_initrd(file))


def _is_archive(head: bytes) -> bool:
    """Whether what starts like this is something that Linux unpacks or mounts."""
    return head.startswith(_MAGICS) or _is_ram_disk(head)


def _is_ram_disk(head: bytes) -> bool:
    """Whether this is a file system that Linux takes as a legacy RAM disk."""
    return (
        head.startswith((b"-rom1fs-", b"hsqs", b"\x45\x3d\xcd\x28"))
        or head[0x438:0x43A] == b"\x53\xef"  # ext2, ext3, ext4
        or head[0x410:0x412] in (b"\x7f\x13", b"\x8f\x13")  # minix
    )


def _bootconfig_size(archive: memoryview) -> int:
    tail = bytes(archive[-_BOOTCONFIG_TAIL:])
    if not tail.endswith(_BOOTCONFIG) or len(tail) < _BOOTCONFIG_TAIL:
        return 0
    return min(len(archive), int.from_bytes(tail[:4], "little") + _BOOTCONFIG_TAIL)


def _skip_zeros(archive: memoryview, position: int, end: int) -> int:
    while position < end:
        piece = bytes(archive[position : min(position + (_PIECE if archive[position] == 0 else 1), end)])
        rest = len(piece.lstrip(b"\0"))
        position += len(piece) - rest
        if rest:
            break
    return position


def _walk_cpio(archive: memoryview, position: int, end: int) -> int:
    """Walk the headers of a cpio archive; returns where it ends. Offsets in it count from a multiple of 4."""
    for _ in range(_MAX_ENTRIES):
        header = bytes(archive[position : min(position + _CPIO_HEADER, end)])
        if len(header) < _CPIO_HEADER:
            raise _cut_off()
        # isalnum() keeps out the signs and spaces that int() would take for part of a number.
        if not header.startswith(_CPIO) or not header.isalnum():
            raise Flaw(f"has a damaged cpio header at {position:#x}; copy or build it again")
        try:
            size, name_size = int(header[54:62], 16), int(header[94:102], 16)
        except ValueError:
            raise Flaw(f"has a damaged cpio header at {position:#x}; copy or build it again") from None
        name = position + _CPIO_HEADER
        content = (name + name_size + 3) & ~3
        if name_size == len(_CPIO_TRAILER) and archive[name : name + name_size] == _CPIO_TRAILER:
            return min(content, end)
        position = (content + size + 3) & ~3
        if position > end:
            raise _cut_off()
    return end


def _cut_off() -> Flaw:
    return Flaw("is cut off; copy or build it again")


def _check_decoding(packed: memoryview) -> None:
    """Formats with no structure outside the compressed data: unpack the start of it, and throw that away."""
    form = identify(bytes(packed[:MAGIC_SIZE]))
    if form is None:
        return
    source = Source(lambda offset, size: bytes(packed[offset : offset + size]), 0, len(packed))
    unpacked = 0
    for piece in unpack(form, source):
        if unpacked == 0 and not _is_archive(piece) and piece.strip(b"\0"):
            raise Flaw(f"is compressed ({form.name}), but what is in it is no initramfs; build it again")
        unpacked += len(piece)
        if unpacked > _MAX_UNPACKED or source.position > _MAX_DECODED:
            return


def _check_xz(packed: memoryview) -> None:
    # A whole stream ends with a footer; where it does not, either it is cut off or something follows it.
    if not bytes(packed[-_HEAD:]).rstrip(b"\0").endswith(b"YZ"):
        _check_decoding(packed)


def _check_zstd(packed: memoryview) -> None:
    """Walk the blocks of a zstd frame (RFC 8878, section 3.1.1)."""
    descriptor = packed[4] if len(packed) > 4 else 0
    single_segment = descriptor >> 5 & 1
    content_size = (single_segment, 2, 4, 8)[descriptor >> 6]
    dictionary_id = (0, 1, 2, 4)[descriptor & 3]
    position = 5 + (not single_segment) + dictionary_id + content_size
    for _ in range(_MAX_ENTRIES):
        header = int.from_bytes(packed[position : position + 3], "little")
        last, kind, size = header & 1, header >> 1 & 3, header >> 3
        position += 3 + (1 if kind == _ZSTD_RLE else size)
        if position > len(packed):
            raise _cut_off()
        if kind == _ZSTD_RESERVED:
            raise Flaw("has a damaged zstd block; copy or build it again")
        if last:
            return


def _check_lz4(packed: memoryview) -> None:
    """Walk the blocks of lz4's legacy frame."""
    position = 4
    for _ in range(_MAX_ENTRIES):
        size = int.from_bytes(packed[position : position + 4], "little")
        if position == len(packed) or size == 0:
            return
        position += 4
        if size != LZ4_MAGIC:
            position += size
        if position > len(packed):
            raise _cut_off()


def _trust(packed: memoryview) -> None:
    """A format that cannot be checked without a library that may be missing."""


_CHECKERS: tuple[tuple[bytes, Callable[[memoryview], None]], ...] = (
    (b"\x1f\x8b", _check_decoding),
    (b"BZh", _check_decoding),
    (b"\x5d\0\0", _check_decoding),
    (b"\xfd7zXZ", _check_xz),
    (b"\x28\xb5\x2f\xfd", _check_zstd),
    (LZ4_MAGIC.to_bytes(4, "little"), _check_lz4),
    (b"\x89LZO", _trust),
)
_MAGICS = (*_CPIO, *(magic for magic, _ in _CHECKERS))
