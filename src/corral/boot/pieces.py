"""An injection: pieces that replace what is in guest memory once a kernel has been loaded; and its file."""

from __future__ import annotations

import struct

from corral.files.file import Flaw, ImageFile
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.memory import GuestMemory

_MAGIC = b"corral injection 1\n"
_PIECE = struct.Struct("<QI")  # physical address, length; then the bytes that are there, and those that come there
MAX_SIZE = 1 << 20  # of a file; one has 20 KB


@record(frozen=True)
class Piece:
    """`new` comes where `old` is, at a guest physical address."""

    HEX = ("address",)

    address: int
    old: bytes
    new: bytes


def pack(pieces: list[Piece]) -> bytes:
    content = [_MAGIC]
    for piece in pieces:
        assert len(piece.old) == len(piece.new)
        content += [_PIECE.pack(piece.address, len(piece.new)), piece.old, piece.new]
    return b"".join(content)


def unpack(content: bytes) -> list[Piece]:
    """Raises Flaw."""
    pieces, at = [], len(_MAGIC)
    if not content.startswith(_MAGIC):
        raise Flaw("is none; remove it")
    while at < len(content):
        if len(content) - at < _PIECE.size:
            raise Flaw("is cut off; remove it")
        address, length = _PIECE.unpack_from(content, at)
        at += _PIECE.size
        if len(content) - at < 2 * length:
            raise Flaw("is cut off; remove it")
        pieces.append(Piece(address, content[at : at + length], content[at + length : at + 2 * length]))
        at += 2 * length
    return pieces


def inject(path: str, memory: GuestMemory) -> None:
    """Puts what the file at `path` has into memory, where its kernel was just loaded. Raises BootError for a file that
    is damaged or was made for another kernel; nothing is changed then."""
    with ImageFile(path, "injection") as file:
        try:
            if file.size > MAX_SIZE:
                raise Flaw("is too large; remove it")
            pieces = unpack(file.read(0, file.size))
            for piece in pieces:
                if _bytes_at(piece, memory) != piece.old:
                    raise Flaw(f"is for another kernel, by what is at {piece.address:#x}; remove it")
        except Flaw as flaw:
            raise file.error(str(flaw)) from None
    for piece in pieces:
        memory.write(piece.address, piece.new)


def _bytes_at(piece: Piece, memory: GuestMemory) -> bytes:
    from corral.memory import GuestMemoryError

    try:
        return memory.read(piece.address, len(piece.old))
    except GuestMemoryError:
        return b""
