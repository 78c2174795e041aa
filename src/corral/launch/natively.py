"""Whether a Linux runs natively on a pagetable KVM, and what that takes: nothing, or an injection (docs/native.md)."""

from __future__ import annotations

import os

from corral.errors import HostError
from corral.kvm.system import Kind
from corral.launch.events import Notice, steps
from corral.startup.enums import Enum
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.launch.events import Tell

_OWN_START = "corral_native_start"  # guests/linux/native: a kernel that has it asks KVM by itself


class Way(Enum):
    """How a kernel comes to run natively."""

    ITSELF = "itself"  # as Corral's small kernel does
    INJECTION = "injection"  # by what Corral puts over it in memory
    NONE = "none"


@record(frozen=True)
class Fitness:
    """`check` is the name of the one that said no, "" where none did; `reason` is for a person: how, or why not."""

    way: Way
    check: str
    reason: str


@record(frozen=True)
class Prepared:
    """A kernel that runs natively: a file to load, and that of what is put over it in memory, None for nothing."""

    kernel: str
    injection: str | None

    @property
    def way(self) -> Way:
        return Way.INJECTION if self.injection else Way.ITSELF


def wanted(kind: Kind, words: str) -> bool:
    """Whether a kernel runs natively here if it can; `words` are the user's for it."""
    from corral.guests import parameters

    if kind is Kind.HARDWARE or parameters.NONATIVE in words.split():
        return False
    from corral.arch.x86_64.supervisor import Supervisor, supervisor_mode

    return supervisor_mode().supervisor is Supervisor.NATIVE


def find(path: str, tell: Tell) -> Prepared | None:
    """For the kernel at `path`; None, and a notice that says why, where it cannot run natively. Raises BootError for
    what is no kernel."""
    from corral.injection import preparing
    from corral.injection.unfit import UnfitError, why

    try:
        vmlinux = _unpacked(path, tell)
        return Prepared(vmlinux, preparing.get(vmlinux, steps(tell), named=path))
    except UnfitError as error:
        if does_so_by_itself(path):
            return Prepared(path, None)
        tell(Notice(f"this kernel cannot run natively here: {why(error)}"))
    except HostError as error:
        tell(Notice(f"this kernel cannot run natively here: {error}"))
    return None


def look(path: str) -> Fitness:
    """What find() would find, without fetching or building anything. Raises BootError for what is no kernel, HostError
    where a library to unpack it is missing."""
    from corral import boot
    from corral.boot import kernel_config
    from corral.injection import preparing
    from corral.injection.unfit import UnfitError

    with boot.open_kernel(path) as kernel:
        release = kernel.describe().release or ""
        config = kernel_config.find(kernel, release)
    try:
        preparing.check(path, release, config)
    except UnfitError as error:
        if does_so_by_itself(path):
            return Fitness(Way.ITSELF, "", "it asks KVM for that")
        return Fitness(Way.NONE, error.check.value, str(error))
    lacks = preparing.lacks(release)
    if lacks is not None:
        return Fitness(Way.NONE, lacks[0].value, lacks[1])
    return Fitness(Way.INJECTION, "", "its file stays as it is; programs of 32 bits do not run")


def does_so_by_itself(path: str) -> bool:
    """Whether it is a small kernel of Corral's, wherever it lies."""
    from corral.errors import CorralError
    from corral.injection.linked import LinkedKernel

    try:
        with LinkedKernel(path) as kernel:
            return _OWN_START in kernel.places
    except CorralError:  # why it cannot be read is said already
        return False


def _unpacked(path: str, tell: Tell) -> str:
    """A bzImage as its vmlinux, which is in the cache; another kernel as it is."""
    from corral import boot

    with boot.open_kernel(path) as kernel:
        if kernel.kind != "bzImage":
            return path
    from corral.guests import sources, unpacked

    about = os.stat(path)
    key = sources.digest(f"{os.path.realpath(path)} {about.st_size} {about.st_mtime_ns}".encode())
    return unpacked.vmlinux(path, f"own_{key}", steps(tell))
