"""corral kernel: the kernels that Corral boots by itself, and what is wrong with others."""

from __future__ import annotations

import os

from corral import spelling
from corral.cli.options import Command, Option, parse
from corral.cli.terminal import Progress, leave_on_signals
from corral.errors import ConfigError
from corral.guests import consent, kernel
from corral.guests.default import choose
from corral.kvm.system import host_kind

COMMAND = Command(
    name="kernel",
    summary="""\
  corral kernel build [NAME]   builds or fetches it, if it is not in the cache
  corral kernel path [NAME]    the file, for other tools; builds or fetches it first
  corral kernel symbols NAME FILE  writes its symbols, an ELF file for gdb; NAME may be a kernel file
  corral kernel list           what there is
  corral kernel check FILE     how a Linux of yours runs here, what it lacks, and what to do; boots nothing

NAME: small (Corral's own, for every KVM), stock (the distribution's kernel for virtual machines),
stock-generic (its kernel for every PC). Without NAME: what `corral boot` takes on this host.""",
    operands=("ACTION", "NAME", "FILE"),
    words=("build", "path", "symbols", "list", "check"),
    options=(
        Option("disk", "PATH[,...]", "check: the disk with the root file system; may be repeated"),
        Option("initrd", "FILE", "check: the initramfs, or 'none'"),
        Option("cpus", "N", "check: for so many CPUs"),
        Option("acpi", "auto|on|off", "check: as for corral boot"),
        Option("json", "", "check, list: for programs"),
        Option("yes", "", "build, path: as root, install by apt-get, unasked, what it is built with"),
    ),
    epilog="exit status of check: 0 nothing is missing; 2 it would not come to a shell, or cannot be used",
)


def run(words: list[str]) -> int:
    arguments = parse(COMMAND, words)
    if arguments is None or not arguments.operands:
        print(COMMAND.help())
        return 0 if arguments is None else 2
    action, *rest = arguments.operands
    if action == "list":
        return _list("json" in arguments.values)
    if action == "symbols":
        return _symbols(rest)
    if action == "check":
        from corral.cli import kernel_check

        if len(rest) != 1:
            raise ConfigError("corral kernel check wants one kernel; see corral kernel --help")
        return kernel_check.run(arguments, rest[0])
    if action not in COMMAND.words:
        known = spelling.unknown("action of corral kernel", action, COMMAND.words)
        raise ConfigError(f"{known}; see corral kernel --help")
    if len(rest) > 1:
        raise ConfigError(f"corral kernel {action} takes one kernel; see corral kernel --help")
    name = rest[0] if rest else choose(host_kind(), cpus=1).name
    if name not in kernel.NAMES:
        raise ConfigError(spelling.unknown("kernel", name, kernel.NAMES))
    if "yes" in arguments.values:
        consent.give()
    leave_on_signals()  # a build that is ended tidies up
    with Progress() as progress:
        found = kernel.get(name, progress, refresh=action == "build")
    print(found.path)
    return 0


def _symbols(rest: list[str]) -> int:
    from corral.debug.gdb import symbol_file

    if len(rest) != 2:
        raise ConfigError("corral kernel symbols wants a kernel and the file to write; see corral kernel --help")
    path = rest[0]
    if path in kernel.NAMES:
        with Progress() as progress:
            path = kernel.get(path, progress).path
    count = symbol_file.write(path, rest[1])
    print(f"{count} symbols")
    return 0


def _list(as_json: bool) -> int:
    found = [(one.name, one.version, os.path.getsize(one.path), one.path) for one in kernel.ready()]
    if as_json:
        import json

        print(json.dumps([dict(zip(("name", "version", "size", "path"), row, strict=True)) for row in found], indent=2))
        return 0
    for name, version, size, path in found:
        print(f"{name:14} {version:16} {size / (1 << 20):6.1f} MiB  {path}")
    return 0
