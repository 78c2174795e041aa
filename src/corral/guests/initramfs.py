"""Corral's initramfs: init, a busybox and the console's device node, in a cpio archive that Python writes."""

from __future__ import annotations

import os
import stat

from corral.files.cpio import entry, trailer
from corral.guests import cache, programs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def path(progress: Callable[[str], None] = lambda text: None) -> str:
    """The initramfs, built when it is not in the cache. Raises HostError when busybox or gcc can't be had."""
    target = cache.folder("initramfs", programs.key("init.c"))
    with cache.making(target) as unfinished:
        if unfinished:
            progress("building the initramfs")
            init, agent = programs.compiled("init.c", unfinished), programs.compiled(programs.AGENT, unfinished)
            with open(os.path.join(unfinished, "initramfs.cpio"), "wb") as file:
                file.write(archive(init, busybox(), agent))
    return os.path.join(target, "initramfs.cpio")


def archive(init: bytes, busybox: bytes, agent: bytes) -> bytes:
    """The cpio archive. busybox is /bin/sh; it finds its other applets by itself (it prefers them to files)."""
    return b"".join(
        [
            entry("dev", stat.S_IFDIR | 0o755),
            entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1)),
            entry("init", stat.S_IFREG | 0o755, init),
            entry("agent", stat.S_IFREG | 0o755, agent),
            entry("bin", stat.S_IFDIR | 0o755),
            entry("bin/busybox", stat.S_IFREG | 0o755, busybox),
            entry("bin/sh", stat.S_IFLNK | 0o777, b"busybox"),
            trailer(),
        ]
    )


def busybox() -> bytes:
    """The package's beside Corral, else the distribution's, which needs no libraries. Raises HostError when it can't be
    had."""
    from corral.guests import carried_kernel, debian

    carried = carried_kernel.folder()
    path = os.path.join(carried, carried_kernel.BUSYBOX) if carried else debian.file("busybox-static", "bin/busybox")
    with open(path, "rb") as file:
        return file.read()
