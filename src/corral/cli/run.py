"""corral run: a container image in a guest of its own."""

from __future__ import annotations

import os

from corral.cli import boot, terminal
from corral.cli import jail as jails
from corral.cli.options import Arguments, Command, Option, parse, seconds
from corral.cli.session import PIPES, TERMINAL
from corral.cli.told import Told
from corral.errors import ConfigError, CorralError, GuestTimeout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.launch.request import BootRequest

COMMAND = Command(
    name="run",
    summary="""\
Runs a command in a container image, which has a virtual machine of its own: its own kernel, and nothing of the host.
IMAGE is a name as for docker run, oci:DIR:TAG, docker-archive:FILE, a folder with a root file system, or an
EROFS image (./FILE.erofs). Without COMMAND the image's own runs. The first start of an image boots, each later
one goes on from there.""",
    operands=("IMAGE",),
    rest="COMMAND...",
    greedy=True,
    options=(
        Option("interactive", "", "our standard input is the command's; else it has none", "i"),
        Option("tty", "", "a terminal for the command, as for a shell: corral run -it IMAGE sh", "t"),
        Option("env", "NAME[=VALUE]", "a variable of its environment, ours without VALUE; may be repeated", "e"),
        Option("env-file", "FILE", "variables, one a line; may be repeated"),
        Option("workdir", "FOLDER", "where it begins", "w"),
        Option("user", "USER[:GROUP]", "as whom it runs, by names of the image or numbers", "u"),
        Option("entrypoint", "PROGRAM", "what is run instead of the image's entrypoint"),
        Option("volume", "FOLDER:PATH[:ro]", "a folder of the host, there in the guest; may be repeated", "v"),
        Option("tmpfs", "PATH[:OPTIONS]", "memory as a file system there; may be repeated"),
        Option("read-only", "", "the image cannot be written, but for volumes"),
        Option("disk-size", "SIZE", "how much may be written beside the image (default: 10G)"),
        Option("keep", "NAME", "what is written is kept by that name, for the next run with it"),
        Option("hostname", "NAME", "the guest's name (default: corral, or that of --name)"),
        Option("memory", "SIZE", "guest memory, like 512M or 6G (default: 1G)", "m"),
        Option("cpus", "N", "virtual CPUs, 1 to 64 (default: 1)"),
        Option("publish", "PORT:PORT", "a port of the host that leads to one of the guest's; may be repeated", "p"),
        Option("net", "[KIND][,...]", "a network, as for corral boot; without one there is none", begins=boot.NETS),
        Option("allow", "HOST[:PORT]", "the guest may connect there, and nowhere else; may be repeated"),
        Option("deny", "HOST[:PORT]", "the guest may not connect there; may be repeated"),
        Option("name", "NAME", "by which corral exec, cp, logs, stop and others find it"),
        Option("detach", "", "in the background: returns when the guest runs", "d"),
        Option("rm", "", "nothing stays of it; that is so in any case"),
        Option("pull", "WHEN", "missing, always or never: when the image is fetched (default: missing)"),
        Option("stop-signal", "SIGNAL", "what asks the command to end (default: the image's, or TERM)"),
        Option("timeout", "S", "end the guest after S seconds, with exit status 124"),
        Option("fresh", "", "boot, also where an earlier start can be gone on from"),
        Option("jail", "on|off|report", "give up all rights before the guest runs, or tell what that would refuse"),
        Option("stats", "", "at the end, what disks, shares and console did, on standard error"),
    ),
    epilog="""\
examples:
  corral run python:3.12 python -c 'print(1)'
  corral run -it debian:12 bash
  corral run -v ./src:/src:ro -w /src gcc:13 make
  corral run -d --name web -p 8080:80 nginx
  corral run ./rootfs /bin/sh -c 'echo $HOSTNAME'

exit status: the command's; 128 + n: signal n ended it; 127: there is no such program in the image; 126: it cannot be
run; 125: Corral could not run the guest; 124: --timeout was over

docs/run.md has what differs from docker run, and why.""",
)
FAILED = 125


def run(words: list[str]) -> int:
    try:
        arguments = parse(COMMAND, words)
        if arguments is None:
            print(COMMAND.help())
            return 0
        return _run(arguments, words)
    except GuestTimeout:
        raise
    except CorralError as error:
        error.exit_status = FAILED
        raise


def _run(arguments: Arguments, words: list[str]) -> int:
    if not arguments.operands:
        raise ConfigError("corral run needs an image: corral run IMAGE COMMAND; see corral run --help")
    values, every = arguments.values, arguments.every
    if "timeout" in values:
        seconds(values["timeout"])
    jail = jails.wanted(values.get("jail"))
    if "detach" in values:
        from corral.cli import detached

        if "name" not in values:
            every["name"] = [_name(arguments.operands[0])]
        return detached.start_command(arguments, ["run", *_words(arguments)])
    terminal.leave_on_signals()
    told = Told()
    with told.progress:
        request = _request(arguments, told)
    if "name" not in values:
        return boot.run_here(arguments, None, jail, None, request)
    from corral.cli import detached

    return detached.run_named(
        arguments, ["run", *words], lambda named: boot.run_here(arguments, None, jail, named, request)
    )


def _request(arguments: Arguments, told: Told) -> BootRequest:
    """Raises ConfigError, BootError, HostError."""
    from corral.cli import run_words
    from corral.cli.boot_request import nets
    from corral.config import parse_number, parse_size
    from corral.launch import container

    values = arguments.values
    memory = parse_size(values["memory"]) if "memory" in values else None
    cpus = parse_number(values.get("cpus", "1"), "--cpus")
    image = run_words.image(arguments.operands[0], values.get("pull", "missing"), told.progress)
    wanted = run_words.container(arguments, image.config)
    session = TERMINAL if "tty" in values else PIPES
    cards = nets(arguments.every, values.get("name", values.get("hostname", "")))
    root = os.path.realpath(image.root)
    return container.request(root, image.digest, wanted, session, memory, cpus, cards, told)


def _words(arguments: Arguments) -> list[str]:
    """The command line again, for the guest's own process."""
    switches = {option.name for option in COMMAND.options if not option.metavar}
    words = [
        f"--{name}" if name in switches else f"--{name}={value}"
        for name, values in arguments.every.items()
        for value in values
        if name != "detach"
    ]
    return [*words, *arguments.operands, "--", *(arguments.rest or [])]


def _name(image: str) -> str:
    """For a guest that was given none: after its image."""
    base = image.rpartition("/")[2].partition("@")[0].partition(":")[0]
    letters = "".join(letter for letter in base if letter.isascii() and letter.isalnum())[:20]
    return f"{letters or 'guest'}-{os.urandom(2).hex()}"
