"""The boot cache: a guest is saved when its init asks what its session is, and the next start with the same inputs goes
on from there (docs/snapshot.md).

An entry is a folder with the snapshot, and a list of the files that the guest was made from, as they were.
"""

from __future__ import annotations

import os
import sys

from corral import __version__
from corral.arch.x86_64.supervisor import Supervisor, supervisor_mode
from corral.core.shell import Shell
from corral.errors import BootError, CorralError
from corral.guests import cache, sources
from corral.guests.parameters import NONATIVE
from corral.machine import Machine
from corral.native import SHIM
from corral.snapshot.host import host_of
from corral.startup.record import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from corral.backends.channel import Channel
    from corral.config import MachineConfig
    from corral.kvm.system import System
    from corral.launch.draft import Draft
    from corral.snapshot.resumed import Resumed

FOLDER, INPUTS = "boots", "inputs"
MOST, MOST_BYTES = 16, 1 << 30  # of all entries; those that were not used for longest go first


def serves(wanted: Draft) -> bool:
    """Whether the guest is the same each time until its init asks: Corral chooses what it boots, and nothing of the
    host is in it. Only where its kernel runs natively on a pagetable KVM: too little is known of others that go on."""
    request, machine = wanted.request, wanted.machine
    disks = [disk for disk in machine.disks if request.container is None or not (disk.read_only or disk.snapshot)]
    others = disks or machine.shares or machine.snapshot or request.bios or request.placement or request.others
    wired = any(card.backend != "user" for card in request.nets)  # who is there may be another each time
    own = request.kernel or request.initrd
    if not machine.channel or others or wired or own or request.early or NONATIVE in request.parameters.split():
        return False
    return supervisor_mode().supervisor is Supervisor.NATIVE


def machine(
    wanted: Draft,
    shell: Shell,
    with_kernel: Callable[[], MachineConfig],
    open_channel: Callable[[MachineConfig], Channel | None],
) -> tuple[Machine, bool]:
    """A machine that goes on from the cache, or else one that begins and is saved there; and whether it goes on. The
    shell is the machine's then. Raises what Machine does."""
    try:
        folder = _place(wanted, shell.system)
        saved = _find(folder)
    except BaseException:
        shell.close()
        raise
    if saved:
        from corral.snapshot.other_devices import Ends

        try:
            config = replace(saved.config(ends=Ends(wanted.request.nets)), command=wanted.request.line)
            channel = open_channel(config)
        except BaseException:
            saved.close()
            shell.close()
            raise
        try:
            return Machine(config, shell, channel, saved), True
        except BootError:  # damaged, or of a host that was another one
            _remove(folder)
        shell = Shell(wanted.machine.memory, split=wanted.machine.split_irqchip)
    try:
        config = with_kernel()
        channel = open_channel(config)
    except BaseException:
        shell.close()
        raise
    begun = Machine(config, shell, channel)
    if channel:
        inputs = _state(config)
        channel.before_session = lambda: _keep(begun, folder, inputs)
    return begun, False


def _place(wanted: Draft, system: System) -> str:
    """Where a guest of this request is kept. The session's command is no part of it, nor is what a
    network card leads to."""
    nets = tuple(replace(card, published=(), rules=(), dump="", dump_size=0) for card in wanted.request.nets)
    request = replace(wanted.request, command=None, container=None, grace=None, nets=nets)
    about = repr((__version__, host_of(system), request, replace(wanted.machine, others=nets)))
    return cache.folder(FOLDER, sources.digest(about.encode()))


def _find(folder: str) -> Resumed | None:
    if not os.path.isdir(folder):
        return None
    from corral.snapshot import resumed

    try:
        with open(os.path.join(folder, INPUTS), "rb") as file:
            inputs = file.read()
        if inputs == _identities(os.fsdecode(line.split(b" ", 4)[-1]) for line in inputs.splitlines()):
            os.utime(folder)
            return resumed.Resumed(os.path.join(folder, resumed.NAME))
    except (BootError, OSError, IndexError):
        pass
    _remove(folder)  # other inputs, or damaged
    return None


def _state(config: MachineConfig) -> bytes:
    """What the guest was made from, and what it would be chosen and made by."""
    paths = [path for path in (config.kernel, config.initrd, config.injection, SHIM) if path]
    paths += [disk.path for disk in config.disks]
    paths += [cache.folder(kind) for kind in ("kernels", "linux")]
    for name in ("linux", "init", "agent"):
        for folder, _, files in os.walk(sources.folder(name)):
            paths += [os.path.join(folder, file) for file in sorted(files)]
    return _identities(path for path in map(os.path.abspath, paths) if os.path.exists(path))


def _identities(paths: Iterable[str]) -> bytes:
    """A line for each file, as far as it is known without reading it."""
    lines = []
    for path in paths:
        about = os.stat(path)
        numbers = about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns
        lines.append(b"%d %d %d %d %b\n" % (*numbers, os.fsencode(path)))
    return b"".join(lines)


def _keep(machine: Machine, folder: str, inputs: bytes) -> None:
    """When the guest asks. That it cannot be kept is told, and no reason to end it."""
    from corral.snapshot import resumed

    try:
        resumed.pause_idle(machine)
        make_room()
        resumed.save_behind(machine, folder, {INPUTS: inputs})
    except (CorralError, OSError) as error:
        print(f"corral: the next start cannot go on from this one: {error}", file=sys.stderr)
    finally:
        machine.resume()


def make_room() -> None:
    """For one more; what killed writers left goes first."""
    from corral.guests import cache_content

    left = cache_content.entries(FOLDER)
    left.sort(key=lambda entry: (cache.is_unfinished(entry.name), -os.path.getmtime(entry.path)))
    size = sum(entry.size for entry in left)
    while left and (len(left) >= MOST or size > MOST_BYTES or cache.is_unfinished(left[-1].name)):
        entry = left.pop()
        if cache_content.remove(entry.path):
            size -= entry.size


def _remove(folder: str) -> None:
    """If it is there. That it cannot be removed is told; the guest boots."""
    if not os.path.isdir(folder):
        return
    from corral.guests import cache_content

    try:
        cache_content.remove(folder)
    except OSError as error:
        print(f"corral: what cannot be gone on from stays in {folder!r}: {error.strerror}", file=sys.stderr)
