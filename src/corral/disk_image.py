"""The host's side of a disk: an image opened and locked, and the layer that a snapshot writes to."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import stat
import struct
import time

from corral.errors import BootError, HostError
from corral.images import format

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.config import DiskConfig

SECTOR = 512
DEAD_GUESTS_LOCK = 1.0  # seconds that it may be there after its end; 0.03 to 0.04 as measured
_BLKGETSIZE64 = 0x80081272  # linux/fs.h
_BLKSSZGET = 0x1268
_BLKPBSZGET = 0x127B


class DiskImage:
    """`fd` has the image's bytes, `overlay` what a snapshot changes, or -1. Sizes are in bytes.

    Locked with flock(2) while it is open: alone by who writes, together by those who only read. The kernel gives the
    lock back when the process ends, however it does; after a SIGKILL some milliseconds later, when io_uring has let go
    of the image too and nothing that was in flight can reach it any more. Raises BootError for an image that cannot be
    used.
    """

    def __init__(self, config: DiskConfig) -> None:
        self.path = config.path
        writes = not (config.read_only or config.snapshot)
        self.fd = self._open(os.O_RDWR if writes else os.O_RDONLY, config.cache == "direct")
        self.overlay = -1
        self._locked = False
        try:
            self.size, self.block_size, self.physical_block_size = self._geometry(config.cache == "direct")
            if not config.raw:
                self._require_raw()
            self._lock(fcntl.LOCK_EX if writes else fcntl.LOCK_SH)
            if config.snapshot:
                self.overlay = _unnamed_file(self.size)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        if self._locked:  # io_uring's own reference goes later than this one
            fcntl.flock(self.fd, fcntl.LOCK_UN)
        os.close(self.fd)
        if self.overlay >= 0:
            os.close(self.overlay)

    def _open(self, flags: int, direct: bool) -> int:
        # O_NONBLOCK: a FIFO must not hold us up before it is found to be one; it means nothing for files and disks.
        flags |= os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY | (os.O_DIRECT if direct else 0)
        try:
            return os.open(self.path, flags)
        except OSError as error:
            if error.errno == errno.EINVAL and direct:
                raise self._error("its file system has no direct I/O; leave cache=direct out") from None
            if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM) and flags & os.O_RDWR:
                raise self._error(f"{error.strerror}; change its permissions, or add ,ro or ,snapshot=on") from None
            cure = "check the path, or make one: corral image create" if error.errno == errno.ENOENT else "check it"
            raise self._error(f"{error.strerror}; {cure}") from None
        except ValueError:
            raise self._error("has a NUL byte in its name") from None

    def _can_read(self, size: int) -> bool:
        with mmap.mmap(-1, mmap.PAGESIZE) as buffer, memoryview(buffer)[:size] as part:
            try:
                os.preadv(self.fd, [part], 0)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise self._error(f"cannot be read: {error.strerror}; check the disk below it") from None
                return False
        return True

    def _geometry(self, direct: bool) -> tuple[int, int, int]:
        status = os.fstat(self.fd)
        if stat.S_ISBLK(status.st_mode):
            size = struct.unpack("Q", fcntl.ioctl(self.fd, _BLKGETSIZE64, bytes(8)))[0]
            logical = struct.unpack("i", fcntl.ioctl(self.fd, _BLKSSZGET, bytes(4)))[0]
            physical = struct.unpack("I", fcntl.ioctl(self.fd, _BLKPBSZGET, bytes(4)))[0]
        elif stat.S_ISREG(status.st_mode):
            size, logical, physical = status.st_size, SECTOR, 4096
            if direct and not self._can_read(SECTOR):  # the disk below has larger blocks, and direct I/O shows that
                logical = 4096
        else:
            raise self._error("is neither a file nor a block device; name a raw image")
        if size == 0:
            raise self._error("is empty; give it a size: truncate -s 1G")
        if size % logical:
            raise self._error(f"has {size} bytes, not a multiple of {logical}; lengthen it: truncate -s %{logical}")
        return size, logical, physical

    def _require_raw(self) -> None:
        """Refuses by name what begins like another format. No more is read of it: a guest may have written that."""
        head = mmap.mmap(-1, mmap.PAGESIZE)  # aligned, as direct I/O wants it
        os.preadv(self.fd, [head], 0)
        form = format.foreign_format(head[: format.HEAD_SIZE])
        head.close()
        if form:
            raise self._error(format.refusal(form, f"--disk {self.path},format=raw"))

    def _lock(self, kind: int) -> None:
        try:
            _flock(self.fd, kind)
            self._locked = True
        except BlockingIOError:
            cure = "end that guest" if kind == fcntl.LOCK_EX else "end the guest that writes it"
            raise self._error(f"is in use by another guest; {cure}, or add ,snapshot=on to both") from None
        except OSError as error:
            raise self._error(f"cannot be locked: {error.strerror}; copy it to another file system") from None

    def _error(self, message: str) -> BootError:
        return BootError(f"disk {self.path!r}: {message}")


def _flock(fd: int, kind: int) -> None:
    """Waits for a moment for a guest that is dead already, and whose lock is not."""
    give_up = time.monotonic() + DEAD_GUESTS_LOCK
    while True:
        try:
            return fcntl.flock(fd, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= give_up:
                raise
            time.sleep(0.002)


def _unnamed_file(size: int) -> int:
    """A sparse file that is gone with its descriptor. On a disk, where $TMPDIR does not say otherwise."""
    folder = os.environ.get("TMPDIR") or "/var/tmp"
    fd = -1
    try:
        try:
            fd = os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR):  # a file system, or a kernel, without such files
                raise
            path = os.path.join(folder, f".corral-{os.getpid()}-{time.monotonic_ns()}")
            fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
            os.unlink(path)
        os.ftruncate(fd, size)
    except OSError as error:
        if fd >= 0:
            os.close(fd)
        raise HostError(f"cannot make a snapshot's layer in {folder}: {error.strerror}; set TMPDIR") from None
    return fd
