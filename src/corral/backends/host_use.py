"""What this host itself does with a file or a block device that a guest is to write: two that write to one file system
destroy it.

Sources: proc_pid_mountinfo(5), Documentation/ABI (holders, loop/backing_file), linux/loop.h.
"""

from __future__ import annotations

import fcntl
import os
import stat
import struct
from functools import partial

from corral import host_files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Same = Callable[[os.stat_result], bool]

_LOOP_GET_STATUS64 = 0x4C05  # linux/loop.h; the structure begins with the file's device and inode
_STATUS_SIZE = 232
_FLOCK = struct.Struct("hhqqi4x")


def of_device(number: int) -> str:
    """What the host does with a block device by its number, its partitions, or the disk that it is one of; and what
    to do about it. "": nothing that is seen from here."""
    for each in _family(number):
        name = _name(each)
        if point := _mounted(each):
            return f"this host has {name} mounted on {point}; unmount it"
        if _swaps(partial(_is, each)):
            return f"this host swaps on {name}; see swapoff"
        if holder := next(iter(host_files.names(f"{_sysfs(each)}/holders")), ""):
            title = host_files.text(f"/sys/block/{holder}/dm/name")
            return f"this host uses {name} for {f'/dev/mapper/{title}' if title else f'/dev/{holder}'}; take that apart"
        if loop := _loop_over(partial(_is, each)):
            return _behind_loop(loop)
    return ""


def of_file(fd: int, locks: bool = True) -> str:
    """The same of an open regular file. `locks`: what other programs have locked counts."""
    ours = os.fstat(fd)

    def same(status: os.stat_result) -> bool:
        return (status.st_dev, status.st_ino) == (ours.st_dev, ours.st_ino)

    if loop := _loop_over(same):
        return _behind_loop(loop)
    if _swaps(same):
        return "this host swaps on it; see swapoff"
    if locks and (pid := _locked(fd)):
        return f"another program{f', {_process(pid)},' if pid > 0 else ''} has it locked, like QEMU does; end that"
    return ""


def holder(fd: int) -> str:
    """Who has locked an open file by flock(2), in words; "" where that cannot be told (proc_locks(5))."""
    ours = os.fstat(fd)
    place = f"{os.major(ours.st_dev):02x}:{os.minor(ours.st_dev):02x}:{ours.st_ino}"
    for line in host_files.text("/proc/locks").splitlines():
        words = line.split()
        if len(words) > 5 and words[1] == "FLOCK" and words[5] == place and words[4] not in ("0", "-1"):
            return _process(int(words[4]))
    return ""


def _process(pid: int) -> str:
    """Its number, and who runs what there."""
    try:
        uid = os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return f"process {pid}"
    import pwd

    try:
        user = pwd.getpwuid(uid).pw_name
    except KeyError:
        user = f"user {uid}"
    return f"process {pid}, {host_files.text(f'/proc/{pid}/comm') or '?'} of {user}"


def _behind_loop(loop: str) -> str:
    point = _mounted(_number(f"/sys/block/{loop}"))
    where, first = (f", which this host has mounted on {point}", "unmount and ") if point else ("", "")
    return f"it is behind /dev/{loop}{where}; {first}detach that: losetup -d /dev/{loop}"


def _family(number: int) -> list[int]:
    """The device, and what shares its bytes: a disk's partitions, a partition's disk."""
    folder = _sysfs(number)
    parts = [f"{folder}/{name}" for name in host_files.names(folder) if os.path.exists(f"{folder}/{name}/partition")]
    disk = [f"{folder}/.."] if os.path.exists(f"{folder}/partition") else []
    return [number, *(found for path in [*parts, *disk] if (found := _number(path)))]


def _sysfs(number: int) -> str:
    return os.path.realpath(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")


def _name(number: int) -> str:
    return f"/dev/{os.path.basename(_sysfs(number)).replace('!', '/')}"


def _number(folder: str) -> int:
    """Of the device that a folder of sysfs is about; 0 for none."""
    major, _, minor = host_files.text(f"{folder}/dev").partition(":")
    return os.makedev(int(major), int(minor)) if major.isdigit() and minor.isdigit() else 0


def _mounted(number: int) -> str:
    """Where; "" for nowhere. Btrfs tells a number of its own, and the device by name."""
    wanted = f"{os.major(number)}:{os.minor(number)}"
    for line in host_files.text("/proc/self/mountinfo", "surrogateescape").splitlines():
        before, _, after = line.partition(" - ")
        words, source = before.split(" "), after.split(" ")[1]
        if words[2] == wanted or (source.startswith("/dev/") and _is_device(source, number)):
            return words[4]
    return ""


def _is_device(path: str, number: int) -> bool:
    try:
        return _is(number, os.stat(path))
    except OSError:
        return False


def _is(number: int, status: os.stat_result) -> bool:
    return stat.S_ISBLK(status.st_mode) and status.st_rdev == number


def _swaps(same: Same) -> bool:
    for line in host_files.text("/proc/swaps", "surrogateescape").splitlines()[1:]:
        try:
            if same(os.stat(line.split()[0].encode().decode("unicode_escape"))):
                return True
        except (OSError, IndexError, ValueError):
            continue
    return False


def _loop_over(same: Same) -> str:
    """The loop device over a file or device."""
    for name in host_files.names("/sys/block"):
        if not name.startswith("loop"):
            continue
        path = host_files.text(f"/sys/block/{name}/loop/backing_file", "surrogateescape")
        if path and any(same(status) for status in _backing(name, path)):
            return name
    return ""


def _backing(loop: str, path: str) -> Iterator[os.stat_result]:
    """The file behind a loop device: by its path, or by the kernel's word where that means another file here."""
    try:
        yield os.stat(path)
        return
    except OSError:
        pass
    try:
        fd = os.open(f"/dev/{loop}", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return
    try:
        device, inode, rdev = struct.unpack_from("QQQ", fcntl.ioctl(fd, _LOOP_GET_STATUS64, bytes(_STATUS_SIZE)))
        yield os.stat_result((stat.S_IFBLK if rdev else stat.S_IFREG, inode, device, *[0] * 7))
    except OSError:
        return
    finally:
        os.close(fd)


def _locked(fd: int) -> int:
    """The process that has locked a part of the file, -1 where that cannot be told, 0: none has."""
    question = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    try:
        kind, _, _, _, pid = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_OFD_GETLK, question))
    except OSError:  # a file system without locks
        return 0
    return 0 if kind == fcntl.F_UNLCK else pid or -1
