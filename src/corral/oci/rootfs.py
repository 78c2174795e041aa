"""A folder of this host's with the files of a system, as an image.

As root, files keep their owners; for others what is theirs becomes root's. It is made again when anything in the folder
has changed, as far as lstat(2) tells.
"""

from __future__ import annotations

import hashlib
import os
import stat

from corral.errors import BootError
from corral.files.file import Flaw, printable
from corral.files.tar import Member
from corral.oci import build, store
from corral.oci.documents import ImageConfig
from corral.oci.layers import MOST_FILES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from corral.files.xattr import Pairs
    from corral.oci.layers import Data

_PIECE = 1 << 20
_KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "folder",
    stat.S_IFLNK: "symlink",
    stat.S_IFCHR: "char",
    stat.S_IFBLK: "block",
    stat.S_IFIFO: "fifo",
}
_NAMESPACES = ("user.", "trusted.", "security.capability", "system.posix_acl_")


def built(folder: str, name: str, progress: Callable[[str], None]) -> str:
    """The digest of the image, which is made if it is not in the cache. Raises BootError, Flaw, HostError."""
    if not os.path.isdir(folder):
        raise BootError(f"image {printable(name)}: there is no such folder; check the path")
    progress("looking through the folder")
    found = list(_found(os.fsencode(folder)))
    text = hashlib.sha256(f"{os.geteuid()} {folder}\n".encode(errors="surrogateescape"))
    for path, about in found:
        numbers = (about.st_dev, about.st_ino, about.st_mode, about.st_uid, about.st_gid, about.st_size)
        text.update(repr((path, numbers, about.st_mtime_ns, about.st_ctime_ns)).encode())
    digest = f"sha256:{text.hexdigest()}"
    config = ImageConfig(labels={})
    build.build(digest, config, lambda tree: tree.take(_members(os.fsencode(folder), found)), progress)
    store.set_name(name, digest)
    return digest


def _found(top: bytes) -> Iterator[tuple[bytes, os.stat_result]]:
    """Each file's path from there, in an order that is the same each time; that of the folder itself is empty. What is
    mounted within is left out."""
    status = os.stat(top)
    device = status.st_dev
    waiting = [(b"", status)]
    count = 0
    while waiting:
        path, status = waiting.pop()
        yield path, status
        if not stat.S_ISDIR(status.st_mode) or status.st_dev != device:
            continue
        try:
            with os.scandir(os.path.join(top, path)) as entries:
                listed = sorted(((entry.name, entry.stat(follow_symlinks=False)) for entry in entries), reverse=True)
        except OSError as error:
            raise _unreadable(path, error) from None
        count += len(listed)
        if count > MOST_FILES:
            raise Flaw(f"has more than {MOST_FILES} files, more than Corral takes")
        waiting += [(os.path.join(path, name), about) for name, about in listed]


def _members(top: bytes, found: list[tuple[bytes, os.stat_result]]) -> Iterator[tuple[Member, Data]]:
    own, root = os.geteuid(), {}
    if own:
        root = {own: 0}
    first: dict[tuple[int, int], bytes] = {}
    for path, about in found:
        kind = _KINDS.get(stat.S_IFMT(about.st_mode))
        if kind is None:  # a socket: it is nothing without the process that made it
            continue
        whole = os.path.join(top, path) if path else top
        size, target = 0, b""
        data: Data = ()
        if about.st_nlink > 1 and kind != "folder":
            key = (about.st_dev, about.st_ino)
            if key in first:
                kind, target = "hard link", first[key]
            else:
                first[key] = path
        try:
            if kind == "symlink":
                target = os.readlink(whole)
            elif kind == "file":
                size, data = about.st_size, _data(whole, about)
            xattrs = () if kind == "hard link" else _xattrs(whole)
        except OSError as error:
            raise _unreadable(path, error) from None
        member = Member(
            name=path,
            kind=kind,
            mode=stat.S_IMODE(about.st_mode),
            uid=root.get(about.st_uid, about.st_uid),
            gid=0 if about.st_uid in root else about.st_gid,
            mtime=max(int(about.st_mtime), 0),
            target=target,
            device=(os.major(about.st_rdev), os.minor(about.st_rdev)) if kind in ("char", "block") else (0, 0),
            size=size,
            xattrs=xattrs,
        )
        yield member, data


def _data(path: bytes, about: os.stat_result) -> Iterator[tuple[int, memoryview]]:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise _unreadable(path, error) from None
    try:
        if not os.path.samestat(os.fstat(fd), about):
            raise Flaw(f"{_shown(path)} became another file meanwhile; wait until its writer is done")
        offset = 0
        while offset < about.st_size:
            data = os.read(fd, min(_PIECE, about.st_size - offset))
            if not data:
                raise Flaw(f"{_shown(path)} became shorter meanwhile; wait until its writer is done")
            yield offset, memoryview(data)
            offset += len(data)
    finally:
        os.close(fd)


def _xattrs(path: bytes) -> Pairs:
    names = os.listxattr(path, follow_symlinks=False)
    kept = [name for name in names if name.startswith(_NAMESPACES)]
    return tuple((os.fsencode(name), os.getxattr(path, name, follow_symlinks=False)) for name in kept)


def _unreadable(path: bytes, error: OSError) -> BootError:
    return BootError(f"cannot read {_shown(path)}: {error.strerror}; change its permissions, or take it out")


def _shown(path: bytes) -> str:
    return printable(os.fsdecode(path))
