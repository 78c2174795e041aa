"""corral snapshot: a guest in a file, from which corral boot --restore goes on."""

from __future__ import annotations

import os
import time

from corral import cli
from corral.cli import boot, store
from corral.cli.options import Arguments, Command, Option, parse, seconds
from corral.cli.session import PIPES, TERMINAL
from corral.errors import ConfigError, GuestError
from corral.jail import host

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypedDict

    from corral.backends.channel import ChannelState
    from corral.config import MachineConfig
    from corral.running.place import RunningGuest
    from corral.script.machine import ScriptedMachine
    from corral.snapshot.disks import DiskState
    from corral.snapshot.other_devices import Other

    class _JailWords(TypedDict, total=False):
        jail: bool | str
        allow: tuple[str, ...]


COMMAND = Command(
    name="snapshot",
    summary="""\
Boots a guest as `corral boot` does, and saves it to FILE: memory, vCPUs, devices, and what it has written to disks with
snapshot=on. It is saved when it is ready for a command or a shell, or with --after when its console says TEXT.
With the NAME of a guest that runs, that one is saved, and goes on.
`corral clone FILE -n 100 -- COMMAND` and `corral boot --restore FILE` go on from there, as often as wanted.
`corral snapshot info FILE` tells what is in one.
push, pull, list, rm and prune have snapshots in a store that many hosts reach: a folder, or with
`pip install 'corral[store]'` s3://BUCKET/FOLDER and what else fsspec knows. A store has what snapshots share once.""",
    operands=("info|NAME|push|pull|list|rm|prune", "FILE|URL", "URL|FILE"),
    words=("info", *store.WORDS),
    rest="boot ARGUMENTS...",
    options=(
        Option("after", "TEXT", "save when the guest has said this; Corral's shell says '# ' when it is ready"),
        Option("parent", "BASE", "save only what differs from this snapshot, which has to stay as it is"),
        Option("timeout", "S", "give up after S seconds (default: 120)"),
        Option("whole", "", "with push: also what the store has already, should that be damaged"),
        Option("digest", "HEX", "with pull: only what push told this digest of"),
        Option("any-host", "", "with pull: also where its guest cannot go on"),
        Option("json", "", "with list: for programs; sizes in bytes, times in seconds since 1970"),
        Option("force", "", "with prune: pushes that have not ended were killed"),
    ),
    epilog="""\
examples:
  corral snapshot ready.snapshot                                the small kernel, before its first command
  corral boot --restore ready.snapshot -- uname -a              a command there, at once
  corral clone ready.snapshot -n 10 -- hostname                 ten of them
  corral snapshot big.snapshot -- boot --memory 2G --cpus 4 --root none --disk data.img,ro
  corral snapshot --after '# ' shell.snapshot                   a shell on the console, at its prompt
  corral boot --restore shell.snapshot                          that shell
  corral snapshot --after '# ' --parent shell.snapshot more.snapshot   what differs from that one
  corral snapshot web web.snapshot                              the guest `web`, which goes on
  corral boot --restore web.snapshot --name web-2 --detach      another from there
  corral snapshot info shell.snapshot
  corral snapshot push web.snapshot s3://guests/store/web       into a store, where it is called `web`
  corral snapshot pull s3://guests/store/web web.snapshot       out of it, on another host
  corral snapshot web s3://guests/store/web                     the guest `web`, saved and pushed
  corral boot --restore s3://guests/store/web                   it goes on, here or there
  corral snapshot list s3://guests/store                        what is there
  corral snapshot rm s3://guests/store/web                      not any more
  corral snapshot prune s3://guests/store                       and what only it had goes

An image that a guest writes itself, without snapshot=on, stays where it is, and has to be as it was when FILE is gone
on from: by one guest, or with --overlay by any number.
A guest with a shared folder, a BIOS or a NUMA plan cannot be saved yet.""",
)


READS = ("/proc/self/pagemap", "/proc/sys/kernel/random/boot_id")  # pages that are there; which start of the host


def run(words: list[str]) -> int:
    arguments = parse(COMMAND, words)
    if arguments is None:
        print(COMMAND.help())
        return 0
    if arguments.operands[:1] == ["info"]:
        return _info(arguments)
    if arguments.operands[:1] and arguments.operands[0] in store.WORDS:
        return store.run(arguments)
    if given := {"whole", "digest", "any-host", "force", "json"} & arguments.values.keys():
        raise ConfigError(f"--{min(given)} is about a store; see corral snapshot --help")
    if len(arguments.operands) == 2:
        return _save_running(arguments)
    if len(arguments.operands) != 1:
        raise ConfigError("corral snapshot wants a FILE; see its --help")
    if arguments.rest and arguments.rest[0] != "boot":
        raise ConfigError("corral snapshot wants what to boot behind --: boot ARGUMENTS...; see its --help")
    return _save(arguments)


def _save_running(arguments: Arguments) -> int:
    from corral.running import place, saving
    from corral.store import address

    if arguments.rest is not None or {"after", "parent"} & arguments.values.keys():
        raise ConfigError("a guest that runs is saved as it is, and all of it; leave --after, --parent and -- out")
    name, path = arguments.operands
    patience = seconds(arguments.values.get("timeout", "120"))
    guest = place.running(name, time.monotonic() + patience)
    before = time.monotonic()
    if address.is_url(path):
        return _push_running(guest, path, patience)
    return _told(path, saving.save(guest, path, patience), before)


def _push_running(guest: RunningGuest, url: str, patience: float) -> int:
    """By a file that is gone afterwards."""
    import tempfile

    from corral import store as stores
    from corral.running import saving
    from corral.store import address

    address.of_snapshot(url)
    before = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="corral-push-", dir=os.environ.get("TMPDIR", "/var/tmp")) as folder:
        path = os.path.join(folder, "guest")
        with open(path, "xb") as file:  # not synced, as a file that stays would be
            saving.save_into(guest, file.fileno(), patience)
        store.tell_pushed(url, stores.push(path, url), before)
    return 0


def _told(path: str, size: int, before: float) -> int:
    print(f"{path}: {size / (1 << 20):.1f} MiB of memory, saved in {(time.monotonic() - before) * 1000:.0f} ms")
    return 0


def _save(arguments: Arguments) -> int:
    from corral.cli import terminal
    from corral.script.machine import ScriptedMachine
    from corral.store import address

    terminal.leave_on_signals()
    values = arguments.values
    path, text = arguments.operands[0], values.get("after")
    if address.is_url(path):
        raise ConfigError("a guest that is booted here is saved to a file; push that: corral snapshot push FILE URL")
    timeout = seconds(values.get("timeout", "120"))
    folder = os.path.dirname(path) or "."
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigError(f"the snapshot cannot be written to {folder!r}; name another place")
    words = (arguments.rest or [])[1:]
    config = boot.machine_config(words, PIPES if text is None else TERMINAL)
    if config is None:
        raise ConfigError("that boots nothing; see corral boot --help")
    if text is None:
        _require_session(config)
    parents = _parents(path, values["parent"], config.memory) if "parent" in values else ()
    with ScriptedMachine(config, **_jail(words, folder, parents)) as machine:
        from corral.snapshot import machine_state, resumed

        machine_state.refuse(machine)
        if text is None:
            _run_until_ready(machine, timeout)
            resumed.pause_idle(machine)
        elif machine.run_until(text, timeout=timeout).match is None:
            raise GuestError(f"the guest ended before it said {text!r}")
        before = time.monotonic()
        size = machine.snapshot(path, values.get("parent"))
    return _told(path, size, before)


def _parents(path: str, parent: str, memory: int) -> tuple[str, ...]:
    """The files that a snapshot at `path` needs. Raises BootError, ConfigError where it cannot have this parent."""
    from corral.snapshot.parents import Base

    with Base(path, parent, memory) as base:
        return base.paths


def _jail(words: list[str], folder: str, parents: tuple[str, ...]) -> _JailWords:
    """What the machine takes: by the guest's --jail, where this process is the command's alone. The snapshot's folder
    is the one place that stays open, which takes Landlock; its `parents` are read."""
    given = parse(boot.COMMAND, words)
    word = given.values.get("jail", "on") if given else "off"
    if word == "off" or not cli.own_process or host.look().landlock == 0:
        return {}
    from corral import os_errors  # noqa: F401  (by these a failure is told, and in the jail no module can be loaded)
    from corral.cli import colour  # noqa: F401

    allow = (f"files-rw:{folder}", *(f"files:{path}" for path in (*READS, *parents) if os.path.exists(path)))
    return {"jail": "report" if word == "report" else True, "allow": allow}


def _require_session(config: MachineConfig) -> None:
    """Raises ConfigError for a guest that does not ask what its session is, or is not to be asked."""
    if not config.channel:
        raise ConfigError("only guests with Corral's init tell when they are ready; say --after which TEXT to save it")
    if config.command is not None:
        raise ConfigError("a guest that is ready takes its command when it goes on; leave the command out here")


def _run_until_ready(machine: ScriptedMachine, timeout: float) -> None:
    channel = machine.channel
    assert channel
    channel.waits = True
    machine.run_until(condition=lambda vm: channel.is_ready, timeout=timeout)


def _info(arguments: Arguments) -> int:
    if len(arguments.operands) != 2 or arguments.rest or arguments.values:
        raise ConfigError("corral snapshot info wants one FILE")
    from corral.printable import printable
    from corral.snapshot.resumed import Resumed

    path = arguments.operands[1]
    with Resumed(path) as resumed:
        content = resumed.content
    guest, host = content.guest, content.host
    held = os.stat(path).st_blocks * 512 / (1 << 20)
    native = any(vcpu.native for vcpu in content.state.vcpus)
    for name, value in (
        ("kernel", guest.kernel),
        ("parameters", guest.cmdline),
        (
            "memory",
            f"{guest.memory >> 20} MiB, of which the file holds {held:.1f}",
        ),
        ("vCPUs", str(guest.cpus)),
        *(("parent", f"{one.path}, which has to stay as it is") for one in (content.parent,) if one),
        *(("disk", _of_disk(disk)) for disk in guest.disks),
        *(("device", _of_other(other)) for other in guest.others),
        ("session", _of_session(content.state.channel)),
        ("saved by", f"Corral {content.corral}"),
        ("saved on", f"{host.kind} KVM, {host.cpu}" + (", kernel code natively" if native else "")),
        ("goes on", "until this host boots anew" if host.boot else "on hosts with this CPU"),
    ):
        print(f"{name:11} {printable(value)}")
    return 0


def _of_disk(disk: DiskState) -> str:
    use = "only read" if disk.read_only else "what its guest wrote is in the file" if disk.snapshot else ""
    return f"{disk.path}, {disk.size / (1 << 20):g} MiB, {use or 'written by its guest'}"


def _of_other(other: Other) -> str:
    if other.card:
        return f"a network card, {other.card.mac}, as of --net {other.card.backend}"
    if other.vsock:
        return "a vsock"
    return f"random bytes, {other.bandwidth} a second"


def _of_session(channel: ChannelState | None) -> str:
    if channel is None:
        return "what its console says; it has no channel"
    return "it waits for a command, or for a shell" if channel.is_ready else "it has begun"
