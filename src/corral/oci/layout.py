"""Images in a folder of OCI's layout: index.json, and blobs by their digests (OCI image-spec, image-layout.md)."""

from __future__ import annotations

import os

from corral.files.file import Flaw, ImageFile, printable
from corral.oci import documents
from corral.oci.contents import Contents

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

INDEX = "index.json"
_TAG = "org.opencontainers.image.ref.name"


def contents(tag: str, path: Callable[[str], str]) -> Contents:
    """The image `tag`, or the only one where that is "". `path` gives the file that has a name in the layout; or
    raises Flaw."""

    def blob(wanted: documents.Descriptor) -> bytes:
        return read(blob_path(wanted), documents.LONGEST, "document")

    def blob_path(wanted: documents.Descriptor) -> str:
        return path("blobs/" + wanted.digest.replace(":", "/"))

    index = documents.document(read(path(INDEX), documents.LONGEST, "index"), "index")
    first = _listed(documents.entries(index), tag)
    data = blob(first)
    documents.require_digest(data, first.digest, "manifest")
    data, digest = documents.resolved(data, blob)
    return described(data, digest, blob, blob_path)


def described(
    data: bytes,
    digest: str,
    blob: Callable[[documents.Descriptor], bytes],
    blob_path: Callable[[documents.Descriptor], str],
) -> Contents:
    """What a manifest, which has that digest, is about."""
    manifest = documents.manifest(documents.document(data, "manifest"))
    config = blob(manifest.config)
    documents.require_digest(config, manifest.config.digest, "configuration")
    layers = manifest.layers
    found = documents.document(config, "configuration")
    return Contents(digest, found, layers, lambda number: blob_path(layers[number]))


def in_folder(folder: str, tag: str) -> Contents:
    """Of a folder that a person names. Raises Flaw, BootError."""
    if not os.path.isfile(os.path.join(folder, INDEX)):
        raise Flaw(f"is no folder of OCI's layout: there is no {INDEX} in it; check the path")
    return contents(tag, lambda name: os.path.join(folder, name))


def read(path: str, longest: int, what: str) -> bytes:
    with ImageFile(path, what) as file:
        if file.size > longest:
            raise Flaw(f"has a {what} of {file.size} bytes, more than {longest >> 20} MiB; build it again")
        return file.read(0, file.size)


def _listed(entries: list[dict[str, Any]], tag: str) -> documents.Descriptor:
    if tag:
        named = [entry for entry in entries if _tag_of(entry) == tag]
        if not named:
            tags = sorted({_tag_of(entry) for entry in entries} - {""})
            there = f"there is {', '.join(map(printable, tags[:8]))}" if tags else "nothing in it has a tag"
            raise Flaw(f"has no image {printable(tag)}; {there}")
        entries = named
    if not entries:
        raise Flaw("has no image in it")
    if len(entries) == 1:
        return documents.descriptor(entries[0], "index")
    if len({_tag_of(entry) for entry in entries}) > 1:
        shown = ", ".join(printable(_tag_of(entry)) or "one without a tag" for entry in entries[:8])
        raise Flaw(f"has {len(entries)} images: {shown}; name one behind the path, as :TAG")
    return documents.chosen(entries)


def _tag_of(entry: dict[str, Any]) -> str:
    annotations = entry.get("annotations")
    tag = annotations.get(_TAG) if isinstance(annotations, dict) else None
    return tag if isinstance(tag, str) else ""
