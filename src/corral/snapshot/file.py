"""The file of a snapshot: a head, what the machine is and its state as JSON, and its RAM, sparse and page-aligned.

    offset 0   "CORRALSN", version (u32), length of the JSON (u32), its SHA-256
    offset 48  the JSON
    RAM        at the next multiple of 4 KiB, pages of zeros as holes

A file is immutable once it has its name: it is written beside, synced and renamed.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct

from corral.errors import SCARCE, BootError, ConfigError, HostError
from corral.guests import sources
from corral.memory import PAGE
from corral.native import check, ffi, lib
from corral.snapshot import values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.memory import GuestMemory

MAGIC = b"CORRALSN"
VERSION = 3
_HEAD = struct.Struct("<8sII32s")
NAME = "guest"  # of a snapshot that has a folder of its own
MOST_TEXT = 16 << 20  # bytes of the JSON: 1024 vCPUs fit


def write(path: str, content: str, memory: GuestMemory) -> int:
    """Publishes a snapshot at `path`; returns how many bytes of RAM are in it. Raises HostError, and leaves what was
    there before; ConfigError for a place where something else than a snapshot is."""
    if os.path.lexists(path) and not is_one(path):
        raise ConfigError(f"{path!r} is there and is no snapshot; name another file")
    beside = f"{path}.unfinished-{os.urandom(8).hex()}"
    try:
        fd = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            at = _begin(fd, content, memory)
            written = lib.corral_ram_save(
                fd, at, ffi.cast("void *", memory.host_address), memory.size, memory.is_mapped
            )
            if written < 0:
                raise OSError(-written, os.strerror(-written))
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(beside, path)
        _sync_folder(os.path.dirname(path) or ".")
    except OSError as error:
        from corral import os_errors

        cure = os_errors.text(error, "see who may write there, and whether there is room")
        raise HostError(f"cannot write the snapshot {path!r}: {cure}") from None
    finally:
        if os.path.lexists(beside):
            os.unlink(beside)
    return int(written)


def write_behind(folder: str, others: dict[str, bytes], content: str, memory: GuestMemory) -> None:
    """Makes the folder `folder` with a snapshot in it, called NAME, and with files of these names, in a process that
    takes over: what the memory holds then does not change for it. The snapshot is locked until it is done; then
    `folder` is there, or nothing. Raises HostError."""
    beside = f"{folder}.unfinished-{os.urandom(8).hex()}"
    try:
        os.makedirs(beside)
        for name, text in others.items():
            with open(os.path.join(beside, name), "wb") as other:
                other.write(text)
        fd = os.open(os.path.join(beside, NAME), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        _forget(beside)
        raise HostError(f"{beside!r}: {error.strerror}") from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        at = _begin(fd, content, memory)
        host = ffi.cast("void *", memory.host_address)
        names = (os.fsencode(beside), os.fsencode(folder))
        result = lib.corral_ram_save_behind(fd, at, host, memory.size, memory.is_mapped, *names)
        if result < 0:
            raise OSError(-result, os.strerror(-result))
    except OSError as error:
        _forget(beside)
        raise HostError(f"{folder!r}: {error.strerror}") from None
    finally:
        os.close(fd)


def _forget(folder: str) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)


def _begin(fd: int, content: str, memory: GuestMemory) -> int:
    """Writes all but the RAM. Returns where that is to be."""
    text = content.encode()
    _write_all(fd, _HEAD.pack(MAGIC, VERSION, len(text), bytes.fromhex(sources.sha256(text))) + text)
    at = _ram_offset(len(text))
    os.ftruncate(fd, at + memory.size)
    return at


class SnapshotFile:
    """An open snapshot. Raises BootError for what is none, or none of this version."""

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        except OSError as error:
            if error.errno in SCARCE:
                raise
            raise self.error(f"{error.strerror}; check the path") from None
        except ValueError:
            raise self.error("a path cannot hold a null character; check the path") from None
        try:
            fcntl.flock(self._fd, fcntl.LOCK_SH | fcntl.LOCK_NB)  # it is in use
        except OSError:  # by somebody who is about to remove it, which harms no guest, or on a file system without
            pass
        try:
            self.text = self._read()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        os.close(self._fd)

    def __enter__(self) -> SnapshotFile:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def error(self, what: str) -> BootError:
        return BootError(f"snapshot {self.path!r}: {what}")

    def plain(self) -> object:
        """The JSON's value. Raises BootError."""
        try:
            return _parse(self.text.decode())
        except (ValueError, RecursionError, StopIteration):
            raise self.error("its description is no JSON; save it again") from None

    def map(self, memory: GuestMemory) -> None:
        """Puts its RAM into a machine's memory: what the guest writes there stays out of the file. Raises BootError."""
        if self._ram_size != memory.size:
            raise self.error(f"has {self._ram_size >> 20} MiB of RAM, and the machine {memory.size >> 20}")
        check("mmap", lib.corral_ram_map(ffi.cast("void *", memory.host_address), memory.size, self._fd, self._ram_at))
        memory.is_mapped = True

    def _read(self) -> bytes:
        status = os.fstat(self._fd)
        if not stat.S_ISREG(status.st_mode):
            raise self.error("is no file; name one that corral snapshot has made")
        head = os.pread(self._fd, _HEAD.size, 0)
        if len(head) < _HEAD.size or head[: len(MAGIC)] != MAGIC:
            raise self.error("is no snapshot; make one: corral snapshot")
        _, version, length, digest = _HEAD.unpack(head)
        if version != VERSION:
            age = "a newer" if version > VERSION else "an older"
            raise self.error(f"is of {age} version of the format ({version}, not {VERSION}); save it with this Corral")
        if length > MOST_TEXT:
            raise self.error(f"its description has {length} bytes, at most {MOST_TEXT}; save it again")
        text = os.pread(self._fd, length, _HEAD.size)
        if len(text) < length:
            raise self.error("is cut off; save it again")
        if bytes.fromhex(sources.sha256(text)) != digest:
            raise self.error("has been changed or damaged; save it again")
        self._ram_at = _ram_offset(length)
        self._ram_size = status.st_size - self._ram_at
        if self._ram_size <= 0 or self._ram_size % PAGE:
            raise self.error("is cut off; save it again")
        return text


def is_one(path: str) -> bool:
    """Whether the file at `path` begins as a snapshot does."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except (OSError, ValueError):
        return False
    try:
        return os.pread(fd, len(MAGIC), 0) == MAGIC
    except OSError:
        return False
    finally:
        os.close(fd)


def _ram_offset(length: int) -> int:
    return (_HEAD.size + length + PAGE - 1) // PAGE * PAGE


def _write_all(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


def _sync_folder(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that syncs no folders
            raise
    finally:
        os.close(fd)


class _Scanner:
    """What json.loads() tells its scanner in C."""

    strict, object_hook, object_pairs_hook = True, None, None
    parse_float, parse_int, parse_constant = float, int, float


def _parse(text: str) -> object:
    """json.loads(), by what json itself uses: json imports `re`, in 7 ms. Raises ValueError, StopIteration."""
    try:
        from _json import make_scanner
    except ImportError:
        import json

        return json.loads(text)
    value, end = make_scanner(_Scanner)(text, 0)  # type: ignore[arg-type]
    if end != len(text):
        raise ValueError("there is more behind the value")
    return value


def dump(value: object) -> str:
    import json

    return json.dumps(values.to_plain(value), separators=(",", ":"))
