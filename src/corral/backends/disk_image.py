"""The host's side of a disk: an image opened and locked, and the layer that a snapshot writes to."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import stat
import struct
import time

from corral import os_errors
from corral.config import ImageIdentity
from corral.errors import DENIED, SCARCE, BootError, CorralError, HostError
from corral.files import format, partitions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.config import DiskConfig

SECTOR = 512
_ELSEWHERE = "set TMPDIR to a folder where you may write, and where there is room"
DEAD_GUESTS_LOCK = 1.0  # seconds that it may be there after its end; 0.03 to 0.04 as measured
_HEAD = 8192  # bytes: as far as a GPT's header in sectors of 4096
_KNOWN_BY = 128 << 10  # bytes: a partition table, or the superblocks of ext4, XFS and btrfs with their UUIDs
_COARSE = 5  # CLOCK_REALTIME_COARSE
_BLKGETSIZE64 = 0x80081272  # linux/fs.h
_BLKSSZGET = 0x1268
_BLKPBSZGET = 0x127B


class DiskImage:
    """`fd` has the image's bytes, `overlay` what a snapshot changes, `overlay_most` bytes of it, or -1. Sizes are in
    bytes.

    Locked with flock(2) while it is open: alone by who writes, together by those who only read. The kernel gives the
    lock back when the process ends, however it does; after a SIGKILL some milliseconds later, when io_uring has let go
    of the image too and nothing that was in flight can reach it any more. Raises BootError for an image that cannot be
    used.
    """

    def __init__(self, config: DiskConfig) -> None:
        self.path = config.path
        writes = not (config.read_only or config.snapshot)
        self.fd = self._open(os.O_RDWR if writes else os.O_RDONLY, config.cache == "direct")
        self.overlay = self._claim = -1
        self.overlay_most = 0
        self._locked = False
        try:
            self.size, self.block_size, self.physical_block_size = self._geometry(config.cache == "direct")
            head = self._head()
            if not config.raw:
                self._require_raw(head)
            if self.block_size < (sector := _sector_of_table(head)) and self.size % sector == 0:
                self.block_size = sector
            if config.locked:
                self._lock(fcntl.LOCK_EX if writes else fcntl.LOCK_SH)
            if writes:
                self._require_unused(config.locked)
            if config.identity:
                self._require(config.identity)
            if config.snapshot:
                self.overlay = _unnamed_file(self.size)
                self.overlay_most = config.layer or _half_of_the_room(self.overlay)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        if self._locked:  # io_uring's own reference goes later than this one
            fcntl.flock(self.fd, fcntl.LOCK_UN)
        for fd in (self.fd, self.overlay, self._claim):
            if fd >= 0:
                os.close(fd)

    @property
    def is_device(self) -> bool:
        """Whether it is a block device, which does not tell when it was written."""
        return stat.S_ISBLK(os.fstat(self.fd).st_mode)

    def settle(self) -> None:
        """Makes what was written stable, and returns when whatever is written from now on can be told by its time.
        While nothing is written. Raises HostError, BootError."""
        try:
            os.fdatasync(self.fd)
        except OSError as error:
            raise self._failed(error, "cannot be made stable", "check the disk below it") from None
        written = os.fstat(self.fd).st_mtime_ns
        while time.clock_gettime_ns(_COARSE) == written:  # what Linux dates files by
            time.sleep(0.001)

    def identity(self) -> ImageIdentity:
        """By what it is known again: not by its path or inode, so that a copy with the same times will do. Raises
        HostError, BootError."""
        from corral.startup.digest import sha256

        status = os.fstat(self.fd)
        written = 0 if self.is_device else status.st_mtime_ns
        return ImageIdentity(self.size, written, sha256(self._first(_KNOWN_BY)))

    def _require(self, wanted: ImageIdentity) -> None:
        found = self.identity()
        if found == wanted:
            return
        if found.size != wanted.size:
            what = f"has {found.size} bytes, and had {wanted.size} when its guest was saved"
        elif found.written != wanted.written:
            what = "was written after its guest was saved, or is another"
        else:
            what = "is another image than its guest was saved with"
        raise self._error(f"{what}; bring that image back, with its time of change (cp -p), or boot it anew")

    def _open(self, flags: int, direct: bool) -> int:
        # O_NONBLOCK: a FIFO must not hold us up before it is found to be one; it means nothing for files and disks.
        flags |= os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY | (os.O_DIRECT if direct else 0)
        try:
            return os.open(self.path, flags)
        except OSError as error:
            if error.errno in SCARCE:
                raise os_errors.explained(error) or error from None
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
                    raise self._failed(error, "cannot be read", "check the disk below it") from None
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

    def _head(self) -> bytes:
        """What shows another format, and a partition table. No more is read of the image: a guest may have written
        it."""
        return self._first(_HEAD)

    def _first(self, size: int) -> bytes:
        with mmap.mmap(-1, size) as buffer:  # aligned, as direct I/O wants it
            try:
                count = os.preadv(self.fd, [buffer], 0)
            except OSError as error:
                raise self._failed(error, "cannot be read", "check the disk below it") from None
            return buffer[:count]

    def _require_raw(self, head: bytes) -> None:
        """Refuses by name what begins like another format."""
        form = format.foreign_format(head[: format.HEAD_SIZE])
        if form:
            raise self._error(format.refusal(form, f"--disk {self.path},format=raw"))

    def _lock(self, kind: int) -> None:
        try:
            _flock(self.fd, kind)
            self._locked = True
        except BlockingIOError:
            from corral.backends import host_use

            cure = "end that guest" if kind == fcntl.LOCK_EX else "end the guest that writes it"
            holder = host_use.holder(self.fd)
            # Who may read an image may lock it; its owner need not wait for that.
            raise self._error(
                f"is in use by another guest{holder and f' ({holder})'}; {cure}, or add ,snapshot=on to both; if it is "
                "none that writes, ,lock=off does not mind it"
            ) from None
        except OSError as error:
            raise self._failed(error, "cannot be locked", "copy it to another file system") from None

    def _require_unused(self, locked: bool) -> None:
        """Refuses what the host itself uses, and keeps the host from using a block device while it is open. `locked`:
        what another program has locked, too."""
        from corral.backends import host_use

        status = os.fstat(self.fd)
        if not stat.S_ISBLK(status.st_mode):
            use = host_use.of_file(self.fd, locked)
        else:
            use = host_use.of_device(status.st_rdev)
            try:  # which the kernel allows to one alone, whatever is seen from here
                flags = os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC | os.O_NONBLOCK
                self._claim = os.open(f"/proc/self/fd/{self.fd}", flags)
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise self._failed(error, "cannot be had for a guest alone", "add ,snapshot=on") from None
                use = use or "another program, or another container, has it for itself; end that"
        if use:
            raise self._error(f"{use}, or add ,ro or ,snapshot=on")

    def _failed(self, error: OSError, what: str, cure: str) -> CorralError:
        message = f"disk {self.path!r}: {what}: {os_errors.text(error, cure)}"
        return HostError(message) if error.errno in DENIED else BootError(message)

    def _error(self, message: str) -> BootError:
        return BootError(f"disk {self.path!r}: {message}")


def _sector_of_table(head: bytes) -> int:
    """The sector size that the partition table of an image was made for, by the image's first bytes."""
    return partitions.sector_size(lambda offset, length: head[offset : offset + length])


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
        raise HostError(f"cannot make a snapshot's layer in {folder}: {os_errors.text(error, _ELSEWHERE)}") from None
    return fd


def _half_of_the_room(fd: int) -> int:
    """Bytes of a file system that a guest may fill by its writes: the other half is the host's."""
    about = os.fstatvfs(fd)
    return max(1, about.f_bavail // 2) * about.f_frsize
