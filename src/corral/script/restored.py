"""A guest that goes on from a snapshot, for a script."""

from __future__ import annotations

import os

from corral.config import VsockConfig
from corral.script import forks
from corral.script.machine import ScriptedMachine
from corral.snapshot.resumed import Resumed


def restore(
    path: str | os.PathLike[str],
    *command: str,
    overlay: bool = False,
    name: str | None = None,
    vsock: str | os.PathLike[str] | None = None,
) -> ScriptedMachine:
    """A machine that goes on where `vm.snapshot(path)` or `corral snapshot` saved it; as corral.linux() gives one, it
    runs when it is asked to. Any number of machines may come from one file: what one writes to its memory is its own.

    with corral.restore("shell.snapshot") as vm:
        vm.console.send("date\n")

    `path` may be the URL of one in a store, which is fetched to this host's cache (docs/store.md).

    `command` is for a guest that waits for its session, as `corral snapshot` without --after saves one: one word for a
    shell's line, more for a program and its arguments. `name`: the guest's host name, with which goes a machine id of
    its own; only of a guest with a channel or an agent. `vsock`: the path of a socket, by which programs reach the
    guest's vsock (docs/vsock.md), if it has one; without, that is connected to nothing.

    Its disks are as they were: what it had written over an image with snapshot=on is its own. An image that it writes
    itself must not have been written since, and one guest has it at a time; with `overlay` it writes beside the image,
    and any number may.

    Raises BootError for a file that is no snapshot, or that this host cannot go on with, and for a disk whose image is
    not as it was; ConfigError.
    """
    source, line = os.fspath(path), None
    if "://" in source:
        from corral import store

        source = store.local_copy(source)
    if command:
        from corral.guests import parameters

        line = parameters.line(list(command))
    device = None if vsock is None else VsockConfig(os.fspath(vsock))
    return forks.machine(ScriptedMachine, Resumed(source), overlay, line, name, device)
