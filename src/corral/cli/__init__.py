"""The `corral` command: one module a subcommand, imported when it is the one."""

from __future__ import annotations

import os
import sys

from corral import __version__, voice
from corral.errors import ConfigError, CorralError, HostError
from corral.startup import bundle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

COMMANDS = {
    "api": "a guest by HTTP over a Unix socket, for Firecracker's clients",
    "attach": "the console of a guest that has a name",
    "boot": "boot a guest: Linux to a shell, or a kernel of yours",
    "cache": "what Corral keeps on this host's disk, and how large it is; remove it",
    "clone": "run many guests at once that go on from one snapshot",
    "compare": "measure native processes, containers, Corral's and QEMU's VMs side by side",
    "completion": "completion of commands and options for bash, zsh or fish",
    "cp": "copy files into a guest and out of it",
    "diff": "what differs between two snapshots: symbols, slab objects, fields",
    "disasm": "the code of a kernel file or of a running guest, with symbols",
    "doctor": "what this host's KVM is and can, and what is missing",
    "drgn": "a guest's kernel in drgn: its variables and types, in Python",
    "dump": "save a guest to an ELF core file, for crash and drgn",
    "exec": "a command in a guest that runs",
    "fuzz": "change inputs of a program or a kernel in a guest until one is a bug's",
    "firecracker": "corral api, by the command line that Firecracker has",
    "fleet": "thousands of guests on many hosts, by Ray: started, watched, accounted for",
    "help": "tell about a command, or about a topic like disks or keys",
    "image": "make disk images from folders and archives, and look into them",
    "images": "list and remove the distributions that `corral boot debian` made, and container images",
    "kernel": "build, find and list the kernels that Corral boots by itself",
    "kill": "end a guest at once",
    "logs": "what a guest has said on its console",
    "net": "the network cards of a guest: how they are, and where it may connect to from here on",
    "pause": "have a guest's CPUs stand still",
    "pool": "processes that have Corral loaded, so that corral-client starts in milliseconds",
    "port": "a TCP port of this host that leads to one of a guest",
    "profile": "boot a guest and sample where it spends its time; flame graphs",
    "prune": "remove what is kept of container images and not needed",
    "ps": "the guests that have a name",
    "pull": "fetch a container image into the cache",
    "qmp": "a guest by QEMU's machine protocol, for tools that speak it",
    "resume": "have a guest go on that was paused",
    "rm": "remove what is left of guests that have ended",
    "rmi": "remove container images from the cache",
    "run": "a container image, as a guest of its own",
    "snapshot": "save a guest to a file, from which others go on in milliseconds",
    "ssh": "log in to a guest by ssh, without a network there",
    "stat": "boot a guest and count: exits, KVM's statistics, disks, the host's performance counters",
    "stop": "have a guest shut down",
    "strace": "the system calls of a guest that runs, from outside",
    "top": "what guests that have a name do: CPU, memory, exits, bytes, each second",
    "topology": "draw this host's NUMA nodes, cores and caches, and which guests run where",
    "trace": "boot a guest and record its exits: which ports, which code, how much time",
    "wait": "wait until a guest has ended; its exit status",
}


own_process = False  # there is this command in the process, and nothing else


def main(argv: list[str] | None = None, *, own_process: bool = False) -> int:
    """Runs one subcommand; returns the process's exit status. Errors that a person can act on are one line.

    `own_process`: it has the process for itself, and may give up its rights for good."""
    globals()["own_process"] = own_process
    words = _given() if argv is None else argv
    _open_standard_descriptors()
    try:
        with voice.Speaking() as speaking:
            try:
                status = _dispatch(words)
                speaking.out.finish()  # a reader who is gone is noticed here
                return status
            except CorralError as error:
                return _tell(error)
            except KeyboardInterrupt:
                return 130
            except BrokenPipeError:
                raise
            except (OSError, MemoryError, RuntimeError) as error:
                return _tell(_host_is_to_blame(error))
    except BrokenPipeError:
        # The reader of our output is gone; nothing more must be written at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 141


def _given() -> list[str]:
    """The command line. Firecracker's clients start a link to `corral` that is called firecracker."""
    return [*(["firecracker"] if os.path.basename(sys.argv[0]) == "firecracker" else []), *sys.argv[1:]]


def _tell(error: CorralError) -> int:
    """Returns the exit status."""
    from corral.cli import colour

    voice.control(colour.painted("corral:", colour.RED, 2))
    print(f" {error}", file=sys.stderr)
    return error.exit_status


def _host_is_to_blame(error: OSError | MemoryError | RuntimeError) -> CorralError:
    """For what the host denies in a place that knows no better: one line. What only a bug can be is raised again."""
    if isinstance(error, MemoryError):
        trouble: CorralError | None = HostError("no memory; free some, or see ulimit -v")
    elif isinstance(error, OSError):
        from corral import os_errors

        trouble = os_errors.explained(error)
    else:  # as `threading` has it
        no_thread = "can't start new thread" in str(error)
        trouble = HostError("the host gives no thread; see ulimit -u, pids.max") if no_thread else None
    if trouble is None:
        raise error
    return trouble


def _open_standard_descriptors() -> None:
    """The parent may have closed some (`corral boot >&-`): /dev/kvm must not become standard output."""
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
            setattr(sys, name, open(descriptor, "w" if descriptor else "r", closefd=False))  # noqa: SIM115  (for good)


def _dispatch(words: list[str]) -> int:
    name = words[0] if words else "--help"
    if name in ("-V", "--version", "version"):
        print(f"corral {__version__}")
        return 0
    if name in ("-h", "--help"):
        _module("help").run([])
        return 0 if words else 2
    if name not in COMMANDS:
        from corral import spelling

        near = spelling.meant(name, (*COMMANDS, "version"))
        guess = f"did you mean corral {near}?" if near else "see corral --help"
        raise ConfigError(f"there is no command {name!r}; {guess}")
    own = words[1 : words.index("--")] if "--" in words else words[1:]
    if "--help-all" in own:
        print(_module("help").of_command(name, own).help(everything=True))
        return 0
    status: int = _module(name).run(words[1:])
    return status


def _module(name: str) -> Any:
    """That of a command."""
    return bundle.imported(f"corral.cli.{name}")


def commands_text() -> str:
    """A line for each command."""
    width = max(map(len, COMMANDS)) + 2
    return "\n".join(f"  {name:{width}}{text}" for name, text in COMMANDS.items())
