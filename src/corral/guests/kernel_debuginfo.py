"""Debug information of the kernels that Corral boots: a vmlinux with DWARF for drgn, crash and gdb, and its types alone
(BTF) for what Corral tells itself. In the cache by the kernel's build ID; made or fetched when it is asked for.

The small kernel is compiled once more, with -g and otherwise the same; its symbols must be where the kernel's are. Of
Debian's kernels it is the package linux-image-RELEASE-dbg.
"""

from __future__ import annotations

import os
import re

from corral.errors import HostError
from corral.files import elf_notes
from corral.guests import cache, debian, kernel, step
from corral.startup.record import record
from corral.symbols.kernel_image import KernelImage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from corral.guests.kernel import KernelFile

    Progress = Callable[[str], None]

FOLDER = "debuginfo"
PACKAGES = [*kernel.BUILD_PACKAGES, "binutils", "dwarves"]
_BANNER = re.compile(rb"Linux version [^\n\0]{1,400}? #1 [^\n\0]*?(\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \w+ \d{4})\n")
_MOST_SMALL = 64 << 20  # bytes of the small kernel


@record(frozen=True)
class DebugInfo:
    """Paths; `types` is None where the kernel has its BTF in its memory."""

    vmlinux: str
    types: str | None


def find(build_id: bytes) -> DebugInfo | None:
    """What the cache has of the kernel with this build ID."""
    folder = cache.folder(FOLDER, build_id.hex())
    vmlinux, types = os.path.join(folder, "vmlinux"), os.path.join(folder, "types.btf")
    if not os.path.isfile(vmlinux):
        return None
    return DebugInfo(vmlinux, types if os.path.isfile(types) else None)


def get(of: KernelFile, progress: Progress = lambda text: None) -> DebugInfo:
    """Makes or fetches it, unless it is in the cache. Raises HostError."""
    identity = build_id(of.path)
    target = cache.folder(FOLDER, identity.hex())
    with cache.making(target, progress) as unfinished:
        if unfinished and of.package:
            _fetch(of, identity, unfinished, progress)
        elif unfinished:
            _compile(of, identity, unfinished, progress)
    found = find(identity)
    if found is None:
        raise HostError(f"{target!r} is damaged; remove it and try again")
    return found


def build_id(path: str) -> bytes:
    """Of a kernel file. Raises HostError for one that has none, BootError for what is no kernel."""
    return _place_of_build_id(path)[1]


def _place_of_build_id(path: str) -> tuple[int, bytes]:
    """Its offset in the file, and itself. Raises as build_id() does."""
    with KernelImage(path) as image:
        found = elf_notes.build_id_of(image.file)
    if found is None:
        raise HostError(f"{path!r} has no build ID, so that no debug information can be known to be its own")
    return found


def _compile(of: KernelFile, identity: bytes, into: str, progress: Progress) -> None:
    import shutil

    with open(of.path, "rb") as file:
        content = file.read(_MOST_SMALL)
    banner = _BANNER.search(content)
    if banner is None or of.symbols is None:
        raise HostError(f"{of.path!r} does not tell when it was built, so that it cannot be built once more")
    package = debian.dependency("linux-source", "linux-source-")
    if (version := debian.candidate(package)) != of.version:
        raise HostError(
            f"the small kernel here is {of.version}, and its source is to be had in {version} alone; "
            "build that one first: corral kernel build small"
        )
    debian.require_installed(PACKAGES, "building a kernel with debug information")
    tree = os.path.join(into, "tree")
    when = f"KBUILD_BUILD_TIMESTAMP={banner[1].decode()}"
    kernel.compile_tree(tree, package, of.version, progress, " -g", (when,))
    with open(of.symbols, "rb") as ours, open(os.path.join(tree, "System.map"), "rb") as made:
        if ours.read() != made.read():
            raise HostError(
                "the kernel that was built with debug information is another one: its symbols are elsewhere; has the "
                "compiler changed? Build the small kernel anew: corral cache --clean kernels, corral kernel build small"
            )
    vmlinux = os.path.join(into, "vmlinux")
    os.rename(os.path.join(tree, "vmlinux"), vmlinux)
    _give(vmlinux, identity)
    progress("small kernel: its types")
    types = f"--btf_encode_detached={os.path.join(into, 'types.btf')}"
    step.run(["pahole", types, vmlinux], "pahole")
    shutil.rmtree(tree)


def _give(vmlinux: str, identity: bytes) -> None:
    """The kernel's build ID in place of its own, which is a hash of the debug information too."""
    place, own = _place_of_build_id(vmlinux)
    if len(own) != len(identity):
        raise HostError(f"{vmlinux!r} has a build ID that is not as long as the kernel's; has the linker changed?")
    with open(vmlinux, "r+b") as file:
        file.seek(place)
        file.write(identity)


def _fetch(of: KernelFile, identity: bytes, into: str, progress: Progress) -> None:
    import shutil

    assert of.package
    package = f"linux-image-{of.package.release}-dbg"
    progress(f"fetching {debian.download(package)}")
    content = os.path.join(into, "package")
    os.mkdir(content)
    debian.unpack(package, content)
    found = os.path.join(content, "usr/lib/debug/boot", f"vmlinux-{of.package.release}")
    if not os.path.isfile(found):
        raise HostError(f"the package {package} has no vmlinux where Debian's have it")
    if build_id(found) != identity:
        raise HostError(
            f"the package {package} is of another build than {of.path!r}; fetch the kernel anew: corral kernel build"
        )
    os.rename(found, os.path.join(into, "vmlinux"))
    shutil.rmtree(content)
