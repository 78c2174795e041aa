"""Snapshots with a parent: only pages that differ from the parent's are in the file, and the parent stays where it is.

A parent is known again by its description's SHA-256, its size and the time of its last write.
"""

from __future__ import annotations

import os
import stat

from corral.errors import BootError, ConfigError
from corral.snapshot import values
from corral.snapshot.file import SnapshotFile
from corral.snapshot.ram import Chain
from corral.startup.record import record

MOST = 32  # generations: each is an open file, and a guest's pages lie scattered over them


@record(frozen=True)
class Parent:
    """`path` is absolute; `size` in bytes, `written` in nanoseconds since 1970."""

    path: str
    digest: bytes
    size: int
    written: int


RECORDS: dict[str, type] = {"Parent": Parent}


class Line:
    """A snapshot's parent, the parent's parent and so on, open; empty for one that has all of its pages. Raises
    BootError for one that is missing or is not what it was, `source` being whose line it is."""

    def __init__(self, source: SnapshotFile, parent: Parent | None, memory: int) -> None:
        self.files: list[SnapshotFile] = []
        try:
            while parent:
                if len(self.files) == MOST:
                    raise source.error(f"has more than {MOST} parents; save one without")
                self.files.append(_open(source, parent))
                parent = _parent(self.files[-1], memory)
        except BaseException:
            self.close()
            raise

    def another(self) -> Line:
        """The same once more, to be closed by itself."""
        other = object.__new__(type(self))
        other.files = [one.another() for one in self.files]
        return other

    def close(self) -> None:
        for one in self.files:
            one.close()


class Base:
    """The snapshot at `path`, as the parent of one that is to be saved, of a machine with `memory` bytes. A context
    manager. Raises BootError, ConfigError."""

    def __init__(self, path: str, memory: int) -> None:
        self._file = SnapshotFile(path, lock=False)
        try:
            self._line = Line(self._file, _parent(self._file, memory), memory)
        except BaseException:
            self._file.close()
            raise
        self.record = Parent(os.path.abspath(path), self._file.digest, *self._file.identity())
        self.chain = Chain([one.layer_of_ram() for one in (self._file, *self._line.files)])
        self.generations = 1 + len(self._line.files)

    def require_other(self, path: str) -> None:
        """Than what is at `path`, which is to be replaced. Raises ConfigError."""
        if self.generations >= MOST:
            raise ConfigError(f"{self._file.path!r} has {self.generations - 1} parents already; save one without")
        if any(one.is_at(path) for one in (self._file, *self._line.files)):
            raise ConfigError(f"{path!r} is needed by the snapshot that would replace it; name another file")

    def __enter__(self) -> Base:
        return self

    def __exit__(self, *exception: object) -> None:
        self._line.close()
        self._file.close()


def _open(source: SnapshotFile, parent: Parent) -> SnapshotFile:
    try:
        if not stat.S_ISREG(os.stat(parent.path).st_mode):
            raise source.error(f"its parent {parent.path!r} is no file any more; put it back")
        found = SnapshotFile(parent.path, lock=False)
    except OSError as error:
        raise source.error(f"its parent {parent.path!r}: {error.strerror}; put it back") from None
    except BootError as error:
        raise source.error(f"its parent, {error}") from None
    if (found.digest, *found.identity()) != (parent.digest, parent.size, parent.written):
        found.close()
        raise source.error(f"its parent {parent.path!r} is not what it was; put that back, or save this one anew")
    return found


def _parent(source: SnapshotFile, memory: int) -> Parent | None:
    """That of a file that is a parent itself. Raises BootError."""
    plain = source.plain()
    guest = plain.get("guest") if isinstance(plain, dict) else None
    if not isinstance(plain, dict) or not isinstance(guest, dict) or guest.get("memory") != memory:
        raise source.error(f"its guest has not the same memory, {memory >> 20} MiB; it cannot be a parent here")
    try:
        found: Parent | None = values.from_plain("Parent | None", plain.get("parent"), RECORDS)
    except BootError as error:
        raise source.error(str(error)) from None
    source.require_ram(memory, found is not None)
    return found
