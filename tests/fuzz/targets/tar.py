"""An archive, to the files that mke2fs is to copy: it is refused in one line, or its files are all in one folder."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import Iterator

from corral.files.ext4 import ROOT_INODE, Inode
from corral.files.file import Flaw, ImageFile
from corral.files.stream import unpacked
from corral.files.tar import Archive
from corral.images.tree import Tree
from tests.fuzz.targets import MemoryFile, one_line, own_folder

LONGEST = 8192
CONCERNED = ("corral.files.tar", "corral.files.stream", "corral.files.xattr", "corral.images.tree")

_file = MemoryFile()
_PARENT = own_folder()
_folders = 0


def one(data: bytes) -> None:
    if not data:
        return
    global _folders
    _folders += 1
    folder = os.path.join(_PARENT, str(_folders))
    os.mkdir(folder)
    try:
        with ImageFile(_file.put(data), "archive") as file:
            tree = Tree(folder, 1 << 20, "too large", len(data))
            tree.take(Archive(unpacked(file)))
            for notice in tree.notices:
                assert notice.isprintable()
            for command in tree.commands(inodes(tree.stage())):
                assert command.isascii() or command.isprintable(), command
                assert "\n" not in command
    except Flaw as flaw:
        one_line(flaw)
    assert os.listdir(_PARENT) == [str(_folders)], "something beside the folder"
    _remove(folder)


def inodes(top: str) -> Iterator[Inode]:
    """Those of the file system that mke2fs would make of the folder."""
    yield Inode(ROOT_INODE, 0, 0, 0, 0)
    seen, folders = set(), [top]
    while folders:
        parent = folders.pop()
        for name in os.listdir(parent):
            path = os.path.join(parent, name)
            status = os.lstat(path)  # before it is read, which changes its access time
            if stat.S_ISDIR(status.st_mode):
                folders.append(path)
            if status.st_ino not in seen:
                seen.add(status.st_ino)
                number = 100 + len(seen)
                yield Inode(number, status.st_mode, status.st_uid, status.st_gid, int(status.st_atime))


def _remove(folder: str) -> None:
    for parent, folders, names in os.walk(folder, topdown=False):
        for name in names:
            os.unlink(os.path.join(parent, name))
        for name in folders:
            path = os.path.join(parent, name)
            if os.path.islink(path):
                os.unlink(path)
            else:
                os.rmdir(path)
    os.rmdir(folder)


def _archive(format: int) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as tar:
        for name, kind, target in (
            ("folder", tarfile.DIRTYPE, ""),
            ("folder/file", tarfile.REGTYPE, ""),
            ("link", tarfile.SYMTYPE, "folder/file"),
            ("hard", tarfile.LNKTYPE, "folder/file"),
            ("device", tarfile.CHRTYPE, ""),
            ("pipe", tarfile.FIFOTYPE, ""),
            ("long/" * 30 + "name", tarfile.REGTYPE, ""),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            data = b"content" if kind == tarfile.REGTYPE else b""
            member.size = len(data)
            if format == tarfile.PAX_FORMAT:
                member.pax_headers = {"SCHILY.xattr.user.a": "b"}
            tar.addfile(member, io.BytesIO(data))
    return out.getvalue().rstrip(b"\0") + bytes(1024)


SEEDS = [_archive(tarfile.PAX_FORMAT), _archive(tarfile.GNU_FORMAT), _archive(tarfile.USTAR_FORMAT)]
