"""Unpacking compressed data in pieces, so that no size costs memory: kernels, initramfs, modules, archives.

The formats are those of the kernel's scripts/Makefile.lib and lib/decompress*.c, told apart by their magic
numbers (boot.rst, payload_offset). A library is imported when its format is met, not before.
"""

from __future__ import annotations

import struct

from corral.errors import HostError
from corral.files import magic
from corral.files.file import Flaw
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Protocol

    class Decoder(Protocol):
        """What the decompressors of the standard library have in common; _Gzip makes zlib's one of them."""

        @property
        def eof(self) -> bool: ...
        @property
        def needs_input(self) -> bool: ...
        @property
        def unused_data(self) -> bytes: ...
        def decompress(self, data: bytes, max_length: int = ...) -> bytes: ...


MAGIC_SIZE = magic.LONGEST_COMPRESSED
# No piece of output is larger, lz4's blocks apart.
PIECE = 1 << 20
_INPUT = 64 << 10

# Linux compresses with windows of up to 128 MiB (xz and zstd). Of such a window only what was written is ever
# resident; a stream that asks for a larger one is not a kernel's.
_WINDOW_LOG = 27
_LZMA_MEMORY = (1 << _WINDOW_LOG) + (8 << 20)

_LZ4_BLOCK = 8 << 20
_LZ4_WORST = _LZ4_BLOCK + _LZ4_BLOCK // 255 + 16

_LZOP_BLOCK = 256 << 10
_LZOP_TIMES = 0x0940  # the version since which the header has a level and the upper half of the time
_LZOP_ADLER32, _LZOP_ADLER32_PACKED, _LZOP_CRC32, _LZOP_CRC32_PACKED = 1 << 0, 1 << 1, 1 << 8, 1 << 9
_LZOP_FILTER = 1 << 11


class Source:
    """Packed bytes, read from their start to their end; `position` counts them."""

    __slots__ = ("_length", "_read", "_start", "position")

    def __init__(self, read: Callable[[int, int], bytes], start: int, length: int) -> None:
        """`length` bytes from `start`; `read(offset, size)` fetches exactly `size` of them."""
        self._read, self._start, self._length = read, start, length
        self.position = 0

    def read(self, size: int) -> bytes:
        """The next `size` bytes, fewer only at the end."""
        size = min(size, self._length - self.position)
        data = self._read(self._start + self.position, size)
        self.position += size
        return data

    def exactly(self, size: int) -> bytes:
        """The next `size` bytes; a Flaw if the source ends before."""
        data = self.read(size)
        if len(data) < size:
            raise _ends_early()
        return data


@record(frozen=True)
class Format:
    """A way of compressing. `unpack` takes a source and whether all its streams are wanted, or the first."""

    name: str
    unpack: Callable[[Source, bool], Iterator[bytes]]
    packs: bool = True  # packed data is followed by the unpacked size
    appended_size: bool = True  # by the kernel's build, that is; gzip itself ends with it


def identify(head: bytes) -> Format | None:
    """The format of data that starts with `head` (MAGIC_SIZE bytes); "none" is that of an ELF file."""
    return FORMATS.get(magic.compression(head) or ("none" if head.startswith(magic.ELF) else ""))


def unpack(form: Format, source: Source, streams: bool = False) -> Iterator[bytes]:
    """The unpacked data in pieces, none of them empty.

    `streams`: all that follow each other, as parallel compressors write them, with nothing but zeros between them and
    behind; else the first, and what follows is not looked at. Raises Flaw for damaged data, HostError where the library
    for its format is missing.
    """
    try:
        yield from filter(None, form.unpack(source, streams))
    except MemoryError:
        raise HostError(f"not enough memory to unpack {form.name} data; free some") from None


def stored(source: Source, streams: bool = True) -> Iterator[bytes]:
    """What is not compressed."""
    while piece := source.read(PIECE):
        yield piece


def _damaged(form: str, error: Exception) -> Flaw:
    return Flaw(f"has damaged {form} data ({error}); copy or build it again")


def _ends_early() -> Flaw:
    return Flaw("has compressed data that ends too early; copy or build it again")


def _drain(
    form: str, new: Callable[[], Decoder], failure: type[Exception], source: Source, streams: bool
) -> Iterator[bytes]:
    data = source.read(_INPUT)
    while True:
        decoder = new()
        while not decoder.eof:
            if decoder.needs_input and not data:
                data = source.read(_INPUT)
            at_end = decoder.needs_input and not data
            try:
                piece = decoder.decompress(data, PIECE)
            except failure as error:
                raise _damaged(form, error) from None
            if at_end and not piece and not decoder.eof:
                raise _ends_early()
            data = b""
            yield piece
        if not streams:
            return
        data = decoder.unused_data.lstrip(b"\0")
        while not data and (more := source.read(_INPUT)):
            data = more.lstrip(b"\0")
        if not data:
            return


class _Gzip:
    def __init__(self) -> None:
        import zlib

        self._decoder = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)

    @property
    def eof(self) -> bool:
        return self._decoder.eof

    @property
    def needs_input(self) -> bool:
        return not self._decoder.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._decoder.unused_data

    def decompress(self, data: bytes, max_length: int = 0) -> bytes:
        return self._decoder.decompress(self._decoder.unconsumed_tail or data, max_length)


def _gzip(source: Source, streams: bool) -> Iterator[bytes]:
    import zlib

    return _drain("gzip", _Gzip, zlib.error, source, streams)


def _bzip2(source: Source, streams: bool) -> Iterator[bytes]:
    import bz2

    return _drain("bzip2", bz2.BZ2Decompressor, OSError, source, streams)


def _xz(source: Source, streams: bool) -> Iterator[bytes]:
    import lzma

    def new() -> Decoder:
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_LZMA_MEMORY)

    return _drain("xz", new, lzma.LZMAError, source, streams)


def _lzma(source: Source, streams: bool) -> Iterator[bytes]:
    import lzma

    def new() -> Decoder:
        return lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=_LZMA_MEMORY)

    return _drain("lzma", new, lzma.LZMAError, source, streams)


def _zstd(source: Source, streams: bool) -> Iterator[bytes]:
    import sys

    if sys.version_info >= (3, 14):
        from compression import zstd

        options = {zstd.DecompressionParameter.window_log_max: _WINDOW_LOG}
        yield from _drain("zstd", lambda: zstd.ZstdDecompressor(options=options), zstd.ZstdError, source, streams)
        return
    try:
        import zstandard
    except ImportError:
        raise _missing("zstd", "zstandard") from None
    decoder = zstandard.ZstdDecompressor(max_window_size=1 << _WINDOW_LOG)
    options = {"read_size": _INPUT, "read_across_frames": streams}
    with decoder.stream_reader(source, **options) as reader:  # type: ignore[arg-type]
        while True:
            try:
                piece = reader.read(PIECE)
            except zstandard.ZstdError as error:
                raise _damaged("zstd", error) from None
            if not piece:
                break
            yield piece


def _lz4(source: Source, streams: bool) -> Iterator[bytes]:
    """The legacy frame: blocks of up to 8 MiB, each behind its packed size, until the data ends."""
    try:
        import lz4.block
    except ImportError:
        raise _missing("lz4", "lz4") from None
    source.exactly(4)
    while head := source.read(4):
        size = int.from_bytes(head, "little")
        if len(head) < 4:
            raise _ends_early()
        if head in magic.COMPRESSED["lz4"]:
            continue
        if not 0 < size <= _LZ4_WORST:
            raise Flaw(f"has an lz4 block of {size} bytes, too large; copy or build it again")
        try:
            piece: bytes = lz4.block.decompress(source.exactly(size), uncompressed_size=_LZ4_BLOCK)
        except lz4.block.LZ4BlockError as error:
            raise _damaged("lz4", error) from None
        yield piece


def _lzo(source: Source, streams: bool) -> Iterator[bytes]:
    """lzop's container: blocks of up to 256 KiB with their sizes and checksums, until a block of size 0."""
    import zlib

    try:
        import lzo
    except ImportError:
        raise _missing("lzo", "python-lzo") from None
    flags = _lzop_flags(source)
    checks = [check for flag, check in ((_LZOP_ADLER32, zlib.adler32), (_LZOP_CRC32, zlib.crc32)) if flags & flag]
    packed_checks = 4 * bool(flags & _LZOP_ADLER32_PACKED) + 4 * bool(flags & _LZOP_CRC32_PACKED)
    while size := int.from_bytes(source.exactly(4), "big"):
        packed_size = int.from_bytes(source.exactly(4), "big")
        if size > _LZOP_BLOCK or not 0 < packed_size <= size:
            raise Flaw(f"has an lzo block of {size} bytes from {packed_size}; copy or build it again")
        expected = [int.from_bytes(source.exactly(4), "big") for _ in checks]
        if packed_size < size:
            source.exactly(packed_checks)
            try:
                piece = bytes(lzo.decompress(source.exactly(packed_size), False, size))
            except lzo.error as error:
                raise _damaged("lzo", error) from None
        else:
            piece = source.exactly(size)
        if len(piece) != size or [check(piece) for check in checks] != expected:
            raise Flaw("has a damaged lzo block; copy or build it again")
        yield piece


def _lzop_flags(source: Source) -> int:
    """Read lzop's header, whose only interesting part is which checksums follow."""
    source.exactly(len(magic.COMPRESSED["lzo"][0]))
    version, _, _, _ = struct.unpack(">HHHB", source.exactly(7))
    if version >= _LZOP_TIMES:
        source.exactly(1)
    flags = int.from_bytes(source.exactly(4), "big")
    if flags & _LZOP_FILTER:
        raise Flaw("has an lzo payload with a filter, which Linux does not use; build it again")
    source.exactly(12 if version >= _LZOP_TIMES else 8)  # mode, times
    name_size = source.exactly(1)[0]
    source.exactly(name_size + 4)  # name, checksum of the header
    return flags


def _missing(form: str, package: str) -> HostError:
    return HostError(f"to unpack {form} data takes a Python package; install it: pip install {package}")


FORMATS = {
    form.name: form
    for form in (
        Format("gzip", _gzip, appended_size=False),
        Format("bzip2", _bzip2),
        Format("xz", _xz),
        Format("zstd", _zstd),
        Format("lz4", _lz4),
        Format("lzo", _lzo),
        Format("lzma", _lzma),
        Format("none", stored, packs=False, appended_size=False),
    )
}
