"""Whether a file is an initramfs that the kernel can unpack: what it would panic about, said before it starts.

Source: Documentation/driver-api/early-userspace/buffer-format.rst, and init/do_mounts_rd.c for legacy RAM
disks. The checks walk an archive's structure in the file; they do not unpack it.
"""

from __future__ import annotations

from corral.files import cpio, magic
from corral.files.file import Flaw

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from corral.files.file import ImageFile

_HEAD = 4096
_MAGIC_SIZE = 16  # enough for each magic number
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


class _Cursor:
    """The place in an archive that a walk over its headers has come to; content is passed over, not read."""

    def __init__(self, archive: Extent, position: int) -> None:
        self.position = position
        self._archive = archive
        self._ahead, self._start = b"", 0  # what was read, and where that begins

    def exactly(self, size: int) -> bytes:
        at = self.position - self._start
        if not 0 <= at <= len(self._ahead) - size:
            self._ahead, self._start = self._archive.read(self.position, max(size, _HEAD)), self.position
            at = 0
        self.skip(size)
        return self._ahead[at : at + size]

    def skip(self, size: int) -> None:
        self.position += size
        if self.position > self._archive.size:
            raise _cut_off()

    def align(self) -> None:
        self.position = min((self.position + 3) & ~3, self._archive.size)


def check(file: ImageFile) -> None:
    """Flaw if the file is cut off, damaged or no initramfs at all, as far as its structure tells."""
    head = file.head(_HEAD)
    if _is_ram_disk(head) and not _is_archive(head):
        return
    archive = Extent(file, 0, file.size)
    archive.size -= _bootconfig_size(archive)
    position = first = _skip_zeros(archive, 0)
    entries = 0
    while position < archive.size:
        start = archive.read(position, _MAGIC_SIZE)
        if start.startswith(magic.CPIO):
            cursor = _Cursor(archive, position)
            for _ in cpio.names(cursor):
                entries += 1
                if entries == _MAX_ENTRIES:
                    return
            position = _skip_zeros(archive, cursor.position)
            continue
        if form := magic.compression(start):
            # Where compressed data ends only its decoder knows: what follows is not looked at.
            _CHECKERS[form](Extent(file, position, archive.size))
            return
        if position > first:
            raise Flaw(f"has bytes at {position:#x} that belong to no archive; build it again")
        from corral.boot.not_a_kernel import instead_of_initrd

        raise Flaw(instead_of_initrd(file))


def _is_known(head: bytes) -> bool:
    """Whether what starts like this is something that Linux unpacks or mounts."""
    return _is_archive(head) or _is_ram_disk(head)


def _is_archive(head: bytes) -> bool:
    return head.startswith(magic.CPIO) or magic.compression(head) != ""


def _is_ram_disk(head: bytes) -> bool:
    """Whether this is a file system that Linux takes as a legacy RAM disk."""
    return (
        head.startswith((b"-rom1fs-", magic.SQUASHFS, b"\x45\x3d\xcd\x28"))
        or head.startswith(magic.EXT[1], magic.EXT[0])
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
        position += 4 if header in magic.COMPRESSED["lz4"] else 4 + size
        if position > packed.size:
            raise _cut_off()


def _trust(packed: Extent) -> None:
    """A format that cannot be checked without a library that may be missing."""


_CHECKERS: dict[str, Callable[[Extent], None]] = {
    "gzip": _check_decoding,
    "bzip2": _check_decoding,
    "lzma": _check_decoding,
    "xz": _check_xz,
    "zstd": _check_zstd,
    "lz4": _check_lz4,
    "lzo": _trust,
}
