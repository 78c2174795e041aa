"""Where a store is: files with names, which are there whole or not at all."""

from __future__ import annotations

import os

from corral.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from corral.store.address import Address

    class Place(Protocol):
        """Names have slashes, and begin below the store's root. Any number of threads may call. Each method raises
        HostError when the store does not do it, but for what is said of it."""

        at_once: int  # calls that it is quicker with
        is_near: bool  # has() takes no time

        def read(self, name: str, most: int) -> bytes:
            """The file, or its first `most` + 1 bytes. Raises FileNotFoundError."""
            ...

        def write(self, name: str, data: bytes) -> None:
            """In place of what has that name."""
            ...

        def has(self, name: str) -> bool: ...

        def files(self, folder: str) -> dict[str, float]:
            """Names below the folder, from the root on, and when each was written, in seconds since 1970. Empty for a
            folder that is not there."""
            ...

        def remove(self, name: str) -> None:
            """One that is gone already is fine."""
            ...

        def settle(self) -> None:
            """Returns when what was written is there after a power cut."""
            ...


def opened(address: Address) -> Place:
    """Raises ConfigError, HostError."""
    if not address.scheme:
        return Folder(address.root)
    from corral.store.remote import Remote

    return Remote(address)


class Folder:
    """A folder of this host."""

    at_once, is_near = 4, True

    def __init__(self, root: str) -> None:
        self._root = root
        self._made: set[str] = set()

    def read(self, name: str, most: int) -> bytes:
        try:
            fd = os.open(self._path(name), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise self._failed(error) from None
        try:
            with open(fd, "rb", buffering=0) as file:
                found = bytearray()
                while len(found) <= most and (piece := file.read(min(most + 1 - len(found), 16 << 20))):
                    found += piece
                return bytes(found)
        except OSError as error:
            raise self._failed(error) from None

    def write(self, name: str, data: bytes) -> None:
        path = self._path(name)
        beside = f"{path}.unfinished-{os.urandom(8).hex()}"
        try:
            self._make(os.path.dirname(path))
            try:
                with open(beside, "xb", buffering=0) as file:
                    rest = memoryview(data)
                    while rest:
                        rest = rest[file.write(rest) :]
                os.rename(beside, path)
            except BaseException:
                if os.path.lexists(beside):
                    os.unlink(beside)
                raise
        except OSError as error:
            raise self._failed(error) from None

    def has(self, name: str) -> bool:
        return os.path.exists(self._path(name))

    def files(self, folder: str) -> dict[str, float]:
        def fail(error: OSError) -> None:
            if not isinstance(error, FileNotFoundError):
                raise error

        found = {}
        try:
            for parent, _, names in os.walk(self._path(folder), onerror=fail):
                for name in names:
                    path = os.path.join(parent, name)
                    try:
                        found[os.path.relpath(path, self._root)] = os.stat(path).st_mtime
                    except FileNotFoundError:  # another process has removed or renamed it
                        pass
        except OSError as error:
            raise self._failed(error) from None
        return found

    def remove(self, name: str) -> None:
        try:
            os.unlink(self._path(name))
        except FileNotFoundError:
            pass
        except OSError as error:
            raise self._failed(error) from None

    def settle(self) -> None:
        """By syncfs(2), which is quicker than fsync for hundreds of files."""
        import ctypes

        try:
            fd = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise self._failed(error) from None
        try:
            if ctypes.CDLL(None, use_errno=True).syncfs(fd):
                number = ctypes.get_errno()
                raise self._failed(OSError(number, os.strerror(number)))
        finally:
            os.close(fd)

    def _path(self, name: str) -> str:
        return os.path.join(self._root, name)

    def _make(self, folder: str) -> None:
        if folder not in self._made:
            os.makedirs(folder, exist_ok=True)
            self._made.add(folder)

    def _failed(self, error: OSError) -> HostError:
        from corral import os_errors

        cure = os_errors.text(error, "see who may use it, and whether there is room")
        return HostError(f"the store {self._root!r}: {cure}")
