"""Machines that go on from an open snapshot, of any class of machine; and several from a guest that runs."""

from __future__ import annotations

import os

from corral.backends.channel import named
from corral.errors import ConfigError, HostError
from corral.snapshot.other_devices import Ends
from corral.snapshot.resumed import Resumed, save_into

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol, TypeVar

    from corral.backends.channel import Identity
    from corral.config import MachineConfig, VsockConfig
    from corral.machine import Machine

    Made = TypeVar("Made", bound=Machine, covariant=True)

    class Make(Protocol[Made]):
        """A class of machines."""

        def __call__(self, config: MachineConfig, *, saved: Resumed, identity: Identity | None) -> Made: ...


MOST = 1000  # of one call


def machine(
    make: Make[Made],
    saved: Resumed,
    overlay: bool,
    line: str | None,
    name: str | None,
    vsock: VsockConfig | None = None,
) -> Made:
    """One that goes on, with the other arguments of corral.restore(); the open snapshot is its own then."""
    try:
        config = saved.config(overlay, line, Ends(vsock=vsock, hostname=name))
        if name is not None and not saved.has_identity:
            raise ConfigError("this guest has no channel and no agent to be told a name by; leave the name out")
        identity = None if name is None else named(name)
    except BaseException:
        saved.close()
        raise
    return make(config, saved=saved, identity=identity)


def made(
    vm: Machine, while_paused: Callable[[Callable[[], int]], int], make: Make[Made], count: int, name: str
) -> list[Made]:
    """What fork() of a scripted machine gives. The guest is saved to memory, which is the same for all that go on from
    it as long as they do not write to it."""
    vm.require_open()
    if not 1 <= count <= MOST:
        raise ConfigError(f"fork({count}): 1 to {MOST}")
    for disk in vm.config.disks:
        if not (disk.read_only or disk.snapshot):
            raise ConfigError(f"a guest that writes the image {disk.path!r} cannot be forked; add snapshot=on to it")
    fd = os.memfd_create("corral-fork", os.MFD_CLOEXEC)
    all_of_them: list[Made] = []
    try:
        while_paused(lambda: save_into(vm, fd))
        with Resumed("a fork", fd) as parent:
            for number in range(1, count + 1):
                own = f"{name}-{number}" if name else None
                all_of_them.append(machine(make, parent.another(), False, None, own))
    except BaseException as error:
        for one in all_of_them:
            one.close()
        if isinstance(error, OSError):
            raise HostError(f"cannot fork the guest: {error.strerror}; free memory") from None
        raise
    finally:
        os.close(fd)
    return all_of_them
