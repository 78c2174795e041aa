"""Opening the files that a person names, and reading them without trusting their size or their kind."""

from __future__ import annotations

import errno
import os
import stat

from corral.errors import SCARCE, BootError, HostError

_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a pipe (FIFO)",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
    stat.S_IFSOCK: "a socket",
}

_CURES = {
    errno.ENOENT: "no such file; check the path",
    errno.ENOTDIR: "a part of the path is not a directory; check the path",
    errno.ELOOP: "symbolic links form a loop; check the path",
    errno.ENAMETOOLONG: "the name is too long; check the path",
    errno.EACCES: "no permission to read it; run chmod, or copy it to a place of your own",
}


def printable(path: str) -> str:
    """A file's name for a message of one line: quoted when it has characters that would break the line."""
    return path if path and path.isprintable() else repr(path)


class Flaw(Exception):
    """What is wrong with a file, and what to do; becomes a BootError where the file's name is known."""


class ImageFile:
    """A regular file, open for reading until close() or the end of its `with` block.

    `role` is what the file is to its user ("kernel", "initrd"), for messages. Every error is a BootError that
    names the file. Nothing but a regular file is ever opened: opening a device can act on it, opening a FIFO
    can wait forever.
    """

    __slots__ = ("_fd", "_stamp", "path", "role", "size")

    def __init__(self, path: str | os.PathLike[str], role: str) -> None:
        self.path = os.fsdecode(path)
        self.role = role
        try:
            self._require_regular(os.stat(self.path))
            # The path may have become something else since: O_NONBLOCK keeps a FIFO from blocking us.
            flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
            self._fd = os.open(self.path, flags)
        except OSError as error:
            if error.errno in SCARCE:
                from corral import os_errors

                raise os_errors.explained(error) or error from None
            raise self.error(_CURES.get(error.errno or 0) or f"{error.strerror}; check the path") from None
        except ValueError:
            raise self.error("a path cannot hold a null character; check the path") from None
        try:
            status = os.fstat(self._fd)
            self._require_regular(status)
            self.size = status.st_size
            self._stamp = (status.st_size, status.st_mtime_ns)
            if self.size == 0:
                raise self.error("is empty; copy or download it again")
        except BaseException:
            os.close(self._fd)
            raise

    def __enter__(self) -> ImageFile:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; a second time does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    @property
    def identity(self) -> tuple[int, int, int, int]:
        """Of this file as it is now: another one, or another content, has another."""
        status = os.fstat(self._fd)
        return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns

    def error(self, message: str) -> BootError:
        """An error about this file, to be raised; `message` says what is wrong and what to do."""
        return BootError(f"{self.role} {printable(self.path)}: {message}")

    def head(self, length: int) -> bytes:
        """Up to `length` bytes from the start: fewer where the file is shorter."""
        return self.read(0, min(length, self.size))

    def read(self, offset: int, length: int) -> bytes:
        """Exactly `length` bytes at `offset`; the caller knows that the file had them when it was opened."""
        data = bytearray(length)
        self.read_into(offset, memoryview(data))
        return bytes(data)

    def read_into(self, offset: int, view: memoryview) -> None:
        """Fill `view` from `offset`; an error if the file has become shorter."""
        done = 0
        while done < len(view):
            try:
                count = os.preadv(self._fd, [view[done:]], offset + done)
            except OSError as error:
                if error.errno in (errno.EFAULT, errno.ENOMEM):  # `view` is guest RAM that the host has no page for
                    raise HostError(f"no memory for the {self.role}: {error.strerror}; free some") from None
                raise self._unreadable(error) from None
            if count == 0:
                raise self._shrunk()
            done += count

    def require_unchanged(self) -> None:
        """An error if somebody wrote the file since it was opened."""
        status = os.fstat(self._fd)
        if (status.st_size, status.st_mtime_ns) != self._stamp:
            raise self.error("changed while it was loaded; wait until its writer is done and try again")

    def _unreadable(self, error: OSError) -> BootError:
        return self.error(f"cannot be read ({error.strerror}); check its disk or copy it again")

    def _shrunk(self) -> BootError:
        return self.error("became shorter while it was read; wait until its writer is done and try again")

    def _require_regular(self, status: os.stat_result) -> None:
        if not stat.S_ISREG(status.st_mode):
            kind = _KINDS.get(stat.S_IFMT(status.st_mode), "a special file")
            raise self.error(f"is {kind}; name a regular file (copy its content to one)")
