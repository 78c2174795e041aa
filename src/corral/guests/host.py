"""This host as a guest: its own kernel, and its own files through a shared folder (`corral boot host`)."""

from __future__ import annotations

import os

from corral.errors import HostError
from corral.guests import cache, sources
from corral.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Progress = Callable[[str], None]

TAG = "host"  # guests/init/host.c mounts the share of this name
MODULES = ["virtio_mmio", "9pnet_virtio", "9p", "overlay"]
MODULE_FOLDERS = ("/lib/modules", "/usr/lib/modules")


@record(frozen=True)
class HostKernel:
    """A kernel and the folder of its modules. `own`: it is from this host's /boot."""

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


def get(progress: Progress = lambda text: None) -> HostGuest:
    """Made if the cache lacks it. Raises HostError."""
    kernel = find(os.uname().release) or _distributions(progress)
    about = os.stat(kernel.image)
    key = sources.digest(f"{kernel.image} {about.st_size} {about.st_mtime_ns} {kernel.modules}".encode())
    from corral.guests import initramfs, root_initramfs, unpacked

    vmlinux = unpacked.vmlinux(kernel.image, f"host-{kernel.release}_{key}", progress)
    target = cache.folder("host", f"{kernel.release}_{key}_{initramfs.key('host.c')}")
    with cache.making(target, progress) as unfinished:
        if unfinished:
            progress("making its initramfs")
            path = os.path.join(unfinished, "initramfs.cpio")
            root_initramfs.build("host.c", MODULES, kernel.modules, path)
    return HostGuest(kernel, vmlinux, os.path.join(target, "initramfs.cpio"))


def find(running: str, boot: str = "/boot", module_folders: tuple[str, ...] = MODULE_FOLDERS) -> HostKernel | None:
    """The kernel that runs here, or else the newest in /boot, with its modules; None where there is none. Raises
    HostError for one that the user may not read."""
    names = [name for name in (os.listdir(boot) if os.path.isdir(boot) else []) if name.startswith("vmlinuz-")]
    newest = sorted(names, key=lambda name: os.path.getmtime(os.path.join(boot, name)), reverse=True)
    for name in sorted(newest, key=lambda name: name != f"vmlinuz-{running}"):
        image, release = os.path.join(boot, name), name.removeprefix("vmlinuz-")
        modules = next((path for parent in module_folders if os.path.isdir(path := f"{parent}/{release}")), None)
        if modules and not os.access(image, os.R_OK):
            raise HostError(f"{image} is not yours to read; as root: chmod a+r {image}")
        if modules:
            return HostKernel(release, image, modules, own=True)
    return None


def _distributions(progress: Progress) -> HostKernel:
    from corral.guests import kernel

    found = kernel.get("stock", progress)
    package = os.path.dirname(os.path.dirname(found.path))
    return HostKernel(found.version, found.path, os.path.join(package, "lib", "modules", found.version), own=False)
