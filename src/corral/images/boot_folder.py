"""The kernel that a disk's system boots by itself, with what belongs to it: found in /boot, on the root or apart.

Sources: the Boot Loader Specification (loader/entries/*.conf); GRUB's manual for `linux` in grub.cfg.
"""

from __future__ import annotations

from corral.boot import companions
from corral.files.file import Flaw
from corral.images.volumes import EXT
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from corral.files.ext4_files import Ext4Files
    from corral.images.root import Root
    from corral.images.volumes import DiskVolumes

LARGEST_KERNEL, LARGEST_INITRAMFS = 256 << 20, 512 << 20  # bytes
LARGEST_CONFIGURATION, LARGEST_SYMBOLS = 4 << 20, 32 << 20
_PREFIXES = ("vmlinuz", "vmlinux-", "bzImage", "kernel-")
_NEVER = ("rescue", ".old", ".bak", ".hmac", ".sig", ".efi")
_MODULES = ("/usr/lib/modules", "/lib/modules")
_MOST_OF_LOADER = 1 << 20
_MOST_WORDS = 1000  # characters
_MOST_NAMES = 200  # of kernels, or of releases that have modules
# Of a boot loader's words for the kernel those that say what the root is, and what starts there.
_WORDS = ("root", "rootflags", "rootfstype", "init", "modules", "ostree", "zfs", "cryptdevice", "cryptroot")


@record(frozen=True)
class BootFiles:
    """Paths in `files`, "" for what is not there. `words` are kernel parameters that the boot loader of the disk gives:
    what is the root and what starts there. They come from the image, printable and without blanks."""

    files: Ext4Files
    kernel: str
    initramfs: str
    config: str
    symbols: str
    words: tuple[str, ...]


def find(disk: DiskVolumes, root: Root) -> BootFiles | None:
    """None where there is none in a file system that can be read here."""
    for files, folder in _folders(disk, root):
        try:
            if kernel := _kernel(files, folder, disk.size):
                return _with_companions(files, folder, kernel, disk.size)
        except Flaw:
            continue
    return None


def configuration(disk: DiskVolumes, root: Root, release: str) -> tuple[str, str] | None:
    """The text of the configuration that the disk has for a kernel of this release, and its path; None where there is
    none. `release` is the kernel's word, hostile."""
    if not release or "/" in release:
        return None
    for files, folder in _folders(disk, root):
        path = f"{folder}/config-{release}".replace("//", "/")
        try:
            content = files.content(path, LARGEST_CONFIGURATION)
        except Flaw:
            continue
        if content:
            return content.decode(errors="replace"), path
    return None


def _folders(disk: DiskVolumes, root: Root) -> Iterator[tuple[Ext4Files, str]]:
    """Where /boot may be, likeliest first: a partition of its own is mounted over the root's."""
    partitions = [volume for volume in disk.volumes if volume.system in EXT and volume.number != root.partition]
    apart = sorted(partitions, key=lambda volume: volume.type != "Linux boot" and "boot" not in volume.label.lower())
    for volume in apart:
        if files := volume.files():
            yield files, "/"
    for volume in disk.volumes:
        if volume.number == root.partition and (files := volume.files()):
            yield files, "/boot"
            for modules in _MODULES:
                for release in sorted(_names(files, modules)[:_MOST_NAMES], key=_version, reverse=True):
                    yield files, f"{modules}/{release}"


def _names(files: Ext4Files, folder: str) -> list[str]:
    try:
        return files.names(folder)
    except Flaw:
        return []


def _kernel(files: Ext4Files, folder: str, most: int) -> str:
    """The one that the system calls `vmlinuz`, else the newest. What says to have more bytes than `most`, those of the
    disk, is none. Raises Flaw."""
    names = [name for name in files.names(folder) if name.startswith(_PREFIXES)]
    names = [name for name in names if not any(word in name for word in _NEVER) and name.isprintable()]
    if len(names) > _MOST_NAMES:
        raise Flaw(f"has more than {_MOST_NAMES} kernels")
    sizes = {name: node.size for name in names if (node := files.find(f"{folder}/{name}")) and node.is_file}
    usable = [name for name, size in sizes.items() if 0 < size <= min(LARGEST_KERNEL, most)]
    if "vmlinuz" in usable and (target := files.link(f"{folder}/vmlinuz").rpartition("/")[2]) in usable:
        return target
    return max(usable, key=_version, default="")


def _with_companions(files: Ext4Files, folder: str, kernel: str, whole: int) -> BootFiles:
    """Raises Flaw."""
    release = folder.rpartition("/")[2] if "/modules/" in folder else None
    places = [folder, "/boot"] if release else [folder]
    tails = companions.tails(kernel, release)

    def first(names: list[str], prefix: str, most: int) -> str:
        """Of these names, or else the only one that begins like that."""
        for place in places:
            beside = files.names(place)
            alone = [name for name in beside if name.startswith(prefix) and name.isprintable()]
            for name in [name for name in names if name in beside] or alone[: len(alone) == 1]:
                node = files.find(f"{place}/{name}")
                if node and node.is_file and 0 < node.size <= min(most, whole):
                    return f"{place}/{name}"
        return ""

    return BootFiles(
        files=files,
        kernel=f"{folder}/{kernel}",
        initramfs=first(companions.initramfs(kernel, release), "init", LARGEST_INITRAMFS),
        config=first([f"config-{tail}" for tail in tails], "config", LARGEST_CONFIGURATION),
        symbols=first([f"System.map-{tail}" for tail in tails], "System.map", LARGEST_SYMBOLS),
        words=_words(files, folder, kernel),
    )


def _version(name: str) -> list[tuple[int, int, str]]:
    """A key by which 6.10 comes after 6.9."""
    import re

    return [(1, int(part[:18]), "") if part.isdigit() else (0, 0, part) for part in re.split(r"(\d+)", name)]


def _words(files: Ext4Files, folder: str, kernel: str) -> tuple[str, ...]:
    """Raises Flaw."""
    lines = [*_entries(files, folder), *_grub(files, folder)]
    options = next((rest for path, rest in lines if path.rpartition("/")[2] == kernel), "")
    found: list[str] = []
    for word in options.split():
        name = word.partition("=")[0]
        wanted = name in _WORDS or name.startswith("rd.")
        if wanted and "=" in word and word.isprintable() and word.isascii() and not set(word) & set("\"'`\\${}"):
            found.append(word)
    return tuple(found) if sum(map(len, found)) <= _MOST_WORDS else ()


def _entries(files: Ext4Files, folder: str) -> Iterator[tuple[str, str]]:
    """(kernel, its parameters) of each entry of the Boot Loader Specification."""
    place = f"{folder}/loader/entries"
    for name in files.names(place)[:64]:
        text = _text(files, f"{place}/{name}")
        keys = dict(line.split(None, 1) for line in text.splitlines() if len(line.split(None, 1)) == 2)
        if name.endswith(".conf") and "linux" in keys:
            yield keys["linux"].strip(), keys.get("options", "")


def _grub(files: Ext4Files, folder: str) -> Iterator[tuple[str, str]]:
    for name in ("grub", "grub2"):
        for line in _text(files, f"{folder}/{name}/grub.cfg").splitlines():
            words = line.split(None, 2)
            if len(words) == 3 and words[0] in ("linux", "linux16", "linuxefi"):
                yield words[1], words[2]


def _text(files: Ext4Files, path: str) -> str:
    return (files.content(path, _MOST_OF_LOADER) or b"").decode(errors="replace")
