"""Makes a distribution's guest (distribution.py says what that is) with the distribution's own tools."""

from __future__ import annotations

import os

from corral.errors import HostError
from corral.guests import apt_suite, cache, debian, distribution, root_initramfs, sources, step, unpacked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from corral.guests.apt_suite import Suite

    Progress = Callable[[str], None]

METAPACKAGES = {
    "debian": ("linux-image-cloud-amd64", "linux-image-amd64"),
    "ubuntu": ("linux-image-virtual", "linux-image-generic"),
}
MMDEBSTRAP_LINES = 15  # that it prints, a measure of how far it is; only the progress depends on it


def build(family: str, suite: str, generic: bool, into: str, progress: Progress) -> None:
    """Fills the folder `into`. Its stages are kept: what was interrupted goes on after the last whole one."""
    progress(f"{family} {suite}: looking for its packages")
    debian.require_installed(["mmdebstrap", "e2fsprogs"], "making a root file system")
    where = apt_suite.find(family, suite)
    package = debian.dependency(METAPACKAGES[family][generic], "linux-image-", where.options)
    release = package.removeprefix("linux-image-").removeprefix("unsigned-")
    progress(f"{family} {suite}: fetching {package}")
    unpacked_package = debian.fetch(package, where.options)
    # Ubuntu has a kernel's modules and its configuration in a package of their own.
    modules_package = (
        debian.fetch(f"linux-modules-{release}", where.options) if family == "ubuntu" else unpacked_package
    )
    modules = _modules(modules_package, release)

    stage = cache.folder("distributions", "stages", f"{os.path.basename(into).split('.')[0]}_{release}")
    with cache.making(stage, progress) as unfinished:
        if unfinished:
            _root(suite, where, modules, os.path.join(unfinished, "root.tar"), progress)
    from corral.images.build import from_tar

    from_tar(os.path.join(stage, "root.tar"), os.path.join(into, distribution.IMAGE), distribution.SIZE, progress)
    progress("making its initramfs")
    root_initramfs.build("root.c", root_initramfs.ROOT_DISK, modules, os.path.join(into, "initramfs.cpio"))
    image = os.path.join(unpacked_package, "boot", f"vmlinuz-{release}")
    os.link(unpacked.vmlinux(image, os.path.basename(unpacked_package), progress), os.path.join(into, "vmlinux"))
    configuration = f"config-{release}"  # where the preflight looks first
    os.link(os.path.join(modules_package, "boot", configuration), os.path.join(into, configuration))
    with open(os.path.join(into, distribution.ABOUT), "w", encoding="ascii") as file:
        file.write(f"{release}\n")

    import shutil

    shutil.rmtree(stage)


def _modules(package: str, release: str) -> str:
    for parent in ("lib", "usr/lib"):
        folder = os.path.join(package, parent, "modules", release)
        if os.path.isdir(folder):
            return folder
    raise HostError(f"{os.path.basename(package)} has no modules; name another release")


def _root(suite: str, where: Suite, modules: str, tar: str, progress: Progress) -> None:
    """The root file system as a tar archive: as root in a chroot, else in a user namespace, mmdebstrap chooses."""
    release = os.path.basename(modules)
    files = sources.folder("distribution")
    hooks = [
        'mkdir -p "$1/usr/lib/modules"',
        f"copy-in {modules} /usr/lib/modules",
        f'chroot "$1" depmod {release}',
        f"upload {files}/small-init {distribution.INIT_OF_SMALL}",
        *(f"upload {files}/power /usr/local/sbin/{name}" for name in distribution.POWER),
        *distribution.HOOKS,
    ]
    command = [
        *("mmdebstrap", f"--variant={distribution.VARIANT}", f"--include={','.join(distribution.PACKAGES)}"),
        *(f"--customize-hook={hook}" for hook in hooks),
        *("--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*"),
        *(suite, tar, *where.sources),
    ]

    def show(lines: int, line: str) -> None:
        if line.startswith("I: "):
            text = line.removeprefix("I: ").split("...")[0]
            progress(f"root file system: {text[:50]}, {min(99, lines * 100 // MMDEBSTRAP_LINES)} %")

    step.run(command, f"making the root file system of {suite}", show)
