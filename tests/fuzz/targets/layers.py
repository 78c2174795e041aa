"""Layers of a container image, to a file system: refused in one line, or an EROFS image that a reader finds sound."""

from __future__ import annotations

import os
from pathlib import Path

from corral.files.file import Flaw
from corral.files.stream import Stream
from corral.files.tar import Archive
from corral.images.erofs import Writer
from corral.oci.layers import Layers
from tests.fuzz.targets import MemoryFile, one_line
from tests.support import erofs_reader
from tests.support.container_images import folder, layer, link, text

LONGEST = 8192
CONCERNED = ("corral.files.tar", "corral.files.xattr", "corral.images.erofs", "corral.oci.layers")
_LIMIT = 4 << 20
_file = MemoryFile()
_BETWEEN = b"\xfe\xed\xfa\xce"  # layers


def one(data: bytes) -> None:
    fd = os.open(_file.put(b""), os.O_RDWR)
    try:
        tree = Layers(Writer(fd, _LIMIT, "too large"))
        for part in data.split(_BETWEEN)[:8]:
            archive = Archive(Stream(iter([part] if part else [])))
            tree.take((member, archive.data(member)) for member in archive)
        tree.finish()
    except Flaw as flaw:
        one_line(flaw)
        assert os.fstat(fd).st_size <= _LIMIT
        return
    finally:
        os.close(fd)
    for name in erofs_reader.read(Path(_file.path)):
        assert not any(part.startswith(".wh.") for part in name.split("/"))


def _small(*files: bytes) -> bytes:
    return _BETWEEN.join(data.rstrip(b"\0") + bytes(1024) for data in files)


SEEDS = [
    _small(layer(folder("d"), text("d/a", "1"), link("l", "d"), link("h", "d/a", hard=True))),
    _small(layer(text("d/a", "1"), text("d/b", "2")), layer(text("d/.wh.a"), text("l/c", "3"))),
    _small(layer(text("d/a", "1")), layer(text("d/.wh..wh..opq"), text("d/x", "y" * 3000)), layer(text(".wh.d"))),
]
