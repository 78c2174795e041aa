"""Whether a file is an initramfs that the kernel can unpack: what it would panic about, said before it starts.

Source: Documentation/driver-api/early-userspace/buffer-format.rst, and init/do_mounts_rd.c for legacy RAM
disks. The checks walk an archive's structure in the file; they do not unpack it.
"""

from __future__ import annotations

from corral.files.file import Flaw

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from corral.files.file import ImageFile

_HEAD = 4096
_MAGIC_SIZE = 16  # enough for each magic number
_CPIO = (b"070701", b"070702")
_CPIO_HEADER = 110
_CPIO_TRAILER = b"TRAILER!!!\0"
_LZ4 = b"\x02\x21\x4c\x18"
_ZSTD_RLE, _ZSTD_RESERVED = 1, 3

# A bootconfig may follow the archive (Documentation/admin-guide/bootconfig.rst).
_BOOTCONFIG = b"#BOOTCONFIG\n"
_BOOTCONFIG_TAIL = 8 + len(_BOOTCONFIG)

# Beyond these a file is taken as it is: a check has to cost less than it saves.
_MAX_ENTRIES = 100_000
_MAX_PADDING = 16 << 20
_MAX_DECODED = 4 << 20  # packed bytes of formats that show damage only to those who unpack them
_MAX_UNPACKED = 32 << 20


class Extent:
    """The bytes of a file from `start` to `end`, at offsets from `start`; reads stop at the end."""

    __slots__ = ("_file", "_start", "size")

    def __init__(self, file: ImageFile, start: int, end: int) -> None:
        self._file, self._start, self.size = file, start, end - start

    def read(self, offset: int, size: int) -> bytes:
        return self._file.read(self._start + offset, max(0, min(size, self.size - offset)))

    def number(self, offset: int, size: int) -> int:
        return int.from_bytes(self.read(offset, size), "little")


def check(file: ImageFile) -> None:
    """Flaw if the file is cut off, damaged or no initramfs at all, as far as its structure tells."""
    head = file.head(_HEAD)
    if _is_ram_disk(head) and not head.startswith(_MAGICS):
        return
    archive = Extent(file, 0, file.size)
    archive.size -= _bootconfig_size(archive)
    position = first = _skip_zeros(archive, 0)
    entries = _MAX_ENTRIES
    while position < archive.size and entries:
        magic = archive.read(position, _MAGIC_SIZE)
        if magic.startswith(_CPIO):
            position, entries = _walk_cpio(archive, position, entries)
            position = _skip_zeros(archive, position)
            continue
        checker = next((checker for start, checker in _CHECKERS if magic.startswith(start)), None)
        if checker is not None:
            # Where compressed data ends only its decoder knows: what follows is not looked at.
            checker(Extent(file, position, archive.size))
            return
        if position > first:
            raise Flaw(f"has bytes at {position:#x} that belong to no archive; build it again")
        from corral.boot.not_a_kernel import instead_of_initrd

        raise Flaw(instead_of_initrd(file))


def _is_known(head: bytes) -> bool:
    """Whether what starts like this is something that Linux unpacks or mounts."""
    return head.startswith(_MAGICS) or _is_ram_disk(head)


def _is_ram_disk(head: bytes) -> bool:
    """Whether this is a file system that Linux takes as a legacy RAM disk."""
    return (
        head.startswith((b"-rom1fs-", b"hsqs", b"\x45\x3d\xcd\x28"))
        or head[0x438:0x43A] == b"\x53\xef"  # ext2, ext3, ext4
        or head[0x410:0x412] in (b"\x7f\x13", b"\x8f\x13")  # minix
    )


def _bootconfig_size(archive: Extent) -> int:
    tail = archive.read(max(0, archive.size - _BOOTCONFIG_TAIL), _BOOTCONFIG_TAIL)
    if not tail.endswith(_BOOTCONFIG) or len(tail) < _BOOTCONFIG_TAIL:
        return 0
    return min(archive.size, int.from_bytes(tail[:4], "little") + _BOOTCONFIG_TAIL)


def _skip_zeros(archive: Extent, position: int) -> int:
    """Where the next byte that is not zero is; the end where none comes soon."""
    start = position
    while position - start < _MAX_PADDING and (piece := archive.read(position, _HEAD)):
        rest = len(piece.lstrip(b"\0"))
        position += len(piece) - rest
        if rest:
            return position
    if start == 0:
        raise Flaw("is nothing but zeros at its start; copy or build it again")
    return archive.size


def _walk_cpio(archive: Extent, position: int, entries: int) -> tuple[int, int]:
    """Walk the headers of a cpio archive, `entries` at most; returns where it ends, and how many are left. Offsets in
    it count from a multiple of 4."""
    for left in range(entries - 1, -1, -1):
        header = archive.read(position, _CPIO_HEADER + len(_CPIO_TRAILER))
        if len(header) < _CPIO_HEADER:
            raise _cut_off()
        size, name_size = _cpio_sizes(header, position)
        content = (position + _CPIO_HEADER + name_size + 3) & ~3
        if name_size == len(_CPIO_TRAILER) and header.endswith(_CPIO_TRAILER):
            return min(content, archive.size), left
        position = (content + size + 3) & ~3
        if position > archive.size:
            raise _cut_off()
    return archive.size, 0


def _cpio_sizes(header: bytes, position: int) -> tuple[int, int]:
    """The sizes of an entry's content and name."""
    # isalnum() keeps out the signs and spaces that int() would take for part of a number.
    if header.startswith(_CPIO) and header[:_CPIO_HEADER].isalnum():
        try:
            return int(header[54:62], 16), int(header[94:102], 16)
        except ValueError:
            pass
    raise Flaw(f"has a damaged cpio header at {position:#x}; copy or build it again")


def _cut_off() -> Flaw:
    return Flaw("is cut off; copy or build it again")


def _check_decoding(packed: Extent) -> None:
    """Formats with no structure outside the compressed data: unpack the start of it, and throw that away."""
    from corral.files.decompress import Source, identify, unpack

    form = identify(packed.read(0, _MAGIC_SIZE))
    if form is None:
        return
    source = Source(packed.read, 0, packed.size)
    unpacked = 0
    for piece in unpack(form, source):
        if unpacked == 0 and not _is_known(piece) and piece.strip(b"\0"):
            raise Flaw(f"is compressed ({form.name}), but what is in it is no initramfs; build it again")
        unpacked += len(piece)
        if unpacked > _MAX_UNPACKED or source.position > _MAX_DECODED:
            return


def _check_xz(packed: Extent) -> None:
    # A whole stream ends with a footer; where it does not, either it is cut off or something follows it.
    if not packed.read(max(0, packed.size - _HEAD), _HEAD).rstrip(b"\0").endswith(b"YZ"):
        _check_decoding(packed)


def _check_zstd(packed: Extent) -> None:
    """Walk the blocks of a zstd frame (RFC 8878, section 3.1.1)."""
    descriptor = packed.number(4, 1)
    single_segment = descriptor >> 5 & 1
    content_size = (single_segment, 2, 4, 8)[descriptor >> 6]
    dictionary_id = (0, 1, 2, 4)[descriptor & 3]
    position = 5 + (not single_segment) + dictionary_id + content_size
    for _ in range(_MAX_ENTRIES):
        header = packed.number(position, 3)
        last, kind, size = header & 1, header >> 1 & 3, header >> 3
        position += 3 + (1 if kind == _ZSTD_RLE else size)
        if position > packed.size:
            raise _cut_off()
        if kind == _ZSTD_RESERVED:
            raise Flaw("has a damaged zstd block; copy or build it again")
        if last:
            return


def _check_lz4(packed: Extent) -> None:
    """Walk the blocks of lz4's legacy frame."""
    position = 4
    for _ in range(_MAX_ENTRIES):
        header = packed.read(position, 4)
        size = int.from_bytes(header, "little")
        if size == 0:
            return
        position += 4 if header == _LZ4 else 4 + size
        if position > packed.size:
            raise _cut_off()


def _trust(packed: Extent) -> None:
    """A format that cannot be checked without a library that may be missing."""


_CHECKERS: tuple[tuple[bytes, Callable[[Extent], None]], ...] = (
    (b"\x1f\x8b", _check_decoding),
    (b"BZh", _check_decoding),
    (b"\x5d\0\0", _check_decoding),
    (b"\xfd7zXZ", _check_xz),
    (b"\x28\xb5\x2f\xfd", _check_zstd),
    (_LZ4, _check_lz4),
    (b"\x89LZO", _trust),
)
_MAGICS = (*_CPIO, *(magic for magic, _ in _CHECKERS))
