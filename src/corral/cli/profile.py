"""corral profile: where a guest spends its time."""

from __future__ import annotations

import sys

from corral import voice
from corral.cli import boot
from corral.cli.options import Command, Option, boot_words, parse, seconds
from corral.errors import ConfigError, HostError
from corral.jail import confine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

    from corral.machine import Machine
    from corral.observe.profiler import Profile, Profiler
    from corral.symbols.table import Symbols

COMMAND = Command(
    name="profile",
    summary="""\
Boots a guest as `corral boot` does and asks each of its vCPUs, so many times a second, where it is and who called that
code: by frame pointers where the kernel keeps them, else by the return addresses on its stack. What it costs the guest
is little: a sample takes some 20 us. Nothing is needed in the guest.""",
    rest="boot ARGUMENTS...",
    options=(
        Option("rate", "HZ", "samples a second of each vCPU (default: 500)"),
        Option("for", "S", "only the first S seconds; the guest goes on"),
        Option("out", "FILE", "a flame graph: .svg, or .folded for flamegraph.pl and speedscope.app"),
        Option("symbols", "FILE", "a System.map (default: those of the kernel)"),
    ),
    epilog="""\
examples:
  corral profile -- boot -- true                         what a boot to init does, on standard error
  corral profile --out boot.svg -- boot -- true          then open boot.svg in a browser
  corral profile --rate 2000 -- boot -- 'find / | wc -l'""",
)


def run(words: list[str]) -> int:
    confine.inherited()
    arguments = parse(COMMAND, words)
    if arguments is None:
        print(COMMAND.help())
        return 0
    guest = boot_words(arguments, "profile")
    values = arguments.values
    rate = seconds(values.get("rate", "500"), "--rate")
    limit = seconds(values["for"], "--for") if "for" in values else None
    out = values.get("out")
    if out is not None and not out.endswith((".svg", ".folded")):
        raise ConfigError(f"--out {out!r}: a flame graph is a .svg or a .folded file")
    symbols = _symbols(values.get("symbols"))
    file = _open(out) if out is not None else None

    def watch(machine: Machine) -> Profiler:
        from corral.observe.profiler import Profiler

        profiler = Profiler(machine, rate, symbols, limit)
        profiles.append(profiler.profile)
        return profiler

    profiles: list[Profile] = []
    try:
        return boot.run(guest, watch, ("corral.observe.flame",))
    finally:
        for profile in profiles:
            print(profile.text(), file=sys.stderr)
            if file:
                _write(profile, file)


def _symbols(path: str | None) -> Symbols | None:
    if path is None:
        return None
    from corral.symbols import table

    return table.read(path)


def _open(path: str) -> TextIO:
    """Now: from within the jail nothing can be opened. Raises ConfigError."""
    try:
        return open(path, "w", opener=voice.opener)
    except OSError as error:
        raise ConfigError(f"cannot write {path!r}: {error.strerror}; name another file") from None


def _write(profile: Profile, file: TextIO) -> None:
    from corral.observe import flame

    if file.name.endswith(".svg"):
        text = flame.svg(profile.stacks, f"corral profile: {profile.samples} samples")
    else:
        text = flame.folded(profile.stacks)
    try:
        with file:
            file.write(text)
    except OSError as error:
        raise HostError(f"cannot write {file.name!r}: {error.strerror}; make room for it") from None
