"""Layers of a container image, each a tar archive over those before it, as one tree of files in an EROFS image.

Nothing of a layer is ever a file of the host's: data goes to the image at once, names stay in memory. So a path cannot
lead out, a device is a number, and a symbolic link is followed within the tree.

Source: OCI image-spec, layer.md: what a layer removes are names with ".wh." before them, and ".wh..wh..opq" for all
that the layers below have in a folder. Both are about the layers below, wherever in a layer they stand.
"""

from __future__ import annotations

import stat

from corral.files.file import Flaw, printable
from corral.files.tar import TYPES, Member
from corral.images import erofs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from corral.files.xattr import Pairs

    Data = Iterable[tuple[int, memoryview]]

MOST_FILES = 1 << 20
_MOST_TEXT = 256 << 20  # bytes of names and targets, which are in memory
_LONGEST_PATH = 4096
_DEEPEST = 256
_LONGEST_TARGET = 4095
_MOST_HOPS = 40  # symbolic links in a path, as for Linux
_STEPS, _MORE_STEPS = 1_000_000, 40  # names that are looked up: for any image, and for each of its files
_GONE, _OPAQUE, _OTHERS = b".wh.", b".wh..wh..opq", b".wh..wh."
# What would have a meaning to an overlayfs above the image, which is no business of an image.
_OF_OVERLAYS = (b"trusted.overlay.", b"user.overlay.")


class _Leaf:
    """`names` counts where it is; `target` is a symbolic link's."""

    __slots__ = ("layer", "mode", "names", "placed", "target")

    def __init__(self, placed: erofs.Placed, mode: int, target: bytes, layer: int) -> None:
        self.placed, self.mode, self.target, self.layer = placed, mode, target, layer
        self.names = 0


class _Folder:
    """`layer`: the last that has it or something in it; `cleared`: the last that has hidden what was in it."""

    __slots__ = ("children", "cleared", "layer", "meta", "placed")

    def __init__(self, meta: erofs.Meta, layer: int) -> None:
        self.meta, self.layer = meta, layer
        self.children: dict[bytes, _Folder | _Leaf] = {}
        self.cleared = -1
        self.placed = erofs.Placed(0)


class Layers:
    """take() has the layers from the lowest up; finish() makes it a file system. Both raise Flaw."""

    def __init__(self, writer: erofs.Writer) -> None:
        self._writer = writer
        self._layer = -1
        self.files = self._text = self._steps = 0
        self._linked: dict[int, _Leaf] = {}  # by nid: those that had another name at any time
        self._root = _Folder(_implied(), 0)

    def take(self, members: Iterable[tuple[Member, Data]]) -> None:
        """One more layer: each member, and its data, which is read before the next."""
        self._layer += 1
        for member, data in members:
            try:
                self._take(member, data)
            except Flaw as flaw:
                raise flaw if str(flaw).startswith("member ") else member.flaw(str(flaw)) from None

    def _take(self, member: Member, data: Data) -> None:
        parts = _parts(member.name)
        if not parts:
            self._replace_meta(self._root, member)
            return
        name = parts[-1]
        if name.startswith(_GONE) or any(part.startswith(_GONE) for part in parts):
            self._hide(parts)
            return
        parent = self._folder(parts[:-1])
        old = parent.children.get(name)
        if member.kind == "folder" and isinstance(old, _Folder):
            self._replace_meta(old, member)
            return
        new: _Folder | _Leaf
        if member.kind == "hard link":
            new = self._linked_to(member)
            new.layer = self._layer
            if new is old:
                return
            new.names += 1
        elif member.kind == "folder":
            self._count(len(name))
            new = _Folder(_meta(member), self._layer)
        else:
            new = self._leaf(name, member, data)
        parent.children[name] = new
        if old is not None:
            self._drop(old)

    def _leaf(self, name: bytes, member: Member, data: Data) -> _Leaf:
        meta = _meta(member)
        self._count(len(name) + len(member.target))
        target = b""
        if member.kind == "file":
            placed = self._writer.file(meta, member.size, data)
        elif member.kind == "symlink":
            target = member.target
            if not 0 < len(target) <= _LONGEST_TARGET or b"\0" in target:
                raise Flaw("is a symbolic link that leads nowhere; build the image again")
            placed = self._writer.file(meta, len(target), [(0, memoryview(target))])
        else:
            major, minor = member.device
            if not (0 <= major <= 0xFFF and 0 <= minor <= 0xFFFFF):
                raise Flaw("is a device of a number that Linux does not have; build the image again")
            placed = self._writer.special(meta, member.device)
        leaf = _Leaf(placed, meta.mode, target, self._layer)
        leaf.names = 1
        return leaf

    def _linked_to(self, member: Member) -> _Leaf:
        parts = _parts(member.target)
        parent = self._find(parts[:-1]) if parts else None
        node = parent.children.get(parts[-1]) if parent else None
        if not isinstance(node, _Leaf):
            what = "is not in the image before it" if node is None else "is a folder"
            raise Flaw(f"is a hard link to {_shown(member.target)}, which {what}; build the image again")
        self._count(0)
        self._linked[node.placed.nid] = node
        return node

    def _replace_meta(self, folder: _Folder, member: Member) -> None:
        if member.kind != "folder":
            raise Flaw("is to be the root of the image, which is a folder; build the image again")
        self._count(0)
        folder.meta, folder.layer = _meta(member), self._layer

    def _count(self, text: int) -> None:
        self.files += 1
        self._text += text
        if self.files > MOST_FILES or self._text > _MOST_TEXT:
            raise Flaw(f"comes after {self.files - 1} others, more than Corral takes; make the image of fewer files")

    # Paths in the tree.

    def _folder(self, parts: list[bytes]) -> _Folder:
        """The folder with that path, which is made where it is not there yet; symbolic links are followed."""
        folder = self._walk(parts, make=True)
        if folder is None:
            raise Flaw("is to lie in what is no folder; build the image again")
        return folder

    def _find(self, parts: list[bytes]) -> _Folder | None:
        return self._walk(parts, make=False)

    def _walk(self, parts: list[bytes], make: bool) -> _Folder | None:
        path = [self._root]
        left = parts[::-1]
        hops = 0
        while left:
            self._step()
            name = left.pop()
            if name == b"..":  # of a link; the root's is the root
                path = path[:-1] or path
                continue
            node = path[-1].children.get(name)
            if isinstance(node, _Leaf):
                if not node.target:
                    if not make or node.layer == self._layer:
                        return None
                    node = self._made(path[-1], name)  # over a file of a layer below
                else:
                    hops += 1
                    if hops > _MOST_HOPS:
                        raise Flaw("has a path of symbolic links that form a loop; build the image again")
                    if node.target.startswith(b"/"):
                        path = path[:1]
                    found = [part for part in node.target.split(b"/") if part not in (b"", b".")]
                    self._step(len(found))
                    left += found[::-1]
                    continue
            elif node is None:
                if not make:
                    return None
                node = self._made(path[-1], name)
            path.append(node)
            if len(path) > _DEEPEST:
                raise Flaw("lies too deep in folders; build the image again")
        if make:
            for folder in path:
                folder.layer = self._layer
        return path[-1]

    def _made(self, parent: _Folder, name: bytes) -> _Folder:
        """A folder that the layer only takes for granted."""
        self._count(len(name))
        old = parent.children.get(name)
        made = parent.children[name] = _Folder(_implied(), self._layer)
        if old is not None:
            self._drop(old)
        return made

    def _step(self, count: int = 1) -> None:
        self._steps += count
        if self._steps > _STEPS + _MORE_STEPS * self.files:
            raise Flaw("has, with those before it, too long a way to go by symbolic links; build the image again")

    # What is removed.

    def _hide(self, parts: list[bytes]) -> None:
        *above, name = parts
        if any(part.startswith(_GONE) for part in above):
            return  # AUFS's own, like what else begins with .wh..wh.
        parent = self._find(above)
        if name == _OPAQUE:
            if parent is not None:
                self._clear(parent)
            return
        name = name.removeprefix(_GONE)
        if name in (b"", b".", b".."):
            raise Flaw("removes what is no file; build the image again")
        if name.startswith(_OTHERS.removeprefix(_GONE)) or parent is None:
            return
        node = parent.children.get(name)
        if node is None:
            return
        if node.layer < self._layer:
            del parent.children[name]
            self._drop(node)
        elif isinstance(node, _Folder):
            self._clear(node)

    def _clear(self, top: _Folder) -> None:
        """Of what is in the folder stays what this layer has."""
        folders = [top]
        while folders:
            folder = folders.pop()
            if folder.cleared == self._layer:
                continue
            folder.cleared = self._layer
            for name, node in list(folder.children.items()):
                if node.layer < self._layer:
                    del folder.children[name]
                    self._drop(node)
                elif isinstance(node, _Folder):
                    folders.append(node)

    def _drop(self, top: _Folder | _Leaf) -> None:
        nodes = [top]
        while nodes:
            node = nodes.pop()
            if isinstance(node, _Folder):
                nodes += node.children.values()
                node.children = {}
                continue
            node.names -= 1
            if not node.names:
                self._writer.free(node.placed)
                self._linked.pop(node.placed.nid, None)

    # The end.

    def finish(self) -> None:
        writer = self._writer
        folders = list(_folders(self._root))
        for folder, _ in folders:
            names = [b".", b"..", *folder.children]
            folder.placed = writer.place_folder(folder.meta, names, is_root=folder is self._root)
        writer.flush()
        for folder, parent in folders:
            entries = [(b".", folder.placed.nid, stat.S_IFDIR), (b"..", parent.placed.nid, stat.S_IFDIR)]
            below = 0
            for name, node in folder.children.items():
                below += isinstance(node, _Folder)
                mode = stat.S_IFDIR if isinstance(node, _Folder) else node.mode
                entries.append((name, node.placed.nid, mode))
            writer.folder(folder.placed, folder.meta, entries)
            if below:
                writer.links(folder.placed.nid, 2 + below)
        for leaf in self._linked.values():
            writer.links(leaf.placed.nid, leaf.names)
        writer.finish()


def _folders(root: _Folder) -> Iterator[tuple[_Folder, _Folder]]:
    """Each with the one that it is in."""
    waiting = [(root, root)]
    while waiting:
        folder, parent = waiting.pop()
        yield folder, parent
        waiting += [(node, folder) for node in folder.children.values() if isinstance(node, _Folder)]


def _parts(path: bytes) -> list[bytes]:
    """A path's names, from the image's root: a leading / means the same."""
    parts = [part for part in path.split(b"/") if part not in (b"", b".")]
    if b".." in parts:
        raise Flaw("has a .. in its path, which could lead out of the image; build it again")
    if b"\0" in path:
        raise Flaw("has a NUL in its path; build the image again")
    if len(path) > _LONGEST_PATH or len(parts) > _DEEPEST or any(len(part) > erofs.LONGEST_NAME for part in parts):
        raise Flaw("has a name that is too long or too deep; build the image again")
    return parts


def _meta(member: Member) -> erofs.Meta:
    mode = TYPES[member.kind] | (0o777 if member.kind == "symlink" else member.mode)
    return erofs.Meta(mode, member.uid, member.gid, member.mtime, _kept(member.xattrs))


def _kept(xattrs: Pairs) -> Pairs:
    return tuple(pair for pair in xattrs if not pair[0].startswith(_OF_OVERLAYS)) if xattrs else ()


def _implied() -> erofs.Meta:
    return erofs.Meta(stat.S_IFDIR | 0o755, 0, 0, 0)


def _shown(name: bytes) -> str:
    return printable(str(name[:200], "utf-8", "replace"))
