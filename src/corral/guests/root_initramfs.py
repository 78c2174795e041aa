"""The initramfs of a distribution's guest: an init that mounts the root disk, and the modules that this takes."""

from __future__ import annotations

import os
import stat

from corral.guests import initramfs
from corral.guests.initramfs import entry, trailer
from corral.guests.modules import load_order

# modprobe's names. ext4 asks for crc32c by an alias, which nobody resolves here: both drivers of it are loaded first.
ROOT_DISK = ["virtio_mmio", "virtio_blk", "crc32c_generic", "crc32c_intel", "ext4"]
MOST_MODULES = 100  # that guests/init/early.h looks for


def build(source: str, modules: list[str], tree: str, path: str) -> None:
    """Writes it to `path`: the init `source` of guests/init, and `modules` with what they need of `tree`, the folder of
    the kernel's modules. Raises HostError without a compiler."""
    folder = os.path.dirname(path)
    init = initramfs.compiled(source, folder)
    os.unlink(os.path.join(folder, "init"))
    with open(path, "wb") as file:
        file.write(archive(init, load_order(tree, modules)))


def archive(init: bytes, modules: list[tuple[str, bytes]]) -> bytes:
    """The cpio archive; `modules`, each its file's name and content, in the order in which they load."""
    assert len(modules) <= MOST_MODULES
    files = [entry(f"modules/{name}", stat.S_IFREG | 0o644, content) for name, content in modules]
    links = [entry(f"modules/{at:02}", stat.S_IFLNK | 0o777, name.encode()) for at, (name, _) in enumerate(modules)]
    return b"".join(
        [
            entry("dev", stat.S_IFDIR | 0o755),
            entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1)),
            entry("init", stat.S_IFREG | 0o755, init),
            entry("modules", stat.S_IFDIR | 0o755),
            *files,
            *links,
            trailer(),
        ]
    )
