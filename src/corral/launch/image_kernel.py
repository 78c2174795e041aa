"""The kernel that a disk's own system would boot, copied out of it into the cache, with what belongs to it.

The folder is named by its content, so an image whose system has a new kernel gets another one, and a guest that writes
to its disk changes nothing that is there already.
"""

from __future__ import annotations

import os

from corral.boot import companions
from corral.errors import BootError
from corral.files.file import Flaw
from corral.guests import cache

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from corral.images.boot_folder import BootFiles

KEPT = 4  # kernels: those that were used last


def copy(found: BootFiles, disk: str, progress: Callable[[str], None] = lambda text: None) -> str:
    """The path of the kernel; configuration, initramfs and symbols lie beside it, named after it. Raises BootError for
    a file system that is damaged, naming the `disk`; HostError, OSError."""
    names = _names(found)
    try:
        target = cache.folder("from-disks", _digest(found, names))
        with cache.making(target, progress) as unfinished:
            if unfinished:
                progress(f"copying {os.path.basename(found.kernel)} out of the disk")
                for source, name in names.items():
                    with open(os.path.join(unfinished, name), "wb") as file:
                        file.writelines(_pieces(found, source))
        os.utime(target)
    except Flaw as flaw:
        raise BootError(f"disk {disk!r}: its file system {flaw}; check it with e2fsck, or name a KERNEL") from None
    _forget_old(target)
    return os.path.join(target, names[found.kernel])


def _names(found: BootFiles) -> dict[str, str]:
    """What each file is called in the cache."""
    kernel = found.kernel.rpartition("/")[2]
    tail = next(iter(companions.tails(kernel, None)), "")
    end = f"-{tail}" if tail else ""
    names = {found.kernel: kernel, found.config: f"config{end}", found.symbols: f"System.map{end}"}
    names[found.initramfs] = f"initrd.img{end}"
    return {source: name for source, name in names.items() if source}


def _digest(found: BootFiles, names: dict[str, str]) -> str:
    from hashlib import sha256

    digest = sha256()
    for source, name in names.items():
        digest.update(f"{name}\0".encode())
        for piece in _pieces(found, source):
            digest.update(piece)
    return digest.hexdigest()[:40]


def _pieces(found: BootFiles, path: str) -> Iterator[bytes]:
    node = found.files.find(path)
    if node is None:
        raise Flaw("changed while it was read")
    return found.files.pieces(node)


def _forget_old(used: str) -> None:
    """Leaves the newest few. One that a guest boots from is read by now."""
    import shutil

    parent = os.path.dirname(used)
    folders = [path for name in os.listdir(parent) if os.path.isdir(path := os.path.join(parent, name))]
    whole = [path for path in folders if ".unfinished-" not in path]
    for path in sorted(whole, key=os.path.getmtime, reverse=True)[KEPT:]:
        shutil.rmtree(path, ignore_errors=True)
