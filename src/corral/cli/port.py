"""corral port: a TCP port of this host that leads to one of a guest."""

from __future__ import annotations

import time

from corral.agent.connection import Connection
from corral.agent.forward import Forward
from corral.cli import terminal
from corral.cli.options import Command, Option, parse
from corral.errors import ConfigError
from corral.running import place

COMMAND = Command(
    name="port",
    summary="""\
Has connections to 127.0.0.1:PORT of this host end at GUEST_PORT of the guest, until Ctrl-C or the guest's end; with
PORT 0 or left out the host chooses one. It needs no network in the guest but its own loopback.""",
    operands=("NAME", "[PORT:]GUEST_PORT"),
    options=(Option("bind", "ADDRESS", "an address of this host instead of 127.0.0.1; others may reach it then"),),
    epilog="""\
example:
  corral port web 8080:80 &
  curl http://127.0.0.1:8080/""",
)

WAIT = 30.0  # seconds that a guest which has not begun is waited for


def run(words: list[str]) -> int:
    arguments = parse(COMMAND, words)
    if arguments is None:
        print(COMMAND.help())
        return 0
    if len(arguments.operands) != 2:
        raise ConfigError("corral port needs a guest and a port: corral port NAME 8080:80")
    name, ports = arguments.operands
    host, _, inside = ports.rpartition(":")
    numbers = _number(host or "0", 0), _number(inside, 1)
    guest = place.running(name, time.monotonic() + WAIT)
    path = guest.path(place.VSOCK)
    terminal.leave_on_signals()
    connect = lambda: Connection(path, time.monotonic() + 5)  # noqa: E731
    with Forward(connect, numbers[1], arguments.values.get("bind", "127.0.0.1"), numbers[0]) as forward:
        print(f"{forward.address}:{forward.port}", flush=True)
        guest.wait()
    return 0


def _number(text: str, least: int) -> int:
    if not (text.isascii() and text.isdigit()) or not least <= int(text[:9]) <= 65535:
        raise ConfigError(f"{text!r} is no port; write it like 8080:80")
    return int(text)
