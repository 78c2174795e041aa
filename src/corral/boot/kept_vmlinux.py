"""The kernel that was unpacked last, in memory: before a boot several look through it, and to unpack it takes longer
than all else of a start."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from corral.files.file import ImageFile

_PIECE = 1 << 20
_kept: list[tuple[object, int]] = []  # whose it is, and a file in memory; one at most


def pieces(file: ImageFile) -> Iterator[bytes] | None:
    """What is packed in that file, if it is kept."""
    return _read(_kept[0][1]) if _kept and _kept[0][0] == file.identity else None


def _read(fd: int) -> Iterator[bytes]:
    own = os.dup(fd)  # forget() may come meanwhile
    try:
        at = 0
        while piece := os.pread(own, _PIECE, at):
            yield piece
            at += len(piece)
    finally:
        os.close(own)


def keeping(file: ImageFile, unpacked: Iterator[bytes]) -> Iterator[bytes]:
    """The same pieces. Who takes them to the end has them kept; a file that is not to be had keeps nothing."""
    forget()
    try:
        fd = os.memfd_create("vmlinux", os.MFD_CLOEXEC)
    except OSError:
        yield from unpacked
        return
    done = False
    try:
        for piece in unpacked:
            rest = memoryview(piece)
            while rest:
                rest = rest[os.write(fd, rest) :]
            yield piece
        _kept[:] = [(file.identity, fd)]
        done = True
    finally:
        if not done:
            os.close(fd)


def forget() -> None:
    for _, fd in _kept:
        os.close(fd)
    _kept.clear()
