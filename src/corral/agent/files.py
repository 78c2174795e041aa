"""Files of a guest: read, written, looked at, listed, and copied with all that is below them."""

from __future__ import annotations

import os
import stat
import struct
import time

from corral.agent.connection import (
    DATA,
    END,
    ENTRY,
    HOLE,
    LIST,
    MAKE,
    MOST,
    MOUNT,
    PACK,
    READ,
    REMOVE,
    STAT,
    UNMOUNT,
    UNPACK,
    WRITE,
    AgentError,
    Connection,
)
from corral.errors import ConfigError, HostError
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Connect = Callable[[], Connection]
    Progress = Callable[[int], object]  # gets bytes so far

_ENTRY = struct.Struct("<IIIQqIIIHH")
LONGEST_NAME = 4096
MOST_ENTRIES = 1_000_000  # of a folder's list, that are kept
MOST_READ = 1 << 30  # bytes that read() keeps, unless it is told otherwise


@record(frozen=True)
class FileInfo:
    """`mode` with its kind (stat.S_ISDIR and the like), `size` in bytes, `modified` in seconds since 1970; `target` is
    what a symbolic link points to."""

    name: str
    mode: int
    uid: int
    gid: int
    size: int
    modified: float
    target: str

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.mode)


def _ignore(size: int) -> None:
    """For those who have not asked."""


class Files:
    """`connect` makes a connection to the guest's agent, one for each call. All raise AgentError, GuestTimeout, and
    Refused for what the guest says no to."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect

    def read(self, path: str, most: int = MOST_READ) -> bytes:
        """A whole file. Raises AgentError for one of more than `most` bytes."""
        content = bytearray()
        for piece in self.stream(path):
            content += piece
            if len(content) > most:
                raise AgentError(f"{path} has more than {most} bytes")
        return bytes(content)

    def stream(self, path: str) -> Iterator[bytes]:
        """A file's content in pieces."""
        with self._connect() as connection:
            connection.ask(READ, _path(path))
            while True:
                kind, payload = connection.expect(DATA, END)
                if kind == END:
                    return
                yield payload

    def write(self, path: str, content: bytes, mode: int = 0o644, append: bool = False) -> None:
        """Makes the file, with that mode, or takes the place of its content; or goes behind it."""
        with self._connect() as connection:
            connection.ask(WRITE, struct.pack("<II", mode & 0o7777, append) + _path(path))
            for at in range(0, len(content), MOST):
                connection.send(DATA, content[at : at + MOST])
            connection.ask(END)

    def stat(self, path: str) -> FileInfo:
        """Of a link itself."""
        with self._connect() as connection:
            return _info(connection.ask(STAT, _path(path)))[0]

    def list(self, path: str) -> list[FileInfo]:
        """What is in a folder, by name."""
        found: list[FileInfo] = []
        with self._connect() as connection:
            connection.ask(LIST, _path(path))
            while True:
                kind, payload = connection.expect(ENTRY, END)
                if kind == END:
                    return sorted(found, key=lambda one: one.name)
                if len(found) == MOST_ENTRIES:
                    raise AgentError(f"{path} has more than {MOST_ENTRIES} entries")
                found.append(_info(payload)[0])

    def mkdir(self, path: str, mode: int = 0o755) -> None:
        """With the folders above it; one that is there is no error."""
        with self._connect() as connection:
            connection.ask(MAKE, (mode & 0o7777).to_bytes(4, "little") + _path(path))

    def remove(self, path: str) -> None:
        """A file, a link, or a folder with nothing in it."""
        with self._connect() as connection:
            connection.ask(REMOVE, _path(path))

    def mount(self, source: str, target: str, kind: str, options: str = "", read_only: bool = False) -> None:
        """A file system at the folder `target`, which is made when it is not there; `options` are those of its kind, as
        mount(2) has them."""
        words = [_path(source), _path(target), os.fsencode(kind), os.fsencode(options)]
        if any(b"\0" in word for word in words):
            raise ConfigError(f"{kind!r}, {options!r}: there is no such kind of file system")
        with self._connect() as connection:
            connection.ask(MOUNT, read_only.to_bytes(4, "little") + b"".join(word + b"\0" for word in words))

    def unmount(self, target: str) -> None:
        with self._connect() as connection:
            connection.ask(UNMOUNT, _path(target))

    def upload(self, source: str | os.PathLike[str], target: str, progress: Progress = _ignore) -> int:
        """Copies a file or folder of this host to the path `target`, with modes, times, links and holes; owned by root.
        Returns how many bytes. Raises ConfigError for a source that cannot be read."""
        source = os.fspath(source)
        with self._connect() as connection:
            connection.ask(UNPACK, _path(target))
            sent = _Sender(connection, progress).send_tree(source)
            connection.ask(END)
            return sent

    def download(self, source: str, target: str | os.PathLike[str], progress: Progress = _ignore) -> int:
        """Copies a file or folder of the guest to the path `target` of this host, with modes, times, links and holes;
        owned by this process's user, without set-id bits, and without devices. Returns how many bytes. Raises
        HostError for a target that cannot be written."""
        with self._connect() as connection:
            connection.ask(PACK, _path(source))
            receiver = _Receiver(os.fspath(target))
            try:
                while True:
                    kind, payload = connection.expect(ENTRY, DATA, HOLE, END)
                    if kind == END:
                        receiver.finish()
                        return receiver.size
                    receiver.take(kind, payload)
                    progress(receiver.size + receiver.position)
            except OSError as error:
                raise HostError(f"cannot write {receiver.at!r}: {error.strerror}; see the folder it is in") from error
            finally:
                receiver.close()


class _Sender:
    def __init__(self, connection: Connection, progress: Progress) -> None:
        self._connection, self._progress = connection, progress
        self._size = 0

    def send_tree(self, source: str) -> int:
        try:
            self._send(source, "")
        except OSError as error:
            raise ConfigError(f"cannot read {error.filename or source!r}: {error.strerror}") from error
        return self._size

    def _send(self, path: str, name: str) -> None:
        about = os.stat(path) if not name else os.lstat(path)
        link = os.readlink(path) if stat.S_ISLNK(about.st_mode) else ""
        names = os.fsencode(name), os.fsencode(link)
        if max(map(len, names)) > LONGEST_NAME:
            raise ConfigError(f"{path!r} has too long a name for the guest")
        seconds, rest = divmod(about.st_mtime_ns, 10**9)
        numbers = about.st_mode, 0, 0, about.st_size, seconds, rest, 0, 0, len(names[0]), len(names[1])
        if stat.S_ISREG(about.st_mode):
            with open(path, "rb") as file:
                self._connection.send(ENTRY, _ENTRY.pack(*numbers) + names[0] + names[1])
                self._send_content(file.fileno(), about.st_size)
            return
        self._connection.send(ENTRY, _ENTRY.pack(*numbers) + names[0] + names[1])
        if stat.S_ISDIR(about.st_mode):
            for entry in sorted(os.listdir(path)):
                self._send(os.path.join(path, entry), f"{name}/{entry}" if name else entry)

    def _send_content(self, fd: int, size: int) -> None:
        done = 0
        while done < size:
            try:
                data = min(size, os.lseek(fd, done, os.SEEK_DATA))
            except OSError:  # none follows
                data = size
            if data > done:
                self._connection.send(HOLE, (data - done).to_bytes(8, "little"))
            end = min(size, os.lseek(fd, data, os.SEEK_HOLE)) if data < size else size
            done = data
            while done < end:
                piece = os.pread(fd, min(MOST, end - done), done)
                if not piece:  # it has become shorter: the guest makes a hole there
                    return
                self._connection.send(DATA, piece)
                done += len(piece)
                self._progress(self._size + done)
        self._size += size


class _Receiver:
    """Below `target`, whatever names the guest says: each part of a name is opened without following links."""

    def __init__(self, target: str) -> None:
        self.at = self._target = target
        self._root = -1  # the folder, once there is one
        self._file = -1
        self._about: FileInfo | None = None
        self.position = 0
        self._modes: list[tuple[str, int]] = []  # of folders, set when all is in them
        self.size = 0

    def close(self) -> None:
        for fd in (self._file, self._root):
            if fd >= 0:
                os.close(fd)
        self._file = self._root = -1

    def take(self, kind: int, payload: bytes) -> None:
        if kind == ENTRY:
            self._finish_file()
            self._begin(*_info(payload))
        elif self._about is None or self._file < 0:
            raise AgentError("the guest's agent sends a content that is no file's")
        elif kind == DATA:
            if self.position + len(payload) > self._about.size:
                raise AgentError("the guest's agent sends more of a file than it has")
            view = memoryview(payload)
            while view:
                written = os.pwrite(self._file, view, self.position)
                view = view[written:]
                self.position += written
        else:
            self.position = min(self._about.size, self.position + int.from_bytes(payload[:8], "little"))

    def finish(self) -> None:
        self._finish_file()
        for name, mode in reversed(self._modes):
            folder, last = self._parent(name)
            try:
                os.chmod(last, mode, dir_fd=folder)
            finally:
                os.close(folder)
        if self._root >= 0:
            os.fchmod(self._root, self._root_mode)

    def _begin(self, about: FileInfo, link: bytes) -> None:
        name = about.name
        parts = name.split("/") if name else []
        if any(part in ("", ".", "..") for part in parts) or (parts and self._root < 0):
            raise AgentError("the guest's agent names a file that is none of what was asked for")
        self.at = os.path.join(self._target, name) if name else self._target
        mode = stat.S_IMODE(about.mode) & 0o777
        if not name and about.is_folder:
            os.makedirs(self._target, exist_ok=True)
            self._root = os.open(self._target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            self._root_mode = mode
            return
        folder, last = self._parent(name)
        try:
            self._make(folder, last, about, link, mode)
        finally:
            os.close(folder)

    def _make(self, folder: int, last: str, about: FileInfo, link: bytes, mode: int) -> None:
        if about.is_folder:
            try:
                os.mkdir(last, 0o700, dir_fd=folder)
            except FileExistsError:
                pass
            self._modes.append((about.name, mode))
            return
        if not (stat.S_ISREG(about.mode) or stat.S_ISLNK(about.mode)):
            return
        try:
            os.unlink(last, dir_fd=folder)
        except FileNotFoundError:
            pass
        if stat.S_ISLNK(about.mode):
            os.symlink(link, os.fsencode(last), dir_fd=folder)
            return
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._file = os.open(last, flags, mode | 0o200, dir_fd=folder)
        self._about, self.position = about, 0

    def _parent(self, name: str) -> tuple[int, str]:
        """The folder that a name is in, as a descriptor to close, and its last part."""
        if self._root < 0:
            head, last = os.path.split(self._target)
            return os.open(head or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), last
        *parts, last = name.split("/")
        folder = os.dup(self._root)
        for part in parts:
            try:
                deeper = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            finally:
                os.close(folder)
            folder = deeper
        return folder, last

    def _finish_file(self) -> None:
        if self._file < 0 or self._about is None:
            return
        os.ftruncate(self._file, self._about.size)  # a hole at its end
        os.fchmod(self._file, stat.S_IMODE(self._about.mode) & 0o777)
        os.utime(self._file, (time.time(), self._about.modified))
        os.close(self._file)
        self._file = -1
        self.size += self._about.size
        self.position = 0


def _path(path: str) -> bytes:
    raw = os.fsencode(path)
    if not raw or b"\0" in raw or len(raw) > LONGEST_NAME:
        raise ConfigError(f"{path!r} is no path of a guest")
    return raw


def _info(payload: bytes) -> tuple[FileInfo, bytes]:
    """And what a link points to, as it is."""
    if len(payload) < _ENTRY.size:
        raise AgentError("the guest's agent sends an entry that is cut off")
    mode, uid, gid, size, seconds, rest, _, _, name_size, link_size = _ENTRY.unpack_from(payload)
    names = payload[_ENTRY.size :]
    if len(names) != name_size + link_size or max(name_size, link_size) > LONGEST_NAME or b"\0" in names:
        raise AgentError("the guest's agent sends an entry that is cut off")
    if size >= 1 << 62 or abs(seconds) >= 1 << 40:
        raise AgentError("the guest's agent sends a size or a time that there is not")
    name, link = os.fsdecode(names[:name_size]), names[name_size:]
    return FileInfo(name, mode, uid, gid, size, seconds + rest / 10**9, os.fsdecode(link)), link
