"""A distribution as a guest: its root file system as an image, its kernel, and an initramfs that joins them.

All of it is made by the distribution's own tools (apt, mmdebstrap), which check signatures and sums, and kept in the
cache as one folder. A guest writes to a layer of its own, so the image stays as it was made.
"""

from __future__ import annotations

import os

from corral.errors import ConfigError, HostError
from corral.guests import cache, sources
from corral.guests.distribution_recipe import ABOUT, FILES, HOOKS, IMAGE, PACKAGES, POWER, SIZE, VARIANT
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Progress = Callable[[str], None]

FAMILIES = ("debian", "ubuntu")
COMMAND = "/run/corral/command"  # what runs a command there: guests/init/service.h


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


def is_name(word: str) -> bool:
    """Whether the operand of `corral boot` names a distribution; a file with that name is written ./debian, for source
    trees have a folder debian."""
    return word.partition(":")[0] in FAMILIES


def get(word: str, generic: bool, progress: Progress = lambda text: None) -> Distribution:
    """The distribution "debian", "debian:SUITE" or "ubuntu:SUITE", made if the cache lacks it: some minutes, once.

    `generic`: with the kernel for every PC and not that for virtual machines. Raises ConfigError for what is no such
    name, HostError when the host's package sources do not reach it, or a tool is missing.
    """
    family, suite = release_of(word)
    name = f"{family}-{suite}" + "-generic" * generic
    target = cache.folder("distributions", f"{name}_{_key()}")
    with cache.making(target, progress) as unfinished:
        if unfinished:
            from corral.guests import distribution_build

            distribution_build.build(family, suite, generic, unfinished, progress)
    return _found(name, target)


def release_of(word: str) -> tuple[str, str]:
    """Family and release that a word names; without a release the host's own. Raises ConfigError, HostError."""
    from corral.guests import releases

    family, _, suite = word.partition(":")
    suite = suite or releases.of_host(family) or ""
    if not suite:
        raise HostError(f"this host is no {family}, so its release must be named: {family}:SUITE")
    if not suite.isascii() or not suite.replace("-", "").isalnum():
        raise ConfigError(f"{word!r}: {suite!r} is no release's name; write it like debian:trixie")
    releases.check(family, suite)
    return family, suite


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
    from corral.guests import programs

    recipe = repr((VARIANT, PACKAGES, HOOKS, POWER, SIZE))
    files = []
    for name in FILES:
        with open(os.path.join(sources.folder("distribution"), name), "rb") as file:
            files.append(file.read())
    inits = programs.key("root.c").encode(), programs.key("command.c").encode()
    return sources.digest(recipe.encode(), *inits, *files)
