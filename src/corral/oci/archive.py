"""Images in archives: those of `docker save`, and OCI's layout in a tar file.

The files of an archive go to a folder of ours by numbers; its names, and the links that old versions of `docker save`
have, are kept beside them and never used as paths here.

Source: moby, image/spec/v1.2.md ("Combined Image JSON + Filesystem Changeset Format").
"""

from __future__ import annotations

import json
import os
import posixpath
from contextlib import contextmanager

from corral.files.file import Flaw, ImageFile, printable
from corral.files.stream import unpacked
from corral.files.tar import Archive
from corral.oci import build, documents, layout, store
from corral.oci.contents import Contents

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from corral.oci.reference import Reference

_MOST = 10_000  # files
_MOST_LINKS = 8  # that lead to each other
_MANIFEST = "manifest.json"


class Unpacked:
    """An archive's files, in `folder`, which is private and empty. `limit`: bytes. Raises Flaw, BootError."""

    def __init__(self, path: str, folder: str, limit: int, progress: Callable[[str], None]) -> None:
        self._folder = folder
        self._files: dict[str, str] = {}
        self._links: dict[str, str] = {}
        with ImageFile(path, "archive") as file:
            progress(f"reading {printable(os.path.basename(path))}")
            archive = Archive(unpacked(file))
            for member in archive:
                name = _clean(member.name)
                if member.kind == "symlink":
                    self._links[name] = _clean(posixpath.dirname(member.name) + b"/" + member.target)
                elif member.kind == "hard link":
                    self._links[name] = _clean(member.target)
                elif member.kind == "file":
                    limit -= member.size
                    if limit < 0:
                        raise Flaw("unpacks to more than there is room for; free some")
                    self._save(name, archive.data(member), member.size)
                if len(self._files) + len(self._links) > _MOST:
                    raise Flaw(f"has more than {_MOST} files, which no image needs; make the archive again")
            file.require_unchanged()

    def _save(self, name: str, data: Any, size: int) -> None:
        path = os.path.join(self._folder, str(len(self._files)))
        with open(path, "wb") as file:
            for offset, piece in data:
                file.seek(offset)
                file.write(piece)
            file.truncate(size)
        self._files[name] = path
        self._links.pop(name, None)

    def path(self, name: str) -> str:
        for _ in range(_MOST_LINKS):
            if name in self._files:
                return self._files[name]
            name = self._links.get(name, "")
        raise Flaw("lacks a file that its index or manifest names; make it again")

    def has(self, name: str) -> bool:
        return name in self._files


def identity(path: str) -> str:
    """Of the archive as it is now. Raises BootError."""
    with ImageFile(path, "archive") as file:
        return repr(file.identity)


@contextmanager
def opened(wanted: Reference, progress: Callable[[str], None]) -> Iterator[Contents]:
    """The image that a reference names. While it is open its files are in a folder of the cache."""
    with store.scratch() as folder:
        files = Unpacked(wanted.place, folder, build.room(folder), progress)
        yield of_layout(files, wanted.tag) if wanted.transport == "oci-archive" else of_docker(files, wanted.tag)


def of_layout(files: Unpacked, tag: str) -> Contents:
    if not files.has(layout.INDEX):
        raise Flaw(f"is no OCI archive: it has no {layout.INDEX}; if `docker save` made it, name it as docker-archive:")
    return layout.contents(tag, files.path)


def of_docker(files: Unpacked, tag: str) -> Contents:
    """The image that has the name `tag`, or the only one where that is ""."""
    if not files.has(_MANIFEST):
        raise Flaw(f"is not of `docker save`: it has no {_MANIFEST}; if it is OCI's, name it as oci-archive:")
    data = layout.read(files.path(_MANIFEST), documents.LONGEST, "manifest")
    entry = _listed(data, tag)
    config_name, listed = entry.get("Config"), entry.get("Layers")
    layer_names: list[Any] = listed if isinstance(listed, list) else [None]
    if not isinstance(config_name, str) or not all(isinstance(name, str) for name in layer_names):
        raise Flaw("has a manifest that is not as `docker save` writes it; make it again")
    config = layout.read(files.path(_normal(config_name)), documents.LONGEST, "configuration")
    found = documents.document(config, "configuration")
    names = [_normal(name) for name in layer_names]
    ids = documents.diff_ids(found, len(names))
    # There is no manifest with a digest. This is that of one which names the same.
    same = json.dumps({"config": documents.digest_of(config), "layers": ids}, separators=(",", ":"))
    stored = (None,) * len(names)
    return Contents(documents.digest_of(same.encode()), found, stored, lambda number: files.path(names[number]))


def _listed(data: bytes, tag: str) -> dict[str, Any]:
    """The entry of an image in a manifest.json, which is a list."""
    listed = documents.document(b'{"images":' + data + b"}", "manifest").get("images")
    if not isinstance(listed, list) or not listed or not all(isinstance(entry, dict) for entry in listed):
        raise Flaw("has a manifest that is not as `docker save` writes it; make it again")
    entries: list[dict[str, Any]] = listed
    if tag:
        from corral.oci.reference import parse

        wanted = parse(tag).name
        for entry in entries:
            if any(_is_name(name, wanted) for name in _tags(entry)):
                return entry
    elif len(entries) == 1:
        return entries[0]
    names = [printable(name) for entry in entries for name in _tags(entry)]
    there = f"there is {', '.join(names[:8])}" if names else "nothing in it has a name"
    what = f"has no image {printable(tag)}" if tag else f"has {len(entries)} images"
    raise Flaw(f"{what}; {there}; name one behind the file, as FILE:NAME")


def _is_name(name: str, wanted: str) -> bool:
    from corral.errors import ConfigError
    from corral.oci.reference import parse

    try:
        return parse(name).name == wanted
    except ConfigError:
        return False


def _tags(entry: dict[str, Any]) -> list[str]:
    tags = entry.get("RepoTags")
    return [tag for tag in tags if isinstance(tag, str)] if isinstance(tags, list) else []


def _normal(name: str) -> str:
    return _clean(name.encode("utf-8", "replace"))


def _clean(name: bytes) -> str:
    """A name without . and .., from the archive's top."""
    return posixpath.normpath("/" + os.fsdecode(name)).lstrip("/")
