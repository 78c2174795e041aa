"""What an image is made of, from wherever it is: its documents, and its layers one by one."""

from __future__ import annotations

import hashlib

from corral.files import decompress, magic
from corral.files.file import Flaw, ImageFile
from corral.files.stream import Stream
from corral.files.tar import Archive
from corral.oci import documents

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from corral.oci.layers import Layers

_SMALL = 1 << 30  # bytes that any layer may unpack to, and how many times its size a larger one may:
_RATIO = 200
_OTHER = "damaged, or another; build or fetch it again"


class Contents:
    """One image. `digest` is its manifest's; `layers` has each layer's digest as it is stored, or None where only that
    of what it unpacks to is known. Raises Flaw for a configuration that cannot be used."""

    def __init__(
        self,
        digest: str,
        config: dict[str, Any],
        layers: tuple[documents.Descriptor | None, ...],
        path: Callable[[int], str],
    ) -> None:
        """`path` gives the file of a layer, by its number; it may have to fetch it."""
        self.digest = digest
        self.config = documents.image_config(config)
        self._layers = layers
        self._diff_ids = documents.diff_ids(config, len(layers))
        self._path = path

    def apply(self, tree: Layers, progress: Callable[[str], None]) -> None:
        """All layers to a tree, each compared with its digests. Raises Flaw, BootError, HostError."""
        count = len(self._layers)
        for number, (stored, diff_id) in enumerate(zip(self._layers, self._diff_ids, strict=True), 1):
            with ImageFile(self._path(number - 1), "layer") as file:
                try:
                    reader = _Reader(file, f"unpacking layer {number} of {count}", progress)
                    reader.apply(tree)
                    reader.require(stored, diff_id)
                except Flaw as flaw:
                    raise Flaw(f"layer {number} of {count}: {flaw}") from None
                file.require_unchanged()


class _Reader:
    """A layer, read once: what is packed and what it unpacks to are hashed on the way."""

    def __init__(self, file: ImageFile, what: str, progress: Callable[[str], None]) -> None:
        self._file, self._what, self._progress = file, what, progress
        self._packed, self._unpacked = hashlib.sha256(), hashlib.sha256()
        self._form = decompress.FORMATS.get(magic.compression(file.head(decompress.MAGIC_SIZE)))
        self._source = decompress.Source(self._read, 0, file.size)
        self._pieces = self._unpack()

    def apply(self, tree: Layers) -> None:
        archive = Archive(Stream(self._pieces), vouched_for=True)  # by its digest
        tree.take((member, archive.data(member)) for member in archive)

    def require(self, stored: documents.Descriptor | None, diff_id: str) -> None:
        for _ in self._pieces:  # to the end, for the digests
            pass
        while self._source.read(decompress.PIECE):
            pass
        if _text(self._unpacked) != diff_id:
            raise Flaw(f"unpacks to {_text(self._unpacked)}, and not {diff_id}: {_OTHER}")
        packed = _text(self._packed if self._form else self._unpacked)
        if stored is not None and (packed, self._file.size) != (stored.digest, stored.size):
            raise Flaw(f"is {packed} of {self._file.size} bytes, and not {stored.digest} of {stored.size}: {_OTHER}")

    def _read(self, offset: int, size: int) -> bytes:
        data = self._file.read(offset, size)
        if self._form:
            self._packed.update(data)
        self._progress(f"{self._what}, {100 * offset // self._file.size} %")
        return data

    def _unpack(self) -> Iterator[bytes]:
        if self._form:
            pieces = decompress.unpack(self._form, self._source, streams=True)
        else:
            pieces = decompress.stored(self._source)
        left = _SMALL + _RATIO * self._file.size
        for piece in pieces:
            self._unpacked.update(piece)
            left -= len(piece)
            if left < 0:
                raise Flaw(f"unpacks to more than {_RATIO} times its size, as a bomb does; build the image again")
            yield piece


def _text(digest: hashlib._Hash) -> str:
    return f"sha256:{digest.hexdigest()}"
