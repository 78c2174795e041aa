"""The `corral` command: one module a subcommand, imported when it is the one."""

from __future__ import annotations

import os
import sys

from corral import __version__
from corral.errors import CorralError

COMMANDS = {
    "boot": "boot a guest: Linux to a shell, or a kernel of yours",
    "compare": "measure native processes, containers, Corral's and QEMU's VMs side by side",
    "disasm": "the code of a kernel file or of a running guest, with symbols",
    "doctor": "what this host's KVM is and can, and what is missing",
    "image": "make disk images from folders and archives, and look into them",
    "images": "list and remove the distributions that `corral boot debian` made",
    "kernel": "build, find and list the kernels that Corral boots by itself",
    "profile": "boot a guest and sample where it spends its time; flame graphs",
    "stat": "boot a guest and count: exits, KVM's statistics, disks, the host's performance counters",
    "topology": "draw this host's NUMA nodes, cores and caches, and which guests run where",
    "trace": "boot a guest and record its exits: which ports, which code, how much time",
}

USAGE = """\
usage: corral COMMAND [ARGUMENTS]

A type-2 hypervisor: boots full guest operating systems on /dev/kvm.

{commands}

corral COMMAND --help tells more.   corral --version tells the version.

exit status: what the guest's command reported, 0 when the guest shut down or reset;
  2 bad usage or input; 3 the host lacks something; 4 the guest died; 124 timeout"""


def main(argv: list[str] | None = None) -> int:
    """Runs one subcommand; returns the process's exit status. Errors that a person can act on are one line."""
    words = sys.argv[1:] if argv is None else argv
    _open_standard_descriptors()
    try:
        status = _dispatch(words)
        sys.stdout.flush()  # a reader who is gone is noticed here
        return status
    except CorralError as error:
        print(f"corral: {error}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output is gone; nothing more must be written at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 141


def _open_standard_descriptors() -> None:
    """Whoever started us may have closed some (`corral boot >&-`): /dev/kvm must not become standard output."""
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
            setattr(sys, name, open(descriptor, "w" if descriptor else "r", closefd=False))  # noqa: SIM115  (for good)


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        width = max(map(len, COMMANDS)) + 2
        print(USAGE.format(commands="\n".join(f"  {name:{width}}{text}" for name, text in COMMANDS.items())))
        return 0 if words else 2
    if words[0] == "--version":
        print(f"corral {__version__}")
        return 0
    if words[0] not in COMMANDS:
        print(f"corral: there is no command {words[0]!r}; see corral --help", file=sys.stderr)
        return 2
    module = __import__(
        f"corral.cli.{words[0]}", fromlist=["run"]
    )  # not importlib: a plain start has no other use for it
    status: int = module.run(words[1:])
    return status
