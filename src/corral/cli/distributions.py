"""`corral boot debian` and `corral boot host`: the same as `corral boot` with a kernel, an initramfs, and a disk or a
shared folder, which are made first."""

from __future__ import annotations

import os

from corral.cli.options import Arguments
from corral.cli.terminal import Progress
from corral.errors import ConfigError, HostError
from corral.guests import distribution
from corral.kvm.system import Kind, host_kind

KERNELS = ("cloud", "generic", "small")
GRACE = "15"  # seconds: systemd takes some to stop everything


HOST = "host"


def expand(arguments: Arguments, notices: list[str]) -> Arguments:
    """The command line in `corral boot`'s other words. Raises ConfigError for one that contradicts itself, HostError
    when the distribution cannot be made."""
    word = arguments.operands[0]
    if word == HOST:
        return _host(arguments, notices)
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


def _host(arguments: Arguments, notices: list[str]) -> Arguments:
    for name in ("initrd", "root"):
        if name in arguments.values:
            raise ConfigError(f"host has its own initramfs and root; leave --{name} out")
    kernel = arguments.values.get("kernel")
    if kernel not in (None, HOST):
        raise ConfigError(f"--kernel {kernel!r}: the guest that looks like this host has the host's")
    if host_kind() is Kind.PAGETABLE and kernel is None:
        raise HostError(
            "this KVM interprets kernel code: the host's own kernel takes some fifteen minutes to boot, "
            "--kernel host does it all the same; corral boot debian has a small one"
        )
    import pwd

    from corral.guests import host, parameters

    with Progress() as progress:
        found = host.get(progress)
    if not found.kernel.own:
        notices.append(
            f"no kernel in /boot that could mount the host's files; {found.kernel.release} from its packages then"
        )
    every = {name: list(values) for name, values in arguments.every.items()}
    with open("/proc/self/mountinfo", encoding="ascii") as file:
        mounts = host.mounts(file.read())
    shares = [f"{_escaped(path)},tag={host.TAG}{index}" for index, path in enumerate(mounts)]
    every["share"] = [*shares, *every.get("share", [])]
    every["initrd"] = [found.initramfs]
    every["root"] = ["none"]
    user = pwd.getpwuid(os.getuid()).pw_name
    every["append"] = [" ".join([parameters.for_host(mounts, user, os.getcwd()), arguments.values.get("append", "")])]
    return Arguments(every, [found.vmlinux], arguments.rest)


def _escaped(path: str) -> str:
    return os.path.realpath(path).replace(",", ",,")
