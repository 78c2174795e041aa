"""What every guest of a container image boots with: an initramfs whose init mounts the image (guests/init/container.c),
and the file system that takes what is written."""

from __future__ import annotations

import os

from corral.guests import cache, programs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

SOURCE = "container.c"
LAYERS, KEPT, IMAGE = "layers", "kept", "layer.img"


def initramfs_path(progress: Callable[[str], None]) -> str:
    """Made when it is not in the cache. Raises HostError without a compiler."""
    target = cache.folder("initramfs", f"container_{programs.key(SOURCE)}")
    with cache.making(target) as unfinished:
        if unfinished:
            from corral.guests import root_initramfs

            progress("building the initramfs")
            root_initramfs.build(SOURCE, [], "", os.path.join(unfinished, "initramfs.cpio"))
    return os.path.join(target, "initramfs.cpio")


def empty_layer(size: int, progress: Callable[[str], None]) -> str:
    """A sparse image of `size` bytes with an empty ext4, which guests write to with a layer of their own over it.
    Raises HostError, BootError."""
    target = cache.folder(LAYERS, str(size))
    with cache.making(target) as unfinished:
        if unfinished:
            progress("making an empty file system")
            _make(unfinished, size)
    return os.path.join(target, IMAGE)


def kept_layer(name: str, image: str, size: int, progress: Callable[[str], None]) -> str:
    """The one that is kept by that name, which is made when it is not there; it goes with the image
    that has this digest. Raises ConfigError where it was made over another, HostError, BootError."""
    from corral.errors import ConfigError

    target = cache.folder(KEPT, name)
    with cache.making(target) as unfinished:
        if unfinished:
            progress("making an empty file system")
            _make(unfinished, size)
            with open(os.path.join(unfinished, "image"), "w", encoding="utf-8") as file:
                file.write(image)
    with open(os.path.join(target, "image"), encoding="utf-8") as file:
        if file.read() != image:
            raise ConfigError(f"--keep {name}: it was written over another image; give this one another name")
    return os.path.join(target, IMAGE)


def _make(folder: str, size: int) -> None:
    """Without a journal: what a guest writes is gone with it, or it is shut down."""
    from corral.images import e2fsprogs

    with open(os.path.join(folder, IMAGE), "wb") as file:
        os.truncate(file.fileno(), size)
    e2fsprogs.make_file_system(folder, IMAGE, features="^has_journal")
