"""From a name to an image that a guest can have."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

from corral.errors import BootError, ConfigError
from corral.files.file import Flaw, printable
from corral.oci import reference, store
from corral.oci.documents import ImageConfig
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Literal

    from corral.oci.contents import Contents
    from corral.oci.reference import Reference

PULLS = ("missing", "always", "never")


@record(frozen=True)
class Image:
    """`name` is the whole of it, like docker.io/library/python:3.12; `digest` ("sha256:...") that of its manifest, and
    where there is none that of what stands for one. `root` is a read-only EROFS file system in the cache, which stays
    while a process has it open and locked as guests lock their disks (backends/disk_image.py). `size`: bytes that it
    takes of the host's disk."""

    name: str
    digest: str
    root: Path
    size: int
    config: ImageConfig


def prepare(
    name: str,
    *,
    pull: Literal["missing", "always", "never"] = "missing",
    progress: Callable[[str], None] = lambda text: None,
) -> Image:
    """The image with that name, fetched and unpacked where it is not in the cache yet.

    `pull` is about registries: "missing" asks one only for what is not here, "always" asks whether the name stands for
    another image now, "never" asks none. Images of this host are looked at each time, and made again when they are
    others. Raises ConfigError for a name that cannot be one, BootError for an image that cannot be used, HostError
    where the host lacks something.
    """
    if pull not in PULLS:
        raise ConfigError(f"pull is one of {', '.join(PULLS)}, not {pull!r}")
    wanted = reference.parse(name)
    try:
        digest = _local(wanted, progress) if wanted.is_local else _fetched(wanted, pull, progress)
    except Flaw as flaw:
        raise BootError(f"image {printable(wanted.name)}: {flaw}") from None
    root = os.path.join(store.folder_of(digest), store.ROOT)
    store.used(digest)
    try:
        size = os.stat(root).st_blocks * 512
    except FileNotFoundError:
        raise BootError(f"image {printable(wanted.name)}: it was removed just now; try again") from None
    return Image(wanted.name, digest, Path(root), size, store.config(digest))


def _fetched(wanted: Reference, pull: str, progress: Callable[[str], None]) -> str:
    from corral.oci import registry

    here = store.named(wanted.name)
    if here and (pull != "always" or wanted.digest):
        return here
    if pull == "never":
        raise ConfigError(f"image {wanted.name} is not here, and --pull never fetches none; corral pull {wanted.name}")
    progress(f"asking {wanted.host} for {wanted.name}")
    about = registry.found(wanted)
    if os.path.isdir(store.folder_of(about.digest)):
        store.set_name(wanted.name, about.digest)
        return about.digest
    with registry.opened(wanted, about, progress) as contents:
        return _built(wanted, contents, progress)


def _local(wanted: Reference, progress: Callable[[str], None]) -> str:
    if wanted.transport == reference.FOLDER:
        from corral.oci import rootfs

        return rootfs.built(wanted.place, wanted.name, progress)
    if wanted.transport == reference.LAYOUT:
        from corral.oci import layout

        return _built(wanted, layout.in_folder(wanted.place, wanted.tag), progress)
    with ExitStack() as stack:
        if wanted.transport in reference.STORES:
            from corral.oci import local_store

            identity = local_store.identity(wanted)
        else:
            from corral.oci import archive

            identity = archive.identity(wanted.place)
        if here := store.named(wanted.name, identity):
            return here
        if wanted.transport in reference.STORES:
            contents = stack.enter_context(local_store.opened(wanted, progress))
        else:
            contents = stack.enter_context(archive.opened(wanted, progress))
        return _built(wanted, contents, progress, identity)


def _built(wanted: Reference, contents: Contents, progress: Callable[[str], None], identity: str = "") -> str:
    from corral.oci import build

    build.build(contents.digest, contents.config, lambda tree: contents.apply(tree, progress), progress)
    store.set_name(wanted.name, contents.digest, identity)
    return contents.digest
