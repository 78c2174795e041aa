"""A tar archive's bytes, unpacked as they are read: in pieces, so that no size costs memory."""

from __future__ import annotations

from corral.files import decompress
from corral.files.decompress import PIECE, Source
from corral.files.file import Flaw

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Protocol

    from corral.files.file import ImageFile

    class Decoder(Protocol):
        """What the decompressors of the standard library have in common; _Gzip makes zlib's one of them."""

        @property
        def eof(self) -> bool: ...
        @property
        def needs_input(self) -> bool: ...
        @property
        def unused_data(self) -> bytes: ...
        def decompress(self, data: bytes, max_length: int = ...) -> bytes: ...


_INPUT = 64 << 10
_WINDOW_LOG = 27  # of xz and zstd: 128 MiB, which the largest of their presets stays below
_TAIL = 64 << 20


class Stream:
    """What is in `file`, unpacked, from its start to its end."""

    def __init__(self, file: ImageFile) -> None:
        form = decompress.identify(file.head(decompress.MAGIC_SIZE))
        name = form.name if form is not None and form.packs else "stored"
        if name not in _UNPACK:
            raise Flaw(f"is compressed with {name}, which Corral does not unpack for archives; unpack it first")
        self._pieces = _UNPACK[name](Source(file.read, 0, file.size))
        self._rest = memoryview(b"")

    def read(self, size: int) -> bytes:
        """The next `size` bytes, fewer only at the end. For what is small."""
        parts = []
        while size and (piece := self.piece(size)):
            parts.append(bytes(piece))
            size -= len(piece)
        return b"".join(parts)

    def exactly(self, size: int) -> bytes:
        data = self.read(size)
        if len(data) < size:
            raise ends_early()
        return data

    def piece(self, most: int) -> memoryview:
        """Some of the next bytes, `most` or fewer; none only at the end."""
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return self._rest
            self._rest = memoryview(piece)
        taken, self._rest = self._rest[:most], self._rest[most:]
        return taken

    def skip(self, size: int) -> None:
        while size:
            piece = self.piece(size)
            if not piece:
                raise ends_early()
            size -= len(piece)

    def finish(self) -> None:
        """Reads what is behind the archive's end, where the checksums of the compression are."""
        left = _TAIL
        while left > 0 and (piece := self.piece(PIECE)):
            left -= len(piece)


def ends_early() -> Flaw:
    return Flaw("ends too early; download or make it again")


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


def _drain(form: str, new: Callable[[], Decoder], failure: type[Exception], source: Source) -> Iterator[bytes]:
    """Every stream of the file, one behind the other, as parallel compressors write them; zeros may follow."""
    data = source.read(_INPUT)
    while data:
        decoder = new()
        while not decoder.eof:
            if decoder.needs_input and not data:
                data = source.read(_INPUT)
            at_end = decoder.needs_input and not data
            try:
                piece = decoder.decompress(data, PIECE)
            except failure as error:
                raise Flaw(f"has damaged {form} data ({error}); download or make it again") from None
            if at_end and not piece and not decoder.eof:
                raise ends_early()
            data = b""
            if piece:
                yield piece
        data = decoder.unused_data.lstrip(b"\0")
        while not data and (more := source.read(_INPUT)):
            data = more.lstrip(b"\0")


def _gzip(source: Source) -> Iterator[bytes]:
    import zlib

    return _drain("gzip", _Gzip, zlib.error, source)


def _bzip2(source: Source) -> Iterator[bytes]:
    import bz2

    return _drain("bzip2", bz2.BZ2Decompressor, OSError, source)


def _xz(source: Source) -> Iterator[bytes]:
    import lzma

    def new() -> Decoder:
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=(1 << _WINDOW_LOG) + (8 << 20))

    return _drain("xz", new, lzma.LZMAError, source)


def _zstd(source: Source) -> Iterator[bytes]:
    import sys

    if sys.version_info >= (3, 14):
        from compression import zstd

        options = {zstd.DecompressionParameter.window_log_max: _WINDOW_LOG}
        yield from _drain("zstd", lambda: zstd.ZstdDecompressor(options=options), zstd.ZstdError, source)
        return
    try:
        import zstandard
    except ImportError:
        from corral.errors import HostError

        raise HostError("the archive is compressed with zstd; install its package: pip install zstandard") from None
    decoder = zstandard.ZstdDecompressor(max_window_size=1 << _WINDOW_LOG)
    with decoder.stream_reader(source, read_size=_INPUT, read_across_frames=True) as reader:  # type: ignore[arg-type]
        while True:
            try:
                piece = reader.read(PIECE)
            except zstandard.ZstdError as error:
                raise Flaw(f"has damaged zstd data ({error}); download or make it again") from None
            if not piece:
                return
            yield piece


def _stored(source: Source) -> Iterator[bytes]:
    while piece := source.read(PIECE):
        yield piece


_UNPACK = {"gzip": _gzip, "bzip2": _bzip2, "xz": _xz, "zstd": _zstd, "stored": _stored}
