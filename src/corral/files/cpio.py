"""cpio archives of the form "newc", as an initramfs is one: read, and written.

Source: Documentation/driver-api/early-userspace/buffer-format.rst. Content and headers begin at multiples of 4 bytes.
"""

from __future__ import annotations

from corral.files import magic
from corral.files.file import Flaw

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Protocol

    class Cursor(Protocol):
        """A place in an archive. `position` counts from its file's start; Flaw where the archive ends too early."""

        @property
        def position(self) -> int: ...
        def exactly(self, size: int) -> bytes: ...
        def skip(self, size: int) -> None: ...
        def align(self) -> None:
            """To a multiple of 4, or to the end if that comes before."""


HEADER = 110  # bytes
LONGEST_NAME = 4096  # bytes, with the NUL: Linux passes over what has a longer one
TRAILER = "TRAILER!!!"


def names(archive: Cursor) -> Iterator[str]:
    """The names in the archive that begins at the cursor, "" for one that Linux passes over. The last is TRAILER, and
    then the cursor is behind the archive. Raises Flaw."""
    while True:
        size, name_size = _sizes(archive.exactly(HEADER), archive.position - HEADER)
        name = ""
        if 0 < name_size <= LONGEST_NAME:
            name = archive.exactly(name_size).partition(b"\0")[0].decode(errors="replace")
        else:
            archive.skip(name_size)
        archive.align()
        if name != TRAILER:
            archive.skip(size)
            archive.align()
        yield name
        if name == TRAILER:
            return


def _sizes(header: bytes, position: int) -> tuple[int, int]:
    """The sizes of an entry's content and name."""
    # isalnum() keeps out the signs and spaces that int() would take for part of a number.
    if header.startswith(magic.CPIO) and header.isalnum():
        try:
            return int(header[54:62], 16), int(header[94:102], 16)
        except ValueError:
            pass
    raise Flaw(f"has a damaged cpio header at {position:#x}; copy or build it again")


def entry(name: str, mode: int, data: bytes = b"", device: tuple[int, int] = (0, 0)) -> bytes:
    """One file to be put into an archive, owned by root. A link's target is its data. Each is an inode of its own."""
    inode = uid = gid = mtime = checksum = 0
    fields = (inode, mode, uid, gid, 1, mtime, len(data), 0, 0, *device, len(name) + 1, checksum)
    header = magic.CPIO[0] + "".join(f"{field:08x}" for field in fields).encode() + name.encode() + b"\0"
    return _padded(header) + _padded(data)


def trailer() -> bytes:
    """What ends an archive."""
    return entry(TRAILER, 0)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
