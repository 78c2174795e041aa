"""The initramfs of a distribution's guest: an init that mounts the root disk, and the modules that this takes."""

from __future__ import annotations

import os
import stat

from corral.files.cpio import entry, trailer
from corral.guests import cache, initramfs, programs
from corral.guests.modules import load_order

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# modprobe's names. ext4 asks for crc32c by an alias, which is not resolved here: both drivers of it are loaded first.
ROOT_DISK = ["virtio_mmio", "virtio_blk", "crc32c_generic", "crc32c_intel", "ext4"]
CHANNEL = ["virtio_mmio", "virtio_console"]
VSOCK = ["virtio_mmio", "vmw_vsock_virtio_transport"]  # the agent's
NETWORK = ["virtio_mmio", "virtio_net"]
AGENT_MODULES = "agent-modules"  # their folder (guests/init/agent.h)
MOST_MODULES = 100  # that guests/init/early.h looks for


def build(source: str, modules: list[str], tree: str, path: str, command: str = "") -> None:
    """Writes it to `path`: the init `source` of guests/init, and `modules` with what they need of `tree`, the folder of
    the kernel's modules; those of the agent are apart, for they are loaded where that is wanted. `command` is the
    source of what a system's service runs. Raises HostError without a compiler."""
    folder = os.path.dirname(path)
    inside = {"init": source, "agent": programs.AGENT} | ({"command": command} if command else {})
    built = {name: programs.compiled(file, folder) for name, file in inside.items()}
    with open(path, "wb") as file:
        file.write(archive(built, load_order(tree, modules), load_order(tree, VSOCK)))


def archive(
    inside: dict[str, bytes], modules: list[tuple[str, bytes]], of_agent: list[tuple[str, bytes]] | None = None
) -> bytes:
    """The cpio archive; `modules`, each its file's name and content, in the order in which they load."""
    return b"".join(
        [
            entry("dev", stat.S_IFDIR | 0o755),
            entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1)),
            *(entry(name, stat.S_IFREG | 0o755, program) for name, program in inside.items()),
            *module_entries(modules),
            *module_entries(of_agent or [], AGENT_MODULES),
            trailer(),
        ]
    )


def module_entries(modules: list[tuple[str, bytes]], folder: str = "modules") -> list[bytes]:
    """What guests/init/early.h loads."""
    assert len(modules) <= MOST_MODULES
    files = [entry(f"{folder}/{name}", stat.S_IFREG | 0o644, content) for name, content in modules]
    links = [entry(f"{folder}/{at:02}", stat.S_IFLNK | 0o777, name.encode()) for at, (name, _) in enumerate(modules)]
    return [entry(folder, stat.S_IFDIR | 0o755), *files, *links]


def with_shell(release: str, tree: str, network: bool, progress: Callable[[str], None]) -> str:
    """Corral's initramfs (initramfs.path) with the modules of the channel, of the agent and of a network card, for a
    kernel that has them apart; made when it is not in the cache. Raises HostError."""
    modules = CHANNEL + NETWORK * network
    target = cache.folder("initramfs", f"{release}{'_net' * network}_{programs.key('init.c')}")
    with cache.making(target, progress) as unfinished:
        if unfinished:
            with open(initramfs.path(progress), "rb") as file:
                content = file.read()
            with open(os.path.join(unfinished, "initramfs.cpio"), "wb") as file:
                file.write(content)  # archives may follow each other
                file.writelines(module_entries(load_order(tree, modules)))
                file.writelines([*module_entries(load_order(tree, VSOCK), AGENT_MODULES), trailer()])
    return os.path.join(target, "initramfs.cpio")
