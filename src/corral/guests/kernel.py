"""Kernels to boot: the distribution's own, and the small one that Corral builds from the distribution's source."""

from __future__ import annotations

import os
import shutil

from corral.errors import HostError
from corral.guests import cache, debian, sources
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


def small(name: str = "small", progress: Progress = lambda text: None) -> KernelFile:
    """The small kernel `name` (a key of VARIANTS), built when it is not in the cache: a few minutes on two cores.

    Raises HostError naming what the host lacks.
    """
    package = debian.dependency("linux-source", "linux-source-")
    version = debian.candidate(package)
    target = _small_folder(name, version)
    with cache.making(target) as unfinished:
        if unfinished:
            _build(name, package, unfinished, progress)
    return KernelFile(name, version, os.path.join(target, "vmlinux"), os.path.join(target, "System.map"))


def stock(name: str = "stock", progress: Progress = lambda text: None) -> KernelFile:
    """The distribution's own kernel `name` (a key of STOCK_METAPACKAGES), fetched when it is not in the cache."""
    package = debian.dependency(STOCK_METAPACKAGES[name], "linux-image-")
    progress(f"fetching {package}")
    boot = os.path.join(debian.fetch(package), "boot")
    release = package.removeprefix("linux-image-")
    return KernelFile(
        name, release, os.path.join(boot, f"vmlinuz-{release}"), os.path.join(boot, f"System.map-{release}")
    )


def get(name: str, progress: Progress = lambda text: None) -> KernelFile:
    """The kernel of that name, small or stock."""
    return small(name, progress) if name in VARIANTS else stock(name, progress)


def ready() -> list[KernelFile]:
    """The small kernels in the cache, of any version."""
    found = []
    base = cache.folder("kernels")
    for entry in sorted(os.listdir(base)) if os.path.isdir(base) else []:
        path = os.path.join(base, entry, "vmlinux")
        if os.path.isfile(path):
            name, version, _ = entry.rsplit("_", 2)
            found.append(KernelFile(name, version, path, os.path.join(base, entry, "System.map")))
    return found


def _fragments(name: str) -> list[bytes]:
    contents = []
    for fragment in VARIANTS[name]:
        with open(os.path.join(sources.folder("linux"), fragment), "rb") as file:
            contents.append(file.read())
    return contents


def _small_folder(name: str, version: str) -> str:
    return cache.folder("kernels", f"{name}_{version}_{sources.digest(*_fragments(name))}")


def _build(name: str, package: str, into: str, progress: Progress) -> None:
    progress(f"kernel {name}: installing what the build needs")
    debian.require_installed(BUILD_PACKAGES, "building the small kernel")
    progress(f"kernel {name}: fetching {package}")
    archive = os.path.join(debian.fetch(package), "usr", "src", f"{package}.tar.xz")

    tree = os.path.join(into, "tree")
    os.mkdir(tree)
    progress(f"kernel {name}: unpacking its source")
    excluded = [f"--exclude={package}/{pattern}" for pattern in UNNEEDED]
    _run(["tar", "--extract", "--file", archive, "--directory", tree, "--strip-components=1", *excluded], "tar")

    configuration = os.path.join(into, "fragment")
    with open(configuration, "wb") as output:
        output.write(b"".join(_fragments(name)))
    make = ["make", f"--directory={tree}"]
    _run([*make, "allnoconfig", f"KCONFIG_ALLCONFIG={configuration}"], "configuring the kernel")
    _require_options(configuration, os.path.join(tree, ".config"))

    # The build's own output is what shows how far it is, so no --silent.
    jobs = f"--jobs={len(os.sched_getaffinity(0))}"

    def show(lines: int) -> None:
        progress(f"kernel {name}: building, {min(99, lines * 100 // BUILD_LINES)} %")

    _run([*make, jobs, "vmlinux"], "building the kernel", show)
    _run(["strip", "--output-file", os.path.join(into, "vmlinux"), os.path.join(tree, "vmlinux")], "strip")
    shutil.copy(os.path.join(tree, "System.map"), into)
    shutil.copy(os.path.join(tree, ".config"), os.path.join(into, "config"))
    shutil.rmtree(tree)
    os.unlink(configuration)
    progress(f"kernel {name}: ready")


def _require_options(fragment: str, configuration: str) -> None:
    """Raises HostError when the source's own rules took an option away that the fragment sets."""
    with open(configuration) as file:
        have = set(file.read().splitlines())
    with open(fragment) as file:
        lost = [line.strip() for line in file if line.startswith("CONFIG_") and line.strip() not in have]
    if lost:
        raise HostError(f"this kernel source does not take {', '.join(lost)}; guests/linux does not fit it")


def _run(command: list[str], what: str, progress: Callable[[int], None] = lambda lines: None) -> None:
    """Runs a step of the build in a process group of its own, so that an interrupt ends all of it.

    Raises HostError with the last line of its output.
    """
    import signal
    import subprocess

    environment = {**os.environ, "LC_ALL": "C", "KBUILD_BUILD_USER": "corral", "KBUILD_BUILD_HOST": "corral"}
    process = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    tail: list[str] = []
    assert process.stdout is not None
    try:
        for count, line in enumerate(process.stdout):
            tail = [*tail[-20:], line.strip()]
            progress(count)
        status = process.wait()
    except BaseException:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()
        raise
    if status:
        complaint = next((line for line in tail if "rror" in line), tail[-1] if tail else "no output")
        raise HostError(f"{what} failed: {complaint}")
