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
    """What is to be ready before a machine with `memory` bytes is paused, which is to be saved at `path`: the snapshot
    `parent`, if it is to have one. A context manager. Raises BootError, ConfigError."""

    def __init__(self, path: str, parent: str | None, memory: int) -> None:
        import json  # noqa: F401  (file.dump() does, and takes milliseconds for it)

        self.record: Parent | None = None
        self.chain: Chain | None = None
        self._files: list[SnapshotFile] = []
        try:
            if parent is not None:
                self._open(path, parent, memory)
        except BaseException:
            self.__exit__()
            raise

    def _open(self, path: str, parent: str, memory: int) -> None:
        one = SnapshotFile(parent, lock=False)
        self._files.append(one)
        self._files += Line(one, _parent(one, memory), memory).files
        if len(self._files) > MOST:
            raise ConfigError(f"{parent!r} has {MOST} parents already; save one without")
        if any(other.is_at(path) for other in self._files):
            raise ConfigError(f"{path!r} is needed by the snapshot that would replace it; name another file")
        self.record = Parent(os.path.abspath(parent), one.digest, *one.identity())
        self.chain = Chain([other.layer_of_ram() for other in self._files])

    @property
    def paths(self) -> tuple[str, ...]:
        """Those of the parent, its parent and so on."""
        return tuple(one.path for one in self._files)

    def __enter__(self) -> Base:
        return self

    def __exit__(self, *exception: object) -> None:
        for one in self._files:
            one.close()


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
