"""What `corral help TOPIC` tells: the options of `corral boot` by what they are about, and what no option is about.

`corral boot --help` has the ten that matter. An option that no topic names is among the others.
"""

from __future__ import annotations

from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Protocol

    class Option(Protocol):
        @property
        def name(self) -> str: ...

    class Command(Protocol):
        """What a topic shows of one (options.py)."""

        @property
        def options(self) -> tuple[Option, ...]: ...
        @property
        def epilog(self) -> str: ...
        def options_text(self, names: Iterable[str]) -> str: ...


@record(frozen=True)
class Topic:
    """Options of `corral boot` by name, and what there is to say besides; paragraphs of the command's own text that
    begin with one of the options come along."""

    about: str
    options: tuple[str, ...] = ()
    text: str = ""


COMMON = ("memory", "cpus", "disk", "share", "initrd", "append", "kernel", "console", "timeout", "report")

TOPICS = {
    "kernels": Topic(
        "what is booted, and with which parameters",
        ("kernel", "initrd", "append", "module", "protocol", "flat", "bios", "debug-exit", "early", "yes"),
    ),
    "disks": Topic(
        "disks, images, and the system that is on them",
        ("disk", "root", "cloud-init", "hostname", "ssh-key"),
        "corral image makes images from folders and archives. docs/cli.md has all about disks.",
    ),
    "snapshots": Topic(
        "guests that go on from a file",
        ("restore", "overlay", "fresh"),
        """\
corral snapshot saves one. docs/snapshot.md has what can be saved, and the boot cache; docs/store.md has stores, whose
URLs --restore takes too.""",
    ),
    "folders": Topic("folders of the host in the guest", ("share",)),
    "vsock": Topic(
        "connections between programs of the guest and of the host",
        ("vsock",),
        """\
Who connects to PATH and says CONNECT PORT is connected to that port of the guest (AF_VSOCK) and told OK; who
connects in the guest to CID 2, port PORT, comes to the socket PATH_PORT of the host. docs/vsock.md has the rest.""",
    ),
    "background": Topic(
        "guests that run in the background, and what to do with them",
        ("name", "detach"),
        """\
corral ps lists them, corral top shows what they do; corral exec runs a command there, ssh logs in, cp copies files,
port reaches a TCP port, attach is its console, logs what that said, net its network cards and rules, pause, resume,
stop, kill and wait are what they say; corral snapshot NAME FILE saves one. docs/background.md has the rest.""",
    ),
    "network": Topic(
        "network cards, published ports, and where a guest may connect to",
        ("net", "publish", "allow", "deny", "net-dump"),
        "corral net NAME changes the rules of a guest that runs. docs/network.md has the rest.",
    ),
    "machine": Topic("memory, CPUs, and how the guest learns of them", ("memory", "cpus", "acpi", "nested", "balloon")),
    "numa": Topic(
        "where vCPUs and memory are on the host",
        ("numa", "pin", "hugepages", "prealloc", "plan", "plan-json"),
        "corral topology draws the host. docs/numa.md has the rest.",
    ),
    "console": Topic("the terminal, files and pipes that the guest talks to", ("console", "tty", "early", "screen")),
    "jail": Topic(
        "what Corral gives up before the guest runs, and what it may take",
        ("jail", "limit-cpu", "limit-memory", "limit-io"),
        "docs/security.md has the layers, and the system calls that are left.",
    ),
    "ending": Topic("how a guest ends, and with which exit status", ("timeout", "grace", "debug-exit")),
    "debugging": Topic(
        "looking into a guest",
        ("gdb", "report", "early", "screen", "stats"),
        "corral trace, profile, stat and disasm look closer; docs/research has a page for each.",
    ),
    "keys": Topic(
        "the keys that Corral takes at a terminal",
        text="""\
At a terminal every key goes to the guest, Ctrl-C too. Ctrl-A is the exception:

  Ctrl-A X   ends the guest and leaves; a distribution is asked to shut down first, and ended when you ask again
  Ctrl-A I   tells what this guest is, and for how long it has run
  Ctrl-A A   sends Ctrl-A to the guest; so does Ctrl-A Ctrl-A
  Ctrl-A H   lists the keys

From inside: the shell's `exit`, or `poweroff` in a distribution, ends the guest.""",
    ),
    "status": Topic(
        "exit statuses",
        text="""\
  0        the guest shut down or reset, and told no other status
  n        what COMMAND, or the guest's shell, ended with
  2        bad usage or input
  3        the host lacks something
  4        the guest died
  124      --timeout was over
  128 + n  signal n ended corral: 130 for Ctrl-C, 143 for SIGTERM
  141      its output has no reader any more""",
    ),
    "environment": Topic(
        "environment variables",
        text="""\
  XDG_CACHE_HOME   kernels and images are in its folder corral (default: ~/.cache); see corral cache
  TMPDIR           where what a guest writes to a snapshot is kept (default: /var/tmp)
  CORRAL_INSTALL   1: as root, install by apt-get what is missing; 0: never; else a person is asked (default)
  CORRAL_IMAGES_LIMIT  how much container images may take of the disk, like 50G (default: 20G)
  CORRAL_CHUNKS_LIMIT  how much chunks of snapshots in stores may take, like 10G (default: 4G)
  NO_COLOR         set to anything: no colours""",
    ),
}
OTHER = "other"


def options_of(topic: str, command: Command) -> tuple[str, ...]:
    """Of `corral boot`, those that are about the topic."""
    if topic != OTHER:
        return TOPICS[topic].options
    told = {name for each in TOPICS.values() for name in each.options}
    return tuple(option.name for option in command.options if option.name not in told)


def text(topic: str, command: Command) -> str:
    """What `corral help TOPIC` prints; `command` is `corral boot`'s."""
    known = TOPICS.get(topic, Topic("more options"))
    names = options_of(topic, command)
    parts = [f"corral help {topic}: {known.about}"]
    if names:
        parts.append("options of corral boot:\n" + command.options_text(names))
        parts += [part for part in command.epilog.split("\n\n") if part.startswith(tuple(f"--{n}" for n in names))]
    return "\n\n".join([*parts, *([known.text] if known.text else [])])


def pointer() -> str:
    """Where the options are told that do not fit a screen."""
    return f"All others are told by topic, like corral help disks:\n  {', '.join(TOPICS)}"


def overview(command: Command) -> str:
    """A line for each topic."""
    topics = {name: topic.about for name, topic in TOPICS.items()}
    if options_of(OTHER, command):
        topics[OTHER] = "more options"
    return "\n".join(f"  {name:13}{about}" for name, about in topics.items())
