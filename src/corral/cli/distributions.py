"""`corral boot debian`: the same as `corral boot` with a kernel, an initramfs and a disk, which are made first."""

from __future__ import annotations

import os

from corral.cli.options import Arguments
from corral.cli.terminal import Progress
from corral.errors import ConfigError
from corral.guests import distribution
from corral.kvm.system import Kind, host_kind

KERNELS = ("cloud", "generic", "small")
GRACE = "15"  # seconds: systemd takes some to stop everything


def expand(arguments: Arguments) -> Arguments:
    """The command line in `corral boot`'s other words. Raises ConfigError for one that contradicts itself, HostError
    when the distribution cannot be made."""
    word = arguments.operands[0]
    if not distribution.is_name(word):
        return arguments
    for name in ("initrd", "root"):
        if name in arguments.values:
            raise ConfigError(f"{word} has its own initramfs and root disk; leave --{name} out")
    if arguments.rest is not None:
        raise ConfigError(f"a command runs in Corral's own initramfs, not in {word}; leave one of them out")
    kernel = arguments.values.get("kernel", "small" if host_kind() is Kind.PAGETABLE else "cloud")
    if kernel not in KERNELS:
        raise ConfigError(f"--kernel {kernel!r} is none of {', '.join(KERNELS)}")
    with Progress() as progress:
        found = distribution.get(word, kernel == "generic", progress)

    every = {name: list(values) for name, values in arguments.every.items()}
    every["disk"] = [f"{_escaped(found.image)},snapshot=on", *every.get("disk", [])]
    every.setdefault("grace", [GRACE])
    if kernel == "small":
        every["append"] = [f"init={distribution.INIT_OF_SMALL} " + arguments.values.get("append", "")]
        return Arguments(every, [], None)
    every["initrd"] = [found.initramfs]
    return Arguments(every, [found.kernel], None)


def _escaped(path: str) -> str:
    return os.path.realpath(path).replace(",", ",,")
