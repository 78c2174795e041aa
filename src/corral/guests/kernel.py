"""Kernels to boot: the distribution's own, and the small one that Corral builds from the distribution's source."""

from __future__ import annotations

import os

from corral.guests import cache, carried_kernel, debian, kernel_edits, kernel_options, kernel_package, sources, step
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from corral.boot.kernel_config import KernelConfig
    from corral.guests.kernel_package import KernelPackage

    Progress = Callable[[str], None]

BUILD_PACKAGES = ["gcc", "make", "flex", "bison", "bc", "libelf-dev", "libc6-dev", "xz-utils"]
# Lines that the build prints, a measure of how far it is; only the progress depends on it.
BUILD_LINES = 1600
# What the small kernel does not need of its source: 46,000 files of 79,000. Every Kconfig that another one names stays,
# those of other architectures' crypto folders among them.
UNNEEDED = [
    "Documentation/[a-z]*",
    "arch/[a-wyz]*/[abd-rt-z]*",  # fs/hostfs includes a Makefile of arch/um/scripts
    "drivers/gpu/*.[ch]",
    "drivers/infiniband/*.[ch]",
    "drivers/media/*.[ch]",
    "drivers/net/ethernet/*.[ch]",
    "drivers/net/wireless/*.[ch]",
    "drivers/scsi/*.[ch]",
    "drivers/staging/*.[ch]",
    "drivers/usb/*.[ch]",
    "sound/*.[ch]",
    "tools/perf",
    "tools/testing",
]
# For cold code gcc prefers small instructions, `rep stosb` and `rep movsb`, one interpreted iteration a byte: clearing
# .bss that way takes half a second on a pagetable KVM. This makes it eight bytes an iteration.
COMPILER_FLAGS = "-mstringop-strategy=rep_8byte"
SMALL = "small"
STOCK_METAPACKAGES = {"stock": "linux-image-cloud-amd64", "stock-generic": "linux-image-amd64"}
NAMES = [SMALL, *STOCK_METAPACKAGES]


@record(frozen=True)
class KernelFile:
    """A kernel that is ready to boot. `symbols` is its System.map, None where there is none; `package` is the
    distribution's that it is from, None for one that Corral has built."""

    name: str
    version: str
    path: str
    symbols: str | None
    package: KernelPackage | None = None


def get(name: str, progress: Progress = lambda text: None, refresh: bool = False) -> KernelFile:
    """The kernel with that name, one of NAMES, made or fetched if the cache lacks it.

    What is in the cache is taken as it is: asking apt for something newer takes half a second. `refresh` asks.
    Raises HostError naming what the host lacks.
    """
    if not refresh and (found := [kernel for kernel in ready() if kernel.name == name]):
        return found[-1]
    return small(progress) if name == SMALL else stock(name, progress)


def configuration() -> KernelConfig:
    """What the small kernel has, before it is built too."""
    from corral.boot.kernel_config import KernelConfig

    with open(os.path.join(sources.folder("linux"), kernel_options.FILE), encoding="ascii") as file:
        return KernelConfig("guests/linux", file.read())


def small(progress: Progress = lambda text: None) -> KernelFile:
    """The small kernel from the distribution's source of today: a few minutes on two cores, once."""
    if carried_kernel.folder() and not _carried():
        progress("the package corral-kernel was made for another version of Corral, and is not used")
    package = debian.dependency("linux-source", "linux-source-")
    version = debian.candidate(package)
    target = cache.folder("kernels", f"{SMALL}_{version}_{key(version)}")
    with cache.making(target, progress) as unfinished:
        if unfinished:
            _build(package, version, unfinished, progress)
    return _small_file(version, target)


def stock(name: str = "stock", progress: Progress = lambda text: None) -> KernelFile:
    """The distribution's own kernel of today, from its package."""
    package = debian.dependency(STOCK_METAPACKAGES[name], kernel_package.PREFIX)
    progress(f"fetching {debian.download(package)}")
    return _stock_file(name, kernel_package.fetch(package))


def ready() -> list[KernelFile]:
    """The kernels in the cache, or carried by a package, that fit this Corral, of each name the oldest first."""
    found = []
    for folder in cache.made("kernels"):
        name, _, rest = os.path.basename(folder).partition("_")
        version, _, built_from = rest.rpartition("_")
        if name == SMALL and kernel_options.is_version(version) and built_from == key(version):
            found.append(_small_file(version, folder))
    found = found or _carried()
    for package in kernel_package.ready():
        found.append(_stock_file("stock" if "-cloud-" in package.release else "stock-generic", package))
    return found


def _carried() -> list[KernelFile]:
    """The installed package's, if it was made for this Corral."""
    folder = carried_kernel.folder()
    if folder is None:
        return []
    version, built_from = carried_kernel.version(folder)
    fits = kernel_options.is_version(version) and built_from == key(version)
    return [_small_file(version, folder)] if fits else []


def _small_file(version: str, folder: str) -> KernelFile:
    return KernelFile(SMALL, version, os.path.join(folder, "vmlinux"), os.path.join(folder, "System.map"))


def _stock_file(name: str, package: KernelPackage) -> KernelFile:
    return KernelFile(name, package.release, package.image, package.symbols, package)


def key(version: str) -> str:
    """What the kernel is built from; comments do not count, nor do the options of other versions."""
    options = kernel_options.values(kernel_options.fragment(version))
    lines = sorted(f"{option}={value}" for option, value in options.items())
    return sources.digest(*(line.encode() for line in lines), COMPILER_FLAGS.encode(), *kernel_edits.contents())


def _build(package: str, version: str, into: str, progress: Progress) -> None:
    import shutil

    debian.require_installed(BUILD_PACKAGES, "building the small kernel")
    tree = os.path.join(into, "tree")
    compile_tree(tree, package, version, progress)
    step.run(["strip", "--output-file", os.path.join(into, "vmlinux"), os.path.join(tree, "vmlinux")], "strip")
    shutil.copy(os.path.join(tree, "System.map"), into)
    shutil.copy(os.path.join(tree, ".config"), os.path.join(into, "config"))
    shutil.rmtree(tree)
    progress("small kernel: ready")


def compile_tree(
    tree: str, package: str, version: str, progress: Progress, flags: str = "", variables: tuple[str, ...] = ()
) -> None:
    """Unpacks the source into the new folder `tree`, and makes vmlinux, System.map and .config there. `flags` are more
    ones for the compiler, `variables` of make's. Raises HostError."""
    progress(f"small kernel: fetching {debian.download(package)}")
    archive = debian.file(package, f"{package}.tar.*")

    os.mkdir(tree)
    progress("small kernel: unpacking its source")
    excluded = [f"--exclude={package}/{pattern}" for pattern in UNNEEDED]
    step.run(["tar", "--extract", "--file", archive, "--directory", tree, "--strip-components=1", *excluded], "tar")
    kernel_edits.apply(tree, version)

    configuration = os.path.join(tree, "fragment")
    options = kernel_options.fragment(version)
    with open(configuration, "w", encoding="ascii") as output:
        output.write(options)
    make = ["make", f"--directory={tree}"]
    step.run([*make, "allnoconfig", f"KCONFIG_ALLCONFIG={configuration}"], "configuring the kernel")
    with open(os.path.join(tree, ".config")) as got:
        kernel_options.require(options, got.read())

    # The build's own output is what shows how far it is, so no --silent.
    jobs = f"--jobs={len(os.sched_getaffinity(0)) + 1}"  # one that reads files
    words = [*make, jobs, f"KCFLAGS={COMPILER_FLAGS}{flags}", *variables, "vmlinux"]
    step.run(words, "building the kernel", _build_progress(progress))


def _build_progress(progress: Progress) -> Callable[[int, str], None]:
    """Tells how far the build is by the lines that it has printed, and how long it will take by the time so far."""
    import time

    began = time.monotonic()

    def show(lines: int, line: str) -> None:
        percent = min(99, lines * 100 // BUILD_LINES)
        about = ""
        if percent > 4:  # before, it would be a guess
            left = (time.monotonic() - began) * (100 - percent) / percent
            about = f", {left / 60:.0f} min left" if left > 90 else f", {10 * round(left / 10)} s left"
        progress(f"small kernel: building{about}, {percent} %")

    return show
