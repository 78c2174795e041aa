"""A distribution as a guest: its root file system as an image, its kernel, and an initramfs that joins them.

All of it is made by the distribution's own tools (apt, mmdebstrap), which check signatures and sums, and kept in the
cache as one folder. A guest writes to a layer of its own, so the image stays as it was made.
"""

from __future__ import annotations

import os

from corral.errors import ConfigError, HostError
from corral.guests import cache, sources
from corral.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Progress = Callable[[str], None]

FAMILIES = ("debian", "ubuntu")
INIT_OF_SMALL = "/usr/local/sbin/corral-init"  # in the image: what Corral's small kernel starts
SIZE = 4 << 30  # of the image, in bytes; it is sparse
VARIANT = "minbase"
# systemd and what it wants for a login and for the power button; and what a person misses at once.
PACKAGES = ("systemd-sysv", "udev", "dbus", "libpam-systemd", "kmod", "e2fsprogs", "procps", "less", "vim-tiny")
HOOKS = (
    'chroot "$1" passwd --delete root',
    'echo corral >"$1/etc/hostname"',
    'echo "127.0.0.1 localhost corral" >"$1/etc/hosts"',
    # Every guest begins with the image as it is. An empty one is no first boot, which would ask for locale and keymap.
    ': >"$1/etc/machine-id"',
    'rm -f "$1/etc/resolv.conf"',
    'chmod 755 "$1/usr/local/sbin/"*',
    # What looks for LVM, and a login on a screen: this machine has neither.
    'chroot "$1" systemctl disable --quiet e2scrub_reap.service getty@tty1.service',
    # As systemd-update-done does: its packages' users are there, so no boot has to look for that.
    'touch --reference="$1/usr" "$1/etc/.updated" "$1/var/.updated"',
)
FILES = ("small-init", "power")
POWER = ("poweroff", "reboot", "halt")


@record(frozen=True)
class Distribution:
    """One in the cache. `kernel` is its vmlinux, `release` that kernel's version."""

    name: str
    release: str
    folder: str

    @property
    def kernel(self) -> str:
        return os.path.join(self.folder, "vmlinux")

    @property
    def initramfs(self) -> str:
        return os.path.join(self.folder, "initramfs.cpio")

    @property
    def image(self) -> str:
        return os.path.join(self.folder, IMAGE)


IMAGE = "root.img"
ABOUT = "release"


def is_name(word: str) -> bool:
    """Whether the operand of `corral boot` names a distribution; a file of that name is written ./debian, for source
    trees have a folder debian."""
    return word.partition(":")[0] in FAMILIES


def get(word: str, generic: bool, progress: Progress = lambda text: None) -> Distribution:
    """The distribution "debian", "debian:SUITE" or "ubuntu:SUITE", made if the cache lacks it: some minutes, once.

    `generic`: with the kernel for every PC and not that for virtual machines. Raises ConfigError for what is no such
    name, HostError when the host's package sources do not reach it, or a tool is missing.
    """
    family, _, suite = word.partition(":")
    suite = suite or _own_suite(family)
    if not suite.isascii() or not suite.replace("-", "").isalnum():
        raise ConfigError(f"{word!r}: {suite!r} is no release's name; write it like debian:trixie")
    name = f"{family}-{suite}" + "-generic" * generic
    target = cache.folder("distributions", f"{name}_{_key()}")
    with cache.making(target, progress) as unfinished:
        if unfinished:
            from corral.guests import distribution_build

            distribution_build.build(family, suite, generic, unfinished, progress)
    return _found(name, target)


def _found(name: str, folder: str) -> Distribution:
    with open(os.path.join(folder, ABOUT), encoding="ascii") as file:
        return Distribution(name, file.read().strip(), folder)


def ready() -> list[Distribution]:
    """Those in the cache that fit this Corral, by name."""
    parent, suffix = cache.folder("distributions"), f"_{_key()}"
    names = sorted(os.listdir(parent)) if os.path.isdir(parent) else []
    return [
        _found(name.removesuffix(suffix), os.path.join(parent, name))
        for name in names
        if name.endswith(suffix) and os.path.isdir(os.path.join(parent, name))
    ]


def _key() -> str:
    """What an image is made from, apart from the distribution itself."""
    from corral.guests import initramfs

    recipe = repr((VARIANT, PACKAGES, HOOKS, POWER, SIZE))
    files = []
    for name in FILES:
        with open(os.path.join(sources.folder("distribution"), name), "rb") as file:
            files.append(file.read())
    return sources.digest(recipe.encode(), initramfs.key("root.c").encode(), *files)


def _own_suite(family: str) -> str:
    """The host's own release, where the host is of that family."""
    values = {}
    try:
        with open("/etc/os-release", encoding="utf-8", errors="replace") as file:
            for line in file:
                key, _, value = line.strip().partition("=")
                values[key] = value.strip('"')
    except OSError:
        pass
    suite = values.get("VERSION_CODENAME", "")
    if values.get("ID") == family and suite:
        return suite
    raise HostError(f"this host is no {family}, so its release must be named: {family}:SUITE")
