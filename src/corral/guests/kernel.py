"""Kernels to boot: the distribution's own, and the small one that Corral builds from the distribution's source."""

from __future__ import annotations

import os

from corral.errors import HostError
from corral.guests import cache, debian, sources, step
from corral.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Progress = Callable[[str], None]

BUILD_PACKAGES = ["gcc", "make", "flex", "bison", "bc", "libelf-dev", "libc6-dev", "xz-utils"]
# Lines that the build prints, a measure of how far it is; only the progress depends on it.
BUILD_LINES = 1150
# Of the source's 1.4 GB the small kernel needs a fifth.
UNNEEDED = [
    "Documentation/[a-z]*",  # its Kconfig stays
    "tools/testing",
    "drivers/gpu/drm/*/*.[ch]",
    "drivers/net/ethernet/*/*.[ch]",
    "sound/*/*.[ch]",
]
# For cold code gcc prefers small instructions, `rep stosb` and `rep movsb`, one interpreted iteration a byte: clearing
# .bss that way takes half a second on a pagetable KVM. This makes it eight bytes an iteration.
COMPILER_FLAGS = "-mstringop-strategy=rep_8byte"
# Its linker script gives data that a guest with encrypted memory would share pages of 2 MB, though this kernel has none
# such: 1 MB of nothing, and clearing that takes a pagetable KVM 60 ms.
LINKER_SCRIPT = "arch/x86/kernel/vmlinux.lds.S"
LINKER_EDIT = r"/define BSS_DECRYPTED/,/[^\\]$/s/PMD_SIZE/PAGE_SIZE/"
VARIANTS = {"small": ["small.config"], "small-smp": ["small.config", "smp.config"]}
STOCK_METAPACKAGES = {"stock": "linux-image-cloud-amd64", "stock-generic": "linux-image-amd64"}


@record(frozen=True)
class KernelFile:
    """A kernel that is ready to boot. `symbols` is its System.map, None where there is none."""

    name: str
    version: str
    path: str
    symbols: str | None


def variant(cpus: int) -> str:
    """The small kernel for so many CPUs: one without SMP boots faster."""
    return "small" if cpus == 1 else "small-smp"


def get(name: str, progress: Progress = lambda text: None, refresh: bool = False) -> KernelFile:
    """The kernel of that name (a key of VARIANTS or STOCK_METAPACKAGES), made or fetched if the cache lacks it.

    What is in the cache is taken as it is: asking apt for something newer takes half a second. `refresh` asks.
    Raises HostError naming what the host lacks.
    """
    if not refresh and (found := [kernel for kernel in ready() if kernel.name == name]):
        return found[-1]
    return small(name, progress) if name in VARIANTS else stock(name, progress)


def small(name: str = "small", progress: Progress = lambda text: None) -> KernelFile:
    """A small kernel from the distribution's source of today: a few minutes on two cores, once."""
    package = debian.dependency("linux-source", "linux-source-")
    version = debian.candidate(package)
    target = cache.folder("kernels", f"{name}_{version}_{_key(name)}")
    with cache.making(target, progress) as unfinished:
        if unfinished:
            _build(name, package, unfinished, progress)
    return _small_file(name, version, target)


def stock(name: str = "stock", progress: Progress = lambda text: None) -> KernelFile:
    """The distribution's own kernel of today, from its package."""
    package = debian.dependency(STOCK_METAPACKAGES[name], "linux-image-")
    progress(f"fetching {package}")
    return _stock_file(name, debian.fetch(package))


def ready() -> list[KernelFile]:
    """The kernels in the cache that fit this Corral, oldest first."""
    found: list[tuple[float, KernelFile]] = []
    for name in VARIANTS:
        for folder in _matching(cache.folder("kernels"), f"{name}_", f"_{_key(name)}"):
            version = os.path.basename(folder).split("_")[1]
            found.append((os.path.getmtime(folder), _small_file(name, version, folder)))
    for folder in _matching(cache.folder("debian"), "linux-image-", ""):
        name = "stock" if "-cloud-" in folder else "stock-generic"
        found.append((os.path.getmtime(folder), _stock_file(name, folder)))
    return [kernel for _, kernel in sorted(found, key=lambda pair: pair[0])]


def _matching(folder: str, prefix: str, suffix: str) -> list[str]:
    names = os.listdir(folder) if os.path.isdir(folder) else []
    paths = [os.path.join(folder, n) for n in names if n.startswith(prefix) and n.endswith(suffix)]
    return [path for path in paths if os.path.isdir(path)]


def _small_file(name: str, version: str, folder: str) -> KernelFile:
    return KernelFile(name, version, os.path.join(folder, "vmlinux"), os.path.join(folder, "System.map"))


def _stock_file(name: str, package: str) -> KernelFile:
    release = os.path.basename(package).split("_")[0].removeprefix("linux-image-")
    boot = os.path.join(package, "boot")
    return KernelFile(
        name, release, os.path.join(boot, f"vmlinuz-{release}"), os.path.join(boot, f"System.map-{release}")
    )


def _key(name: str) -> str:
    """What the kernel is built from; comments do not count."""
    options = sorted(f"{option}={value}" for option, value in _options(_fragments(name)).items())
    return sources.digest(*(option.encode() for option in options), COMPILER_FLAGS.encode(), LINKER_EDIT.encode())


def _fragments(name: str) -> str:
    contents = []
    for fragment in VARIANTS[name]:
        with open(os.path.join(sources.folder("linux"), fragment), encoding="ascii") as file:
            contents.append(file.read())
    return "".join(contents)


def _build(name: str, package: str, into: str, progress: Progress) -> None:
    import shutil

    progress(f"kernel {name}: installing what the build needs")
    debian.require_installed(BUILD_PACKAGES, "building the small kernel")
    progress(f"kernel {name}: fetching {package}")
    archive = os.path.join(debian.fetch(package), "usr", "src", f"{package}.tar.xz")

    tree = os.path.join(into, "tree")
    os.mkdir(tree)
    progress(f"kernel {name}: unpacking its source")
    excluded = [f"--exclude={package}/{pattern}" for pattern in UNNEEDED]
    step.run(["tar", "--extract", "--file", archive, "--directory", tree, "--strip-components=1", *excluded], "tar")
    step.run(["sed", "--in-place", LINKER_EDIT, os.path.join(tree, LINKER_SCRIPT)], "sed")

    configuration = os.path.join(into, "fragment")
    with open(configuration, "w", encoding="ascii") as output:
        output.write(_fragments(name))
    make = ["make", f"--directory={tree}"]
    step.run([*make, "allnoconfig", f"KCONFIG_ALLCONFIG={configuration}"], "configuring the kernel")
    with open(configuration) as wanted, open(os.path.join(tree, ".config")) as got:
        require_options(wanted.read(), got.read())

    # The build's own output is what shows how far it is, so no --silent.
    jobs = f"--jobs={len(os.sched_getaffinity(0))}"

    def show(lines: int, line: str) -> None:
        progress(f"kernel {name}: building, {min(99, lines * 100 // BUILD_LINES)} %")

    step.run([*make, jobs, f"KCFLAGS={COMPILER_FLAGS}", "vmlinux"], "building the kernel", show)
    step.run(["strip", "--output-file", os.path.join(into, "vmlinux"), os.path.join(tree, "vmlinux")], "strip")
    shutil.copy(os.path.join(tree, "System.map"), into)
    shutil.copy(os.path.join(tree, ".config"), os.path.join(into, "config"))
    shutil.rmtree(tree)
    os.unlink(configuration)
    progress(f"kernel {name}: ready")


def require_options(fragment: str, configuration: str) -> None:
    """Raises HostError when `configuration`, a .config, does not have what `fragment` sets or leaves out: the
    source's own rules go first, and an option of another version may have another name."""
    have = _options(configuration)
    lost = [f"{name}={value}" for name, value in _options(fragment).items() if have.get(name, "n") != value]
    if lost:
        raise HostError(f"this kernel source does not take {', '.join(lost)}; guests/linux does not fit it")


def _options(text: str) -> dict[str, str]:
    """Each option's value, "n" for one that is not set; the last line counts."""
    options = {}
    for line in text.splitlines():
        if line.startswith("CONFIG_"):
            name, _, value = line.partition("=")
            options[name] = value
        elif line.startswith("# CONFIG_") and line.endswith(" is not set"):
            options[line.split()[1]] = "n"
    return options
