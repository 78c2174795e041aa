"""Command lines by table: the options of a subcommand, their parsing and their help, from one list.

Not argparse: importing that takes as long as starting the interpreter does, and `corral boot` shall be quick.
"""

from __future__ import annotations

from corral.errors import ConfigError
from corral.record import record


@record(frozen=True)
class Option:
    """`--name VALUE`, or a switch when `metavar` is empty. `short`: one letter, for `-x VALUE`."""

    name: str
    metavar: str
    help: str
    short: str = ""

    @property
    def title(self) -> str:
        return f"-{self.short}, " * bool(self.short) + f"--{self.name} {self.metavar}".strip()


@record(frozen=True)
class Command:
    """What a subcommand takes. `operands` names its positional arguments, all optional; `rest` what follows `--`."""

    name: str
    summary: str
    options: tuple[Option, ...] = ()
    operands: tuple[str, ...] = ()
    rest: str = ""
    epilog: str = ""

    def usage(self) -> str:
        words = [f"usage: corral {self.name}", *(f"[{operand}]" for operand in self.operands)]
        words += ["[OPTIONS]"] if self.options else []
        words += [f"[-- {self.rest}]"] if self.rest else []
        return " ".join(words)

    def help(self) -> str:
        left = [option.title for option in self.options] + ["--help"]
        right = [option.help for option in self.options] + ["this text"]
        width = max(map(len, left)) + 2
        lines = [self.usage(), "", self.summary, "", "options:"]
        lines += [f"  {name:{width}}{text}" for name, text in zip(left, right, strict=True)]
        return "\n".join(lines) + ("\n\n" + self.epilog if self.epilog else "")


@record(frozen=True)
class Arguments:
    """A parsed command line. Switches have the value ""; `rest` is None without `--`.

    `every` has each option's values in order.
    """

    every: dict[str, list[str]]
    operands: list[str]
    rest: list[str] | None

    @property
    def values(self) -> dict[str, str]:
        """Of each option the last value."""
        return {name: values[-1] for name, values in self.every.items()}


def parse(command: Command, words: list[str]) -> Arguments | None:
    """Parses what follows the subcommand's name; None: help is wanted. Raises ConfigError.

    An option may be written `--name VALUE` or `--name=VALUE`; the last one counts.
    """
    by_name = {f"--{option.name}": option for option in command.options}
    by_name |= {f"-{option.short}": option for option in command.options if option.short}
    hint = f"see corral {command.name} --help"
    every: dict[str, list[str]] = {}
    operands: list[str] = []
    queue = list(words)
    while queue:
        word = queue.pop(0)
        if word == "--":
            if not command.rest:
                raise ConfigError(f"corral {command.name} takes nothing after --; {hint}")
            return Arguments(every, operands, queue)
        if word in ("-h", "--help"):
            return None
        if not word.startswith("-") or word == "-":
            operands.append(word)
            if len(operands) > len(command.operands):
                raise ConfigError(f"corral {command.name} does not know what to do with {word!r}; {hint}")
            continue
        name, equals, value = word.partition("=")
        option = by_name.get(name)
        if option is None:
            raise ConfigError(f"corral {command.name} has no option {name}; {hint}")
        if option.metavar and not equals:
            if not queue:
                raise ConfigError(f"{name} needs a value, {option.metavar}; {hint}")
            value = queue.pop(0)
        elif equals and not option.metavar:
            raise ConfigError(f"{name} takes no value; {hint}")
        every.setdefault(option.name, []).append(value)
    return Arguments(every, operands, None)
