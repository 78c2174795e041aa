"""corral ssh: ssh into a guest that has a name, without a network in the guest."""

from __future__ import annotations

import os
import time

from corral.agent import ssh
from corral.agent.command import Wanted
from corral.agent.connection import Refused
from corral.agent.files import GuestFiles
from corral.cli import guest_name, terminal
from corral.cli.options import Command, Option
from corral.cli.reached import connected
from corral.errors import ConfigError
from corral.running import place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.running.place import RunningGuest

COMMAND = Command(
    name="ssh",
    summary="""\
Logs in to the guest NAME by ssh, or runs COMMAND there. Keys are made and given to the guest at the first time. The
connection goes by the agent's: the guest needs an sshd, as Corral's debian has it, and no network.""",
    operands=("NAME",),
    rest="COMMAND...",
    options=(
        Option("user", "NAME", "as whom (default: root)", "u"),
        Option("tty", "", "a terminal for COMMAND", "t"),
        Option("config", "", "print what ssh, scp, rsync and others need instead: a configuration for ssh"),
        Option("proxy", "", "be the connection itself, on standard input and output: for that configuration"),
    ),
    epilog="""\
examples:
  corral boot debian --name web --detach
  corral ssh web
  corral ssh web -- uname -a
  corral ssh --config web >web.ssh && scp -F web.ssh notes.txt web:

exit status: the command's; 255: ssh's own""",
)
WAIT = 30.0  # seconds that a guest which still boots is waited for


def run(words: list[str]) -> int:
    arguments = guest_name.parsed(COMMAND, words)
    if arguments is None:
        return 0
    values, until = arguments.values, time.monotonic() + WAIT
    terminal.leave_on_signals()
    guest = place.running(arguments.operands[0], until)
    if "proxy" in values:
        return _serve(guest, until)
    files = GuestFiles(lambda: connected(guest, until))
    user = _user(values.get("user", "root"))
    ssh.prepare(guest.name, guest.folder, files)
    options = ssh.options(guest.name, guest.folder, user)
    if "config" in values:
        print("\n    ".join((f"Host {guest.name}", *options)))
        return 0
    own = [word for option in options for word in ("-o", option)]
    command = ["ssh", "-F", "none", *own, *(["-t"] if "tty" in values else []), guest.name, *(arguments.rest or [])]
    os.execvp(command[0], command)
    raise AssertionError("execvp() returns by an error alone")


def _serve(guest: RunningGuest, until: float) -> int:
    from corral.cli import exec as commands

    with connected(guest, until) as connection:
        try:
            return max(0, commands.attend(connection, Wanted(words=ssh.SERVE), True).status)
        except Refused as refused:
            raise ConfigError(f"{guest.name}: {refused}") from None


def _user(name: str) -> str:
    if not name or not all(one.isalnum() or one in "_.-" for one in name) or name[0] == "-":
        raise ConfigError(f"--user {name!r} is no name of a user")
    return name
