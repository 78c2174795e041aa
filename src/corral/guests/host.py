"""This host as a guest: its own kernel, and its own files through a shared folder (`corral boot host`)."""

from __future__ import annotations

import os

from corral.errors import HostError
from corral.guests import cache, sources
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Progress = Callable[[str], None]

TAG = "host"  # and a digit: guests/init/host.c mounts the shares of these names
MOST_MOUNTS = 9
# What a disk may have, or a network; a kernel's own file systems, and memory, are the guest's own.
FILE_SYSTEMS = {"ext2", "ext3", "ext4", "xfs", "btrfs", "bcachefs", "f2fs", "zfs", "jfs", "vfat", "exfat", "erofs"}
FILE_SYSTEMS |= {"squashfs", "nfs", "nfs4", "9p", "virtiofs", "overlay"}
MODULES = ["virtio_mmio", "9pnet_virtio", "9p", "overlay", "virtio_console"]
MODULE_FOLDERS = ("/lib/modules", "/usr/lib/modules")


@record(frozen=True)
class HostKernel:
    """A kernel that can mount a shared folder, and where its modules are. `own`: it is one that this host boots."""

    release: str
    image: str
    modules: str
    own: bool


@record(frozen=True)
class HostGuest:
    """What boots: a vmlinux and an initramfs."""

    kernel: HostKernel
    vmlinux: str
    initramfs: str


def get(network: bool = False, progress: Progress = lambda text: None) -> HostGuest:
    """Made if the cache lacks it; `network`: with what a network card takes. Raises HostError."""
    kernel = find(os.uname().release) or _distributions(progress)
    about = os.stat(kernel.image)
    key = sources.digest(f"{kernel.image} {about.st_size} {about.st_mtime_ns} {kernel.modules}".encode())
    from corral.guests import programs, root_initramfs, unpacked

    vmlinux = unpacked.vmlinux(kernel.image, f"host-{kernel.release}_{key}", progress)
    target = cache.folder("host", f"{kernel.release}{'_net' * network}_{key}_{programs.key('host.c')}")
    with cache.making(target, progress) as unfinished:
        if unfinished:
            progress("making its initramfs")
            path = os.path.join(unfinished, "initramfs.cpio")
            modules = MODULES + root_initramfs.NETWORK * network
            root_initramfs.build("host.c", modules, kernel.modules, path)
    return HostGuest(kernel, vmlinux, os.path.join(target, "initramfs.cpio"))


def mounts(mountinfo: str) -> list[str]:
    """Where the host's file systems are, / first, by /proc/self/mountinfo. Each is shared by itself: a server does
    not go from one into another. Raises HostError for a root that cannot be shared."""
    kinds = {}
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        path = before.split(" ")[4].encode().decode("unicode_escape").encode("latin-1").decode(errors="surrogateescape")
        kinds[path] = after.split(" ")[0]  # the last is on top
    if kinds.get("/") not in FILE_SYSTEMS:
        raise HostError(f"this host's root is of the kind {kinds.get('/')}, which no guest can look like")
    found = [path for path, kind in kinds.items() if kind in FILE_SYSTEMS and "," not in path and os.path.isdir(path)]
    return sorted(found)[:MOST_MOUNTS]


def find(running: str, boot: str = "/boot", module_folders: tuple[str, ...] = MODULE_FOLDERS) -> HostKernel | None:
    """The kernel that runs here, or else the newest that the host boots, with its modules; None where none is whole.
    Raises HostError for one that the user may not read."""
    newest = sorted(_images(boot, module_folders), key=lambda found: os.path.getmtime(found[1]), reverse=True)
    for release, image in sorted(newest, key=lambda found: found[0] != running):
        modules = next((path for parent in module_folders if _has_9p(path := f"{parent}/{release}")), None)
        if modules and not os.access(image, os.R_OK):
            raise HostError(f"{image} is not yours to read; as root: chmod a+r {image}")
        if modules:
            return HostKernel(release, image, modules, own=True)
    return None


def _images(boot: str, module_folders: tuple[str, ...]) -> list[tuple[str, str]]:
    """Releases and images: in /boot, or beside their modules, as newer distributions have them."""
    names = [name for name in (os.listdir(boot) if os.path.isdir(boot) else []) if name.startswith("vmlinuz-")]
    found = [(name.removeprefix("vmlinuz-"), os.path.join(boot, name)) for name in names]
    for parent in module_folders:
        releases = os.listdir(parent) if os.path.isdir(parent) else []
        beside = [(release, os.path.join(parent, release, "vmlinuz")) for release in releases]
        found += [(release, image) for release, image in beside if os.path.exists(image)]
    return found


def _has_9p(modules: str) -> bool:
    """Whether a kernel can mount the host's files; Debian's for clouds, for instance, cannot."""
    for name in ("modules.order", "modules.builtin"):
        try:
            with open(os.path.join(modules, name), encoding="utf-8", errors="replace") as file:
                if "/9pnet_virtio.ko" in file.read():
                    return True
        except OSError:
            continue
    return False


def _distributions(progress: Progress) -> HostKernel:
    from corral.guests import kernel

    found = kernel.get("stock-generic", progress)
    assert found.package
    return HostKernel(found.version, found.path, found.package.modules, own=False)
