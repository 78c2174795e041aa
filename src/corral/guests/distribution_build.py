"""Makes a distribution's guest (distribution.py says what that is) with the distribution's own tools."""

from __future__ import annotations

import os

from corral.guests import (
    apt_suite,
    cache,
    debian,
    kernel_package,
    root_initramfs,
    sources,
    step,
    unpacked,
    user_namespace,
)
from corral.guests import distribution_recipe as recipe

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
    debian.require_installed(["mmdebstrap", "e2fsprogs", *user_namespace.packages()], "making a root file system")
    user_namespace.require()
    where = apt_suite.find(family, suite)
    package = debian.dependency(METAPACKAGES[family][generic], kernel_package.PREFIX, where.options)
    progress(f"{family} {suite}: fetching {package}")
    kernel = kernel_package.fetch(package, where.options)

    stage = cache.folder("distributions", "stages", f"{os.path.basename(into).split('.')[0]}_{kernel.release}")
    with cache.making(stage, progress) as unfinished:
        if unfinished:
            _root(suite, where, kernel.modules, os.path.join(unfinished, "root.tar"), progress)
    from corral.images.build import from_tar

    from_tar(os.path.join(stage, "root.tar"), os.path.join(into, recipe.IMAGE), recipe.SIZE, progress)
    progress("making its initramfs")
    modules = root_initramfs.ROOT_DISK + root_initramfs.CHANNEL
    root_initramfs.build("root.c", modules, kernel.modules, os.path.join(into, "initramfs.cpio"), "command.c")
    vmlinux = unpacked.vmlinux(kernel.image, os.path.basename(kernel.folder), progress)
    os.link(vmlinux, os.path.join(into, "vmlinux"))
    os.link(kernel.configuration, os.path.join(into, f"config-{kernel.release}"))  # where the preflight looks first
    with open(os.path.join(into, recipe.ABOUT), "w", encoding="ascii") as file:
        file.write(f"{kernel.release}\n")

    import shutil

    shutil.rmtree(stage)


def _root(suite: str, where: Suite, modules: str, tar: str, progress: Progress) -> None:
    """The root file system as a tar archive: in a user namespace, where root or another user can have one with many
    ids; else, as root alone, in a chroot. The programs of its packages run there."""
    release = os.path.basename(modules)
    files = sources.folder("distribution")
    hooks = [
        'mkdir -p "$1/usr/lib/modules"',
        f"copy-in {modules} /usr/lib/modules",
        f'chroot "$1" depmod {release}',
        f"upload {files}/small-init {recipe.INIT_OF_SMALL}",
        *(f"upload {files}/power /usr/local/sbin/{name}" for name in recipe.POWER),
        *recipe.HOOKS,
    ]
    command = [
        *("mmdebstrap", f"--mode={user_namespace.mmdebstrap_mode()}", f"--variant={recipe.VARIANT}"),
        f"--include={','.join(recipe.PACKAGES)}",
        *(f"--aptopt={line}" for line in apt_suite.fetching()),
        *(f"--customize-hook={hook}" for hook in hooks),
        *("--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*"),
        *(suite, tar, *where.sources),
    ]

    def show(lines: int, line: str) -> None:
        if line.startswith("I: "):
            text = line.removeprefix("I: ").split("...")[0]
            progress(f"root file system: {text[:50]}, {min(99, lines * 100 // MMDEBSTRAP_LINES)} %")

    step.run(command, f"making the root file system of {suite}", show)
