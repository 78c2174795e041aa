"""Which kernel a vmlinux is: the build ID that the linker left in it (elf(5), "Notes"), or else all of its content."""

from __future__ import annotations

from corral.files import elf, magic
from corral.files.file import Flaw, ImageFile

_GNU, _BUILD_ID = b"GNU\0", 3  # the name and the type of its note
_SIZE = 20
_PIECE = 1 << 20


def of(path: str) -> bytes:
    """Raises BootError for a file that cannot be read."""
    with ImageFile(path, "kernel") as file:
        return _build_id(file) or _digest(file)


def _build_id(file: ImageFile) -> bytes:
    head = file.head(elf.HEAD)
    if not head.startswith(magic.ELF):
        return b""
    try:
        for note in elf.notes(head, file.size, file.read):
            if (note.name, note.type, len(note.value)) == (_GNU, _BUILD_ID, _SIZE):
                return note.value
    except Flaw:  # what loads it says so
        pass
    return b""


def _digest(file: ImageFile) -> bytes:
    from hashlib import sha256

    digest = sha256()
    for at in range(0, file.size, _PIECE):
        digest.update(file.read(at, min(_PIECE, file.size - at)))
    return digest.digest()
