"""Making images: beside their final name, which they get when they are whole."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager

from corral.errors import BootError, ConfigError, HostError
from corral.files import ext4
from corral.files.file import Flaw, ImageFile, printable
from corral.images import e2fsprogs
from corral.images.content import size_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SMALLEST = 16 << 20  # an ext4 file system with a journal, and something in it
LARGEST = 1 << 44  # with blocks of 4 KiB and numbers of 32 bits
_IMAGE = "image"
_INODE = 256
_BYTES_PER_INODE = 16384  # mke2fs makes an inode for each so many bytes


def create(path: str, size: int, empty: bool) -> None:
    """A sparse image of `size` bytes: an empty ext4 file system, or with `empty` nothing."""
    if not empty:
        _check_size(size)
        e2fsprogs.require()
    with _new_image(path) as folder:
        _sparse(folder, size)
        if not empty:
            e2fsprogs.make_file_system(folder, _IMAGE)


def from_folder(source: str, path: str, size: int | None, progress: Callable[[str], None]) -> list[str]:
    """An image of the folder `source`. The caller's own files become root's, unless the caller is root. Returns what
    from_tar() does."""
    _check_size(size)
    e2fsprogs.require()
    source = _real_folder(source)
    if os.path.commonpath([source, os.path.realpath(os.path.dirname(path) or ".")]) == source:
        raise ConfigError(f"{printable(path)} lies in {printable(source)}: it would hold itself; name another place")
    with _new_image(path) as folder:
        progress("looking through the folder")
        blocks, inodes = _survey(source)
        _fill(folder, source, size, blocks, inodes, progress)
        user = os.geteuid()
        if user:
            with open(os.path.join(folder, _IMAGE), "rb", buffering=0) as image:
                commands = [
                    f"sif <{inode.number}> {field} 0"
                    for inode in _inodes(image.fileno())
                    if inode.uid == user
                    for field in ("uid", "gid")
                ]
            e2fsprogs.change(folder, _IMAGE, commands)
    return []


def from_tar(source: str, path: str, size: int | None, progress: Callable[[str], None]) -> list[str]:
    """An image of what is in a tar archive, with the owners, modes, devices and attributes that it tells. Returns
    lines for a person about what is not in it."""
    from corral.files.stream import unpacked
    from corral.files.tar import Archive
    from corral.images.tree import Tree

    _check_size(size)
    e2fsprogs.require()
    with ImageFile(source, "archive") as file, _new_image(path) as folder:
        progress("unpacking the archive")
        try:
            if size is None:
                room = os.statvfs(folder)
                limit = room.f_bavail * room.f_frsize // 2
                too_large = f"unpacks to more than {size_text(limit)}, half of what is free here; it is needed twice"
            else:
                limit, too_large = size, f"does not fit in {size_text(size)}; give it more with --size"
            tree = Tree(folder, limit, too_large, file.size)
            tree.take(Archive(unpacked(file)))
            file.require_unchanged()
            _fill(folder, tree.stage(), size, tree.blocks, tree.nodes, progress)
            with open(os.path.join(folder, _IMAGE), "rb", buffering=0) as image:
                commands = list(tree.commands(_inodes(image.fileno())))
            progress("setting owners and modes")
            e2fsprogs.change(folder, _IMAGE, commands)
            return tree.notices
        except e2fsprogs.Full:
            raise file.error("does not fit in the image; give it more with --size") from None
        except MemoryError:
            raise HostError("not enough memory to unpack the archive; free some") from None
        except Flaw as flaw:
            raise file.error(str(flaw)) from None


def _fill(
    folder: str, content: str, size: int | None, blocks: int, inodes: int, progress: Callable[[str], None]
) -> None:
    """Makes the image of `content`, in a size that leaves room if none is given."""
    needed = blocks * e2fsprogs.BLOCK + inodes * _INODE
    if size is None:
        size = -(-(needed * 5 // 4 + (256 << 20)) // (64 << 20)) * (64 << 20)
    if needed > size:
        raise ConfigError(f"{size_text(needed)} of files do not fit in {size_text(size)}; give more with --size")
    _check_size(size)
    progress("making the image")
    _sparse(folder, size)
    wanted = inodes * 5 // 4 + 1024
    try:
        e2fsprogs.make_file_system(folder, _IMAGE, content, wanted if wanted > size // _BYTES_PER_INODE else 0)
    except e2fsprogs.Full:
        raise ConfigError(f"the files do not fit in {size_text(size)}; give more with --size") from None


def _inodes(image: int) -> Iterator[ext4.Inode]:
    def read(offset: int, length: int) -> bytes:
        return os.pread(image, length, offset)

    system = ext4.superblock(read)
    if system is None or not system.groups:
        raise HostError("mke2fs made a file system that Corral cannot read; its configuration (mke2fs.conf) is unusual")
    return ext4.inodes(read, system)


def _check_size(size: int | None) -> None:
    if size is not None and not SMALLEST <= size <= LARGEST:
        raise ConfigError(
            f"an ext4 image of {size_text(size)}: it can have {size_text(SMALLEST)} to {size_text(LARGEST)}"
        )


def _sparse(folder: str, size: int) -> None:
    with open(os.path.join(folder, _IMAGE), "xb") as file:
        file.truncate(size)


@contextmanager
def _new_image(path: str) -> Iterator[str]:
    """A new folder beside `path`, where `image` is to be made, which becomes `path` at the end. Whatever happens, the
    folder goes; what was at `path` stays."""
    import shutil

    shown = printable(path)
    if "\0" in path or not os.path.basename(path):
        raise ConfigError(f"{shown!r} is not the name of a file")
    if os.path.lexists(path):
        raise _exists(shown)
    parent, name = os.path.split(os.path.abspath(path))
    # Named before it is made: a signal right after that leaves nothing either.
    folder = os.path.join(parent, f".{name[:100]}.unfinished-{os.urandom(8).hex()}")
    try:
        os.mkdir(folder, 0o700)
        yield folder
        _publish(os.path.join(folder, _IMAGE), path, shown)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise HostError(f"no space for {shown}: {error.strerror}; free some, or name another place") from None
        if error.errno == errno.EFBIG or error.errno == errno.EINVAL:
            raise ConfigError(f"{shown}: its file system has no files that large; ask for less") from None
        raise ConfigError(f"cannot make {shown}: {error.strerror}; check the path and its permissions") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _publish(image: str, path: str, shown: str) -> None:
    """rename(2) would replace what has come there meanwhile; link(2) does not."""
    try:
        os.link(image, path)
    except FileExistsError:
        raise _exists(shown) from None
    except OSError:  # a file system without links
        os.rename(image, path)


def _exists(shown: str) -> ConfigError:
    return ConfigError(f"{shown} exists; remove it, or name another file")


def _real_folder(source: str) -> str:
    try:
        if not stat.S_ISDIR(os.stat(source).st_mode):
            raise BootError(f"folder {printable(source)}: not a folder; an archive goes with corral image from-tar")
        return os.path.realpath(source)
    except OSError as error:
        raise BootError(f"folder {printable(source)}: {error.strerror}; check the path") from None
    except ValueError:
        raise BootError(f"folder {source!r}: a path cannot hold a null character; check the path") from None


def _survey(source: str) -> tuple[int, int]:
    """Blocks and inodes that a folder's content needs. Raises BootError for what cannot be read: mke2fs could not."""
    blocks = inodes = 0
    linked = set()
    folders = [source]
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(folder) as entries:
                names = 0
                for entry in entries:
                    names += len(os.fsencode(entry.name)) + 12
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISDIR(status.st_mode):
                        folders.append(entry.path)
                        continue
                    if status.st_nlink > 1:
                        if (status.st_dev, status.st_ino) in linked:
                            continue
                        linked.add((status.st_dev, status.st_ino))
                    inodes += 1
                    if stat.S_ISREG(status.st_mode):
                        blocks += _blocks_of(entry.path, status)
                    else:
                        blocks += 1
        except OSError as error:
            where = printable(os.fsdecode(error.filename or folder))
            raise BootError(f"cannot read {where}: {error.strerror}; change its permissions, or take it out") from None
        inodes += 1
        blocks += 1 + names // 3000
    return blocks, inodes


def _blocks_of(path: str, status: os.stat_result) -> int:
    """Those that a regular file has data in."""
    if not os.access(path, os.R_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
    if status.st_blocks * 512 >= status.st_size:
        return -(-status.st_size // e2fsprogs.BLOCK)
    # Sparse, or compressed by its file system: the number of blocks there is not the one here.
    blocks = end = 0
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        while end < status.st_size:
            start = os.lseek(file, end, os.SEEK_DATA)
            end = os.lseek(file, start, os.SEEK_HOLE)
            blocks += -(-(end - start) // e2fsprogs.BLOCK)
    except OSError as error:
        if error.errno != errno.ENXIO:  # no data any more
            raise
    finally:
        os.close(file)
    return blocks
