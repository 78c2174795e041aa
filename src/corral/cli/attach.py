"""corral attach: the console of a guest that has a name."""

from __future__ import annotations

import os
import sys

from corral.cli import guest_name, terminal
from corral.cli.options import Command
from corral.core import waiting
from corral.running import place
from corral.running.attached import Attached

COMMAND = Command(
    name="attach",
    summary="""\
The console of a guest, on this terminal: what is typed goes there, and others who are attached see it too.
Ctrl-A D leaves, and the guest goes on; Ctrl-A A sends Ctrl-A.""",
    operands=("NAME",),
    epilog="""\
example:
  corral attach web""",
)
CTRL_A = 0x01


def run(words: list[str]) -> int:
    arguments = guest_name.parsed(COMMAND, words)
    if arguments is None:
        return 0
    guest = place.running(arguments.operands[0])
    terminal.leave_on_signals()
    person = os.isatty(0)
    with Attached(guest.path(place.CONTROL)) as console:
        if person:
            print("corral: Ctrl-A D leaves, and the guest goes on", file=sys.stderr)
        with terminal.Raw(0 if person else None):
            _pass_on(console, Keys() if person else None)
    return 0


class Keys:
    """What a person types, without what is Corral's."""

    def __init__(self) -> None:
        self._escaped = False
        self.leaves = False

    def take(self, data: bytes) -> bytes:
        typed = bytearray()
        for byte in data:
            if not self._escaped:
                self._escaped = byte == CTRL_A
                typed += b"" if self._escaped else bytes((byte,))
                continue
            self._escaped = False
            if byte in b"dD":
                self.leaves = True
                break
            typed += bytes((CTRL_A,)) if byte in (ord("a"), ord("A"), CTRL_A) else bytes((CTRL_A, byte))
        return bytes(typed)


def _show(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(1, view) :]


def _pass_on(console: Attached, keys: Keys | None) -> None:
    """Until the guest ends, or a person leaves. The end of a script's input is not the end of its guest."""
    input_open = True
    _show(console.early())
    while True:
        sources = (console.fileno(), 0) if input_open else (console.fileno(),)
        ready = waiting.wait_for(dict.fromkeys(sources, waiting.READABLE))
        if console.fileno() in ready:
            shown = console.read()
            if shown is None:
                return
            _show(shown)
        if 0 in ready:
            data = os.read(0, 4096)
            input_open = bool(data)
            console.write(keys.take(data) if keys else data)
            if keys and keys.leaves:
                return
