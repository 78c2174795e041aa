"""The file of a snapshot: a head, what the machine is and its state as JSON, its RAM, and what its disks have written
over images that they share; sparse and page-aligned.

    offset 0   "CORRALSN", version (u32), length of the JSON (u32), its SHA-256
    offset 48  the JSON
    own        with a parent: at the next multiple of 4 KiB a bit for each page of RAM, that it is in this file
    RAM        at the next multiple of 4 KiB, pages of zeros as holes, and those of the parent
    layers     of each disk with one: a map, a bit for each 4 KiB of the disk that are in the layer; at the next
               multiple of 4 KiB the layer, as long as the disk, holes where there is nothing

A file is immutable once it has its name: it is written beside, synced and renamed.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct

from corral.devices.virtio.device import Layer
from corral.errors import SCARCE, BootError, ConfigError, HostError
from corral.memory import PAGE
from corral.native import lib
from corral.snapshot import ram, values
from corral.startup.digest import sha256

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Protocol

    from corral.memory import GuestMemory

    class Layered(Protocol):
        """A disk with an overlay (devices/virtio/blk.py), which is stopped."""

        size: int  # bytes

        def save_layer(self, fd: int, map_at: int, data_at: int) -> int:
            """Returns how many bytes of data are in it. Raises OSError."""


MAGIC = b"CORRALSN"
VERSION = 7
_HEAD = struct.Struct("<8sII32s")
NAME = "guest"  # of a snapshot that has a folder of its own
MOST_TEXT = 16 << 20  # bytes of the JSON: 1024 vCPUs fit


def write(
    path: str,
    content: str,
    memory: GuestMemory,
    layers: Sequence[Layered] = (),
    parent: ram.Chain | None = None,
    go_on: Callable[[], None] | None = None,
) -> int:
    """Publishes a snapshot at `path`; returns how many bytes of RAM and layers are in it. `parent`: pages that are the
    same there are left out. `go_on` lets the machine go on, as soon as what it does then is not seen any more; None: it
    stands still. Raises what Publishing does."""
    with Publishing(path) as fd:
        return save(fd, content, memory, layers, parent, go_on)


class Publishing:
    """A context manager: an empty file for a snapshot, or what `what` says, which is at `path` when all has gone well;
    else what was there stays. Raises HostError, also for an OSError within; ConfigError for a place where there is
    something that is none of them, by `is_known`."""

    def __init__(self, path: str, what: str = "snapshot", is_known: Callable[[str], bool] | None = None) -> None:
        if os.path.lexists(path) and not (is_known or is_one)(path):
            raise ConfigError(f"{path!r} is there and is no {what}; name another file")
        self._what = what
        self._path, self._beside = path, f"{path}.unfinished-{os.urandom(8).hex()}"

    def __enter__(self) -> int:
        try:
            self._fd = os.open(self._beside, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._failed(error) from None
        return self._fd

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            try:
                if error is None:
                    os.fsync(self._fd)
            finally:
                os.close(self._fd)
            if error is None:
                os.rename(self._beside, self._path)
                _sync_folder(os.path.dirname(self._path) or ".")
        except OSError as failure:
            error = failure
        if os.path.lexists(self._beside):
            os.unlink(self._beside)
        if isinstance(error, OSError):
            raise self._failed(error) from None

    def _failed(self, error: OSError) -> HostError:
        from corral import os_errors

        cure = os_errors.text(error, "see who may write there, and whether there is room")
        return HostError(f"cannot write the {self._what} {self._path!r}: {cure}")


def save(
    fd: int,
    content: str,
    memory: GuestMemory,
    layers: Sequence[Layered] = (),
    parent: ram.Chain | None = None,
    go_on: Callable[[], None] | None = None,
) -> int:
    """A snapshot in an empty file; else as write(). Raises OSError."""
    job, written = _begin(fd, content, memory, layers, parent)
    if go_on is None:
        return written + job.save()
    with ram.Beside(job) as other:
        go_on()
        return written + other.wait()


def write_behind(
    folder: str, others: dict[str, bytes], content: str, memory: GuestMemory, layers: Sequence[Layered] = ()
) -> None:
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
        job, _ = _begin(fd, content, memory, layers)
        job.save_behind(beside, folder)
    except OSError as error:
        _forget(beside)
        raise HostError(f"{folder!r}: {error.strerror}") from None
    finally:
        os.close(fd)


def _forget(folder: str) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)


def _begin(
    fd: int, content: str, memory: GuestMemory, layers: Sequence[Layered], parent: ram.Chain | None = None
) -> tuple[ram.RamJob, int]:
    """Writes all but the RAM. Returns how that is saved, and how many bytes of layers are written."""
    begin = head(content)
    _write_all(fd, begin)
    own_at = _aligned(len(begin))
    at = _ram_at(own_at, memory.size, parent is not None)
    places, end = _layer_offsets(at + memory.size, [disk.size for disk in layers])
    os.ftruncate(fd, end)
    written = sum(disk.save_layer(fd, *place) for disk, place in zip(layers, places, strict=True))
    return ram.RamJob(fd, at, memory, parent, own_at), written


def head(content: str) -> bytes:
    """What a file with this JSON begins with."""
    text = content.encode()
    return _HEAD.pack(MAGIC, VERSION, len(text), sha256(text)) + text


def places(head: int, memory: int, disks: Sequence[int]) -> tuple[int, list[tuple[int, int]], int]:
    """Of a file without a parent, with a head of so many bytes: where its RAM is, where each layer's map and data are,
    and where it ends."""
    at = _aligned(head)
    return at, *_layer_offsets(at + memory, disks)


def _ram_at(own_at: int, memory: int, has_parent: bool) -> int:
    return _aligned(own_at + ram.map_size(memory)) if has_parent else own_at


class SnapshotFile:
    """An open snapshot; `fd` as Resumed has it; `lock`: the boot cache is told that it is in use. Raises BootError for
    what is none, or none of this version."""

    def __init__(self, path: str, fd: int | None = None, lock: bool = True) -> None:
        self.path = path
        self._fd = self._open(path) if fd is None else _duplicate(fd)
        try:
            if lock:
                fcntl.flock(self._fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:  # by somebody who is about to remove it, which harms no guest, or on a file system without
            pass
        try:
            self.text = self._read()
        except BaseException:
            self.close()
            raise

    def _open(self, path: str) -> int:
        try:
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        except OSError as error:
            if error.errno in SCARCE:
                raise
            raise self.error(f"{error.strerror}; check the path") from None
        except ValueError:
            raise self.error("a path cannot hold a null character; check the path") from None

    def another(self) -> SnapshotFile:
        """The same once more, to be closed by itself."""
        other = object.__new__(type(self))
        vars(other).update(vars(self))
        other._fd = _duplicate(self._fd)
        return other

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

    def require(self, memory: int, disks: Sequence[int], has_parent: bool) -> None:
        """That it has so much RAM, and layers of disks of these sizes, in bytes. Before layer() and layer_of_ram().
        Raises BootError."""
        self.require_ram(memory, has_parent)
        self._layer_offsets, end = _layer_offsets(self._ram_at + memory, disks)
        if self._size != end:
            raise self._too_short(end)

    def require_ram(self, memory: int, has_parent: bool) -> None:
        """The same of its RAM alone. Raises BootError."""
        self._ram_at = _ram_at(self._text_end, memory, has_parent)
        if self._size < self._ram_at + memory:
            raise self._too_short(self._ram_at + memory)
        self._own: bytes | None = None
        if has_parent:
            self._own = os.pread(self._fd, ram.map_size(memory), self._text_end)
            if len(self._own) < ram.map_size(memory):
                raise self.error("is cut off; save it again")

    def _too_short(self, wanted: int) -> BootError:
        return self.error(f"has {self._size} bytes, and should have {wanted}: it is cut off; save it again")

    def layer_of_ram(self) -> ram.Layer:
        return self._fd, self._ram_at, self._own

    def layer_places(self) -> tuple[int, list[tuple[int, int]]]:
        """A descriptor that stays its own, and where the map and the data of each layer are."""
        return self._fd, self._layer_offsets

    def identity(self) -> tuple[int, int]:
        """Its size in bytes, and when it was last written, in nanoseconds since 1970."""
        status = os.fstat(self._fd)
        return status.st_size, status.st_mtime_ns

    def is_at(self, path: str) -> bool:
        try:
            return os.path.samestat(os.stat(path), os.fstat(self._fd))
        except OSError:
            return False

    @property
    def is_whole(self) -> bool:
        """Whether it is as long as when it was opened."""
        return os.fstat(self._fd).st_size >= self._size

    def layer(self, index: int, size: int) -> Layer:
        """Of a disk of `size` bytes. Raises BootError."""
        map_at, data_at = self._layer_offsets[index]
        length = int(lib.corral_blk_map_size(size))
        bits = os.pread(self._fd, length, map_at)
        if len(bits) < length:
            raise self.error("is cut off; save it again")
        return Layer(self._fd, data_at, bits)

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
        if sha256(text) != digest:
            raise self.error("has been changed or damaged; save it again")
        self.digest = digest
        self._text_end, self._size = _aligned(_HEAD.size + length), status.st_size
        return text


def _duplicate(fd: int) -> int:
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)


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


def _aligned(offset: int) -> int:
    return -(-offset // PAGE) * PAGE


def _layer_offsets(at: int, disks: Sequence[int]) -> tuple[list[tuple[int, int]], int]:
    """Where the map and the data of each layer are, of disks of these sizes, and where the file ends; the first begins
    at `at`."""
    places = []
    for size in disks:
        data = _aligned(at + lib.corral_blk_map_size(size))
        places.append((at, data))
        at = _aligned(data + size)
    return places, at


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
