"""A tree of files as an archive describes it, and as plain files of the caller's that mke2fs can copy.

What needs root, which is owners, device nodes, set-user-ID and some attributes, is told to debugfs when the file
system is there. Which inode is which file, an access time tells: mke2fs copies it.
"""

from __future__ import annotations

import os

from corral.errors import HostError
from corral.files import xattr
from corral.files.ext4 import ROOT_INODE
from corral.files.file import Flaw, printable
from corral.files.tar import TYPES, Member
from corral.images.e2fsprogs import BLOCK, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from corral.files.ext4 import Inode
    from corral.files.tar import Archive

_LONGEST_NAME = 255
_LONGEST_PATH = 3000
_SHORT_LINK = 60  # bytes of a target that an inode has room for
_DEEPEST = 200  # mke2fs keeps a folder open at each level
_MOST_NODES = 2_000_000  # of any archive; of a small one as many as one could mean that is not a bomb:
_NODES, _BYTES_A_NODE = 100_000, 64
_MOST_TEXT = 256 << 20  # names, targets and attributes, in memory
_XATTR_ROOM = BLOCK - 64  # ext4 has one block for a file's attributes


class TreeNode:
    """A file of any kind. `data` is the path of the file that is it, or has its bytes; `names` counts where it is."""

    __slots__ = ("children", "data", "member", "names", "number", "tag")

    def __init__(self, member: Member, number: int, data: str = "") -> None:
        self.member = member
        self.number = number
        self.data = data
        self.names = 0
        self.tag = 0
        self.children: dict[bytes, TreeNode] | None = {} if member.kind == "folder" else None

    @property
    def is_device(self) -> bool:
        return self.member.kind in ("char", "block")


class Tree:
    """Filled by take(); then stage() makes the files, and commands() tells debugfs the rest.

    `folder` is private to us and empty. `limit`: bytes that the files may need. `size`: the archive's, as it is packed.
    """

    def __init__(self, folder: str, limit: int, too_large: str, size: int) -> None:
        self._most = min(_MOST_NODES, _NODES + size // _BYTES_A_NODE)
        self._folder = folder
        self._data = os.path.join(folder, "data")
        self._xattrs = os.path.join(folder, "xattrs")
        os.mkdir(self._data)
        os.mkdir(self._xattrs)
        self._left, self._too_large = limit, too_large
        self._text = 0
        self._left_out, self._example = 0, ""
        self.nodes = 0
        self.blocks = 0  # that the files fill
        self._tags: dict[int, TreeNode] = {}
        self.root = self._new(_folder(b"/"))

    def take(self, archive: Archive) -> None:
        """Everything that the archive has; what comes later replaces what came before. Raises Flaw."""
        for member in archive:
            self._note(member)
            parts = _parts(member)
            if not parts:
                self._replace_metadata(self.root, member)
                continue
            parent = self._folder_of(parts[:-1], member)
            self._put(parent, parts[-1], member, archive)

    def _note(self, member: Member) -> None:
        if member.left_out and not self._left_out:
            self._example = f"{_printable_name(member.left_out[0])} of {_printable_name(member.name)}"
        self._left_out += len(member.left_out)

    @property
    def notices(self) -> list[str]:
        """What of the archive is not in the tree, in lines for a person."""
        if not self._left_out:
            return []
        what = "extended attributes that Linux has no place for were left out"
        return [f"{what}: {self._left_out}, like {self._example}"]

    def _folder_of(self, parts: list[bytes], member: Member) -> TreeNode:
        node = self.root
        for part in parts:
            assert node.children is not None
            below = node.children.get(part)
            if below is None:
                below = node.children[part] = self._new(_folder(part))
                below.names = 1
            if below.children is None:
                what = "a symbolic link" if below.member.kind == "symlink" else "not a folder"
                raise member.flaw(
                    f"is to lie under {_printable_name(below.member.name)}, which is {what}; make it again"
                )
            node = below
        return node

    def _put(self, parent: TreeNode, name: bytes, member: Member, archive: Archive) -> None:
        assert parent.children is not None
        old = parent.children.get(name)
        if old is not None and old.children is not None:
            if member.kind == "folder":
                self._replace_metadata(old, member)
                return
            if old.children:
                raise member.flaw("is to replace a folder that has files; make it again")
        if member.kind == "hard link":
            node = self._linked(member)
            if node is old:
                return
            if node.is_device:  # debugfs makes no links; two nodes of one number are one device
                node = self._new(node.member)
        else:
            node = self._new(member)
            if member.kind == "file":
                self._save(node, archive)
        node.names += 1
        parent.children[name] = node
        if old is not None:
            self._drop(old)

    def _linked(self, member: Member) -> TreeNode:
        node: TreeNode | None = self.root
        for part in _parts(member, member.target):
            node = node.children.get(part) if node is not None and node.children is not None else None
        if node is None or node.children is not None:
            what = "is not in the archive before it" if node is None else "is a folder"
            raise member.flaw(f"is a hard link to {_printable_name(member.target)}, which {what}; make it again")
        return node

    def _new(self, member: Member) -> TreeNode:
        """A node, if there is room for it."""
        xattrs = sum(len(key) + len(value) + 20 for key, value in member.xattrs)
        if xattrs > _XATTR_ROOM:
            raise member.flaw("has more extended attributes than ext4 has room for, 4 KiB; make it with fewer")
        if any(quoted(key) is None or len(key) > xattr.LONGEST for key, _ in member.xattrs):
            name = f"an impossible name, or one of more than {xattr.LONGEST} bytes"
            raise member.flaw(f"has an extended attribute of {name}; make it again without")
        if member.kind == "symlink" and not (0 < len(member.target) < BLOCK and b"\0" not in member.target):
            raise member.flaw("is a symbolic link that leads nowhere; make it again")
        if max(member.device) > 0xFFFFF or member.device[0] > 0xFFF:
            raise member.flaw("is a device of a number that Linux does not have; make it again")
        self.nodes += 1
        self._text += len(member.name) + len(member.target) + xattrs
        if self.nodes > self._most or self._text > _MOST_TEXT:
            raise member.flaw(f"comes after {self.nodes} others, more than Corral takes; make it with fewer")
        blocks = (member.kind == "folder" or len(member.target) >= _SHORT_LINK) + bool(xattrs)
        self._fill(blocks + sum(-(-length // BLOCK) for _, length in member.segments))
        return TreeNode(member, self.nodes)

    def _fill(self, blocks: int) -> None:
        self.blocks += blocks
        self._left -= blocks * BLOCK
        if self._left < 0:
            raise Flaw(self._too_large)

    def _replace_metadata(self, node: TreeNode, member: Member) -> None:
        if member.kind != "folder":
            raise member.flaw("is to replace a folder; make it again")
        fresh = self._new(member)
        node.member = fresh.member

    def _save(self, node: TreeNode, archive: Archive) -> None:
        node.data = os.path.join(self._data, str(node.number))
        with open(node.data, "xb", buffering=0) as file:
            for offset, piece in archive.data(node.member):
                view = piece
                while view:
                    done = os.pwrite(file.fileno(), view, offset)
                    offset, view = offset + done, view[done:]
            file.truncate(node.member.size)

    def _drop(self, node: TreeNode) -> None:
        node.names -= 1
        if node.names == 0 and node.data:
            os.unlink(node.data)

    def stage(self) -> str:
        """Makes the files, and gives the folder that has them. Every name of it is new and nothing in it is followed:
        what is written lies in a folder of ours."""
        top = os.path.join(self._folder, "tree")
        os.mkdir(top, 0o700)
        self._stage_folder(os.fsencode(top), self.root)
        return top

    def _stage_folder(self, path: bytes, node: TreeNode) -> None:
        for name, child in (node.children or {}).items():
            here = path + b"/" + name
            if child.is_device:
                continue
            if child.children is not None:
                os.mkdir(here, 0o700)
                self._stage_folder(here, child)
            elif child.tag:  # a further name
                os.link(child.data, here, follow_symlinks=False)
                continue
            elif child.member.kind == "symlink":
                os.symlink(child.member.target, here)
            elif child.member.kind == "fifo":
                os.mkfifo(here, 0o600)
            else:
                os.rename(child.data, here)
            self._tag(here, child)

    def _tag(self, path: bytes, node: TreeNode) -> None:
        member = node.member
        if member.kind in ("file", "folder", "fifo"):
            # Nothing that would have a meaning here; most are already as they shall be then.
            os.chmod(path, member.mode & 0o777 | (0o700 if member.kind == "folder" else 0o600))
        node.tag = len(self._tags) + 1
        node.data = os.fsdecode(path)
        self._tags[node.tag] = node
        os.utime(path, (node.tag, member.mtime), follow_symlinks=False)

    def commands(self, inodes: Iterable[Inode]) -> Iterator[str]:
        """What makes the inodes of the new file system those of the tree."""
        numbers = {}
        for inode in inodes:
            node = self.root if inode.number == ROOT_INODE else self._tags.get(inode.atime)
            if node is None:  # lost+found
                continue
            numbers[node.number] = inode.number
            member, target = node.member, f"<{inode.number}>"
            mode = TYPES[member.kind] | (0o777 if member.kind == "symlink" else member.mode)
            if inode.mode != mode:
                yield f"sif {target} mode 0{mode:o}"
            if inode.uid != member.uid:
                yield f"sif {target} uid {member.uid}"
            if inode.gid != member.gid:
                yield f"sif {target} gid {member.gid}"
            yield f"sif {target} atime @{member.mtime}"
            if inode.number == ROOT_INODE and member.mtime:
                yield f"sif {target} mtime @{member.mtime}"
            yield from self._attributes(target, member, f"{node.number}")
        if len(numbers) != len(self._tags) + 1:
            raise HostError("the folder of the image is on a file system that does not keep access times; use another")
        yield from self._devices(self.root, numbers)

    def _attributes(self, target: str, member: Member, stem: str) -> Iterator[str]:
        for count, (key, value) in enumerate(member.xattrs):
            with open(os.path.join(self._xattrs, f"{stem}-{count}"), "wb") as file:
                file.write(value)
            yield f"ea_set -f xattrs/{stem}-{count} {target} {quoted(key)}"

    def _devices(self, folder: TreeNode, numbers: dict[int, int]) -> Iterator[str]:
        entered = False
        for name, node in (folder.children or {}).items():
            if node.children is not None:
                yield from self._devices(node, numbers)
                entered = False
            if not node.is_device:
                continue
            if not entered:
                yield f"cd <{numbers[folder.number]}>"
                entered = True
            member, word, path = node.member, quoted(name), quoted(b"./" + name)
            if word is None or path is None:
                raise member.flaw("is a device with a control character in its name; make it again")
            kind = "c" if member.kind == "char" else "b"
            yield f"mknod {word} {kind} {member.device[0]} {member.device[1]}"
            yield f"sif {path} mode 0{TYPES[member.kind] | member.mode:o}"
            yield f"sif {path} uid {member.uid}"
            yield f"sif {path} gid {member.gid}"
            yield f"sif {path} atime @{member.mtime}"
            yield f"sif {path} mtime @{member.mtime}"
            yield from self._attributes(path, member, f"{node.number}")


def _parts(member: Member, path: bytes | None = None) -> list[bytes]:
    """A path's names, from the image's root: a leading / means the same."""
    whole = member.name if path is None else path
    parts = [part for part in whole.split(b"/") if part not in (b"", b".")]
    if b".." in parts:
        raise member.flaw("has a .. in its path, which could lead out of the image; make it again")
    if b"\0" in whole:
        raise member.flaw("has a NUL in its path; make it again")
    if len(whole) > _LONGEST_PATH or len(parts) > _DEEPEST or any(len(part) > _LONGEST_NAME for part in parts):
        raise member.flaw("has a name that is too long or too deep; make it again")
    return parts


def _folder(name: bytes) -> Member:
    """A folder that the archive only takes for granted."""
    return Member(name=name, kind="folder", mode=0o755, uid=0, gid=0, mtime=0)


def _printable_name(name: bytes) -> str:
    return printable(os.fsdecode(name[:200]))
