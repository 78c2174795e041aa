"""A distribution, or a guest like this host: the request in other words, with a kernel, an initramfs, and a disk or
shared folders, which are made first."""

from __future__ import annotations

import os

from corral.config import DiskConfig, ShareConfig
from corral.errors import ConfigError, HostError
from corral.guests import apt_suite, distribution
from corral.guests.distribution_recipe import INIT_OF_SMALL
from corral.injection import preparing
from corral.injection.unfit import why
from corral.kvm.system import Kind, host_kind
from corral.launch import natively
from corral.launch.events import Notice, steps
from corral.launch.request import HOST
from corral.startup.record import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.guests.distribution import Distribution
    from corral.guests.host import HostGuest
    from corral.launch.events import Tell
    from corral.launch.request import BootRequest

SMALL, CLOUD = "small", "cloud"
KERNELS = (CLOUD, "generic", SMALL)
GRACE = 15.0  # seconds: systemd takes some to stop everything
MEMORY = 512 << 20  # bytes: a distribution's kernel and systemd, on a pagetable KVM too
_SLOW = (
    "the host's own kernel takes some fifteen minutes to boot, --kernel host does it all the same; corral boot debian "
    "has a small one"
)


def resolve(request: BootRequest, tell: Tell) -> BootRequest:
    """The request with files in the place of the name; as it is where its kernel is no such name after all. Raises
    ConfigError for one that contradicts itself, HostError when the distribution cannot be made."""
    word = request.kernel
    if word == HOST:
        return _host(request, tell)
    if word is None or not distribution.is_name(word):
        return request
    _refuse_own(request, f"{word} has its own initramfs and root disk")
    if request.command == ():
        raise ConfigError(f"-- is followed by the command that {word} is to run; there is none")
    kernel = request.variant or _default(request)
    if kernel not in KERNELS:
        raise ConfigError(f"--kernel {kernel!r} is none of {', '.join(KERNELS)}")
    if request.shares and (kernel == SMALL or (kernel == CLOUD and word.startswith("debian"))):
        raise ConfigError(f"--share: the {kernel} kernel has no driver for shared folders; --kernel generic has")
    found = distribution.get(word, kernel == "generic", steps(tell))
    if kernel != SMALL and natively.wanted(host_kind(), request.parameters):
        kernel = _injected(found, kernel, request, tell)

    root = DiskConfig(os.path.realpath(found.image), snapshot=True)
    request = replace(request, disks=(root, *request.disks), variant=None)
    if request.command:
        request = replace(request, serves_channel=True, initrd=found.initramfs)
    elif request.grace is None:
        request = replace(request, grace=GRACE)
    if kernel == SMALL:
        init = distribution.COMMAND if request.command else INIT_OF_SMALL
        parameters = f"init={init} {request.parameters}"
        return replace(request, kernel=None, variant=SMALL, parameters=parameters)
    memory = MEMORY if request.memory is None else request.memory
    return replace(request, kernel=found.kernel, initrd=found.initramfs, memory=memory)


def _refuse_own(request: BootRequest, why: str) -> None:
    for name, given in (("initrd", request.initrd), ("root", request.root)):
        if given is not None:
            raise ConfigError(f"{why}; leave --{name} out")


def _default(request: BootRequest) -> str:
    """The kernel where none is asked for: the distribution's, unless it would be interpreted."""
    interpreted = host_kind() is Kind.PAGETABLE and not natively.wanted(host_kind(), request.parameters)
    return SMALL if interpreted else CLOUD


def _injected(found: Distribution, kernel: str, request: BootRequest, tell: Tell) -> str:
    """Prepares the distribution's kernel to run natively. Returns `kernel`, or SMALL and a notice where it cannot.
    Raises HostError when it was asked for."""
    assert request.kernel is not None
    release = distribution.release_of(request.kernel)
    try:
        preparing.get(found.kernel, steps(tell), lambda: apt_suite.find(*release).options)
    except HostError as error:
        refusal = f"the kernel {found.release} cannot run natively here: {why(error)}"
        if request.variant is not None:
            raise HostError(f"{refusal}; --kernel {SMALL} has Corral's") from None
        tell(Notice(f"{refusal}; Corral's small kernel instead"))
        return SMALL
    return kernel


def _host(request: BootRequest, tell: Tell) -> BootRequest:
    _refuse_own(request, "host has its own initramfs and root")
    kernel = request.variant
    if kernel not in (None, HOST):
        raise ConfigError(f"--kernel {kernel!r}: the guest that looks like this host has the host's")
    native = natively.wanted(host_kind(), request.parameters)
    if host_kind() is Kind.PAGETABLE and not native and kernel is None:
        raise HostError(f"this KVM interprets kernel code: {_SLOW}")
    try:
        here = os.getcwd()
    except FileNotFoundError:
        raise HostError("the folder that you are in is gone, and the guest begins in it; cd to another") from None

    from corral.guests import host, parameters

    found = host.get(bool(request.nets), steps(tell))
    if native and kernel is None:
        _require_native(found, tell)
    if not found.kernel.own:
        release = found.kernel.release
        tell(Notice(f"no kernel of its own that could mount the host's files; {release} from its packages then"))
    with open("/proc/self/mountinfo", encoding="ascii") as file:
        mounts = host.mounts(file.read())
    shares = [ShareConfig(os.path.realpath(path), f"{host.TAG}{index}") for index, path in enumerate(mounts)]
    return replace(
        request,
        kernel=found.vmlinux,
        variant=None,
        shares=(*shares, *request.shares),
        initrd=found.initramfs,
        root="none",
        serves_channel=True,
        parameters=f"{parameters.for_host(mounts, here)} {request.parameters}",
    )


def _require_native(found: HostGuest, tell: Tell) -> None:
    try:
        preparing.get(found.vmlinux, steps(tell))
    except HostError as error:
        raise HostError(f"the kernel {found.kernel.release} cannot run natively here: {why(error)}; {_SLOW}") from None
