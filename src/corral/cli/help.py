"""corral help: what a command or a topic is about."""

from __future__ import annotations

from corral.cli import COMMANDS, commands_text
from corral.cli.options import Command
from corral.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

USAGE = """\
usage: corral COMMAND [ARGUMENTS]

A type-2 hypervisor: boots full guest operating systems on /dev/kvm.

{commands}

corral COMMAND --help tells more, and so does corral help with one of these topics:
{topics}

corral version tells the version. Start with: corral boot"""


def run(words: list[str]) -> int:
    print(COMMAND.help() if words and words[0] in ("-h", "--help") else text(words))
    return 0


def text(words: Sequence[str]) -> str:
    """For a command (`image create` too), a topic, or all in short. Raises ConfigError for what is neither."""
    from corral.cli import topics

    if not words:
        return USAGE.format(commands=commands_text(), topics=topics.overview(of_command("boot")))
    name = words[0]
    if name in COMMANDS:
        return of_command(name, words[1:]).help()
    if name in topics.TOPICS or name == topics.OTHER:
        return topics.text(name, of_command("boot"))
    from corral import spelling

    known = [*COMMANDS, *topics.TOPICS]
    near = spelling.meant(name, known)
    guess = f"did you mean corral help {near}?" if near else "corral help has a list"
    raise ConfigError(f"there is no command and no topic {name!r}; {guess}")


def of_command(name: str, words: Sequence[str] = ()) -> Command:
    """Its table; of one with actions that of the action, where there is one with that name."""
    module = __import__(f"corral.cli.{name}", fromlist=["COMMAND"])
    actions: dict[str, Command] = getattr(module, "ACTIONS", {})
    command: Command = module.COMMAND
    return actions.get(words[0], command) if words else command


COMMAND = Command(
    name="help",
    summary="""\
Tells about a command, like `corral help boot`, or about a topic, like `corral help disks`; without either it lists
both.""",
    operands=("COMMAND|TOPIC",),
)
