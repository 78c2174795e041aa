"""corral clone: many guests that go on from one snapshot, each in a process of its own."""

from __future__ import annotations

import os
import sys

from corral.cli import terminal
from corral.cli.options import Arguments, Command, Option, parse, seconds
from corral.config import parse_number
from corral.errors import ConfigError
from corral.jail import confine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.config import MachineConfig
    from corral.snapshot.resumed import Resumed

NETS = ("user", "tap", "socket", "mac", "mtu", "ip")

COMMAND = Command(
    name="clone",
    summary="""\
Runs N guests that go on from the snapshot FILE, which `corral snapshot` has made, and waits for their ends. Each is a
guest of its own: what it writes to memory, and to disks, no other sees; it has random numbers, a host name and a
machine id of its own, and this host's time. What they write comes line by line, with their numbers in front.""",
    operands=("FILE",),
    rest="COMMAND...",
    options=(
        Option("number", "N", "how many (default: 1)", "n"),
        Option("jobs", "N", "how many at once, at most (default: 8 for each CPU of this host)", "j"),
        Option("name", "NAME", "what they are called: NAME-1, NAME-2 and so on (default: corral)"),
        Option("output", "FOLDER", "what they write goes into files there, like 3.out and 3.err, byte for byte"),
        Option(
            "overlay", "", "what they write to disks is gone with them; without it one clone alone may write an image"
        ),
        Option("net", "[KIND][,...]", "what their network cards are connected to, as corral boot has it", begins=NETS),
        Option("publish", "PORT:PORT", "a port of the host for the first one; the next has the next; may be repeated"),
        Option("allow", "HOST[:PORT]", "they may connect there, and nowhere else; may be repeated"),
        Option("deny", "HOST[:PORT]", "they may not connect there; may be repeated"),
        Option("timeout", "S", "end each S seconds after it has begun, with exit status 124"),
        Option("jail", "on|off", "give up all rights before a guest runs (default: on)"),
    ),
    epilog="""\
examples:
  corral snapshot ready.snapshot                    a guest before its first command
  corral clone ready.snapshot -n 100 -- hostname    the same command in each
  corral clone ready.snapshot -n 8 --output out -- 'grep -c model /proc/cpuinfo; cat /proc/uptime'
  corral snapshot web.snapshot -- boot --net        one with a network card
  corral clone web.snapshot -n 4 --net --publish 8080:80 -- 'httpd -f'    at 8080 to 8083 of this host
  corral clone tap.snapshot -n 4 --net 'tap=tap{n},ip=10.0.0.11/24'       at tap1 to tap4, 10.0.0.11 to 10.0.0.14

A snapshot that was saved with --after takes no COMMAND: its guests go on with what they were doing.
A guest without a channel, as with a kernel of yours, cannot be told a name or random numbers: such clones are twins.

exit status: 0 when it is so for all; else that of the first, by number, whose is another""",
)

MOST = 10_000  # clones
JOBS_PER_CPU = 8


def run(words: list[str]) -> int:
    arguments = parse(COMMAND, words)
    if arguments is None:
        print(COMMAND.help())
        return 0
    inherited = confine.inherited()
    terminal.leave_on_signals()
    if len(arguments.operands) != 1:
        raise ConfigError("corral clone wants the FILE of a snapshot; see its --help")
    values = arguments.values
    number = _count(values.get("number", "1"), "-n", MOST)
    jobs = _count(values["jobs"], "--jobs", MOST) if "jobs" in values else JOBS_PER_CPU * len(os.sched_getaffinity(0))
    jail = values.get("jail", "on")
    if jail not in ("on", "off"):
        raise ConfigError(f"--jail {jail!r} is none of on, off")
    from corral.cli.boot_request import nets as wired
    from corral.cli.boot_request import snapshot
    from corral.cli.clone_process import Clones, Terms
    from corral.snapshot.other_devices import DeviceEnds
    from corral.snapshot.resumed import Resumed

    with Resumed(snapshot(arguments.operands[0])) as saved:
        nets = wired(arguments.every, values.get("name", ""))
        config = saved.config("overlay" in values, _line(arguments), DeviceEnds(nets))
        _check(saved, config, number, arguments)
        terms = Terms(
            config,
            (values.get("name") or "corral") if saved.has_identity else None,
            seconds(values["timeout"]) if "timeout" in values else None,
            jail == "on",
            bool(arguments.rest),
            inherited,
        )
        folder = values.get("output")
        statuses = Clones(saved, terms, number, jobs, folder).run()
    return _conclude(statuses)


def _line(arguments: Arguments) -> str | None:
    if arguments.rest is None:
        return None
    from corral.guests import parameters

    return parameters.line(arguments.rest)


def _count(text: str, name: str, most: int) -> int:
    number = parse_number(text, name)
    if not 1 <= number <= most:
        raise ConfigError(f"{name} {number}: 1 to {most}")
    return number


def _check(saved: Resumed, config: MachineConfig, number: int, arguments: Arguments) -> None:
    """Raises ConfigError for what so many clones cannot have."""
    from corral.snapshot import clone_cards, machine_state

    for disk in config.disks:
        if number > 1 and not (disk.read_only or disk.snapshot):
            raise ConfigError(
                f"{number} clones cannot all write the image {disk.path!r}; --overlay has each write beside it"
            )
    name = arguments.values.get("name")
    if name is not None:
        if not saved.has_identity:
            raise ConfigError("these guests have no channel and no agent to be told a name by; leave --name out")
        from corral.backends.channel import named

        named(f"{name}-{number}")
    cards = machine_state.cards(config)
    if cards and not cards[0].connected:
        print("corral: the network cards of clones are connected to nothing; see --net", file=sys.stderr)
    elif cards:
        clone_cards.check(cards, number, bool(config.channel))
        clone_cards.of(cards, number)
    if not saved.has_identity and number > 1:
        said = "these guests have no channel and no agent: they are twins, with the same random numbers, name and time"
        print(f"corral: {said}", file=sys.stderr)


def _conclude(statuses: list[int]) -> int:
    """The exit status, and a line when not all is well."""
    failed = [number for number, status in enumerate(statuses, 1) if status]
    if not failed:
        return 0
    if len(statuses) > 1:
        some = ", ".join(f"{number} (exit status {statuses[number - 1]})" for number in failed[:8])
        more = f" and {len(failed) - 8} more" if len(failed) > 8 else ""
        print(f"corral: {len(failed)} of {len(statuses)} clones failed: {some}{more}", file=sys.stderr)
    return statuses[failed[0] - 1]
