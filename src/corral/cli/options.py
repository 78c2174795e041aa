"""Command lines by table: the options of a subcommand, their parsing and their help, from one list.

Not argparse: importing that takes as long as starting the interpreter does, and `corral boot` shall be quick.
"""

from __future__ import annotations

from corral.errors import ConfigError
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

LONGEST_TIME = 10**9  # seconds
_MANY = 20  # options: more than that do not fit a screen


@record(frozen=True)
class Option:
    """`--name VALUE`, or a switch when `metavar` is empty. `short`: one letter, for `-x VALUE`. `begins`: the value may
    be left out, and is "" then; a word that follows is one if it begins with one of these and a comma, = or its end."""

    name: str
    metavar: str
    help: str
    short: str = ""
    begins: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        return f"-{self.short}, " * bool(self.short) + f"--{self.name} {self.metavar}".strip()


@record(frozen=True)
class Command:
    """What a subcommand takes. `operands` names its positional arguments, all optional; `rest` what follows `--`.

    `words` are what the first operand can be, apart from the name of a file. `greedy`: what follows the operands is
    `rest`, with or without a `--`, whatever it begins with.
    """

    name: str
    summary: str
    options: tuple[Option, ...] = ()
    operands: tuple[str, ...] = ()
    rest: str = ""
    epilog: str = ""
    words: tuple[str, ...] = ()
    greedy: bool = False

    def usage(self) -> str:
        if self.greedy:
            return f"usage: corral {self.name} [OPTIONS] {' '.join(self.operands)} [{self.rest}]"
        words = [f"usage: corral {self.name}", *(f"[{operand}]" for operand in self.operands)]
        words += ["[OPTIONS]"] if self.options else []
        words += [f"[-- {self.rest}]"] if self.rest else []
        return " ".join(words)

    def help(self, everything: bool = False) -> str:
        """Of a command with many options those that matter, and where the others are told; or `everything`."""
        from corral.cli import topics

        names = [option.name for option in self.options]
        if everything or self.greedy or len(names) <= _MANY:
            parts = [f"options:\n{self.options_text(names, help='this text')}", self.epilog]
        else:
            shown = self.options_text(topics.COMMON, help="this text", help_all="all options, and what is said of each")
            ends = [part for part in self.epilog.split("\n\n") if not part.startswith("--")]
            parts = [f"the options that matter most:\n{shown}", topics.pointer(), *ends]
        return "\n\n".join([self.usage(), self.summary, *filter(None, parts)])

    def options_text(self, names: Iterable[str], **more: str) -> str:
        """A line for each of these options, and for `more` that every command has."""
        by_name = {option.name: option for option in self.options}
        rows = [(by_name[name].title, by_name[name].help) for name in names if name in by_name]
        rows += [(f"--{name.replace('_', '-')}", text) for name, text in more.items()]
        width = max(len(left) for left, _ in rows) + 2
        return "\n".join(f"  {left:{width}}{right}" for left, right in rows)


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

    An option may be written `--name VALUE` or `--name=VALUE`; the last one counts. Switches of one letter may be
    together, as in -it.
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
            if command.greedy and len(operands) == len(command.operands):
                rest = queue[queue[:1] == ["--"] :]
                return Arguments(every, operands, rest or None)
            endless = command.operands[-1:] and command.operands[-1].endswith("...")
            if len(operands) > len(command.operands) and not endless:
                raise ConfigError(f"corral {command.name} does not know what to do with {word!r}; {hint}")
            continue
        name, equals, value = word.partition("=")
        option = by_name.get(name)
        if option is None and not equals and name[1] != "-" and all(_is_switch(by_name, letter) for letter in name[1:]):
            queue[:0] = [f"-{letter}" for letter in name[1:]]  # -it
            continue
        if option is None:
            from corral import spelling

            near = spelling.meant(name, (*by_name, "--help", "--help-all"))
            meant = f"did you mean {near}? Or " if near else ""
            raise ConfigError(f"corral {command.name} has no option {name}; {meant}{hint}")
        if option.begins and not equals:
            begins = queue[0].partition(",")[0].partition("=")[0] if queue else ""
            value = queue.pop(0) if begins in option.begins else ""
        elif option.metavar and not equals:
            if not queue:
                raise ConfigError(f"{name} needs a value, {option.metavar}; {hint}")
            value = queue.pop(0)
        elif equals and not option.metavar:
            raise ConfigError(f"{name} takes no value; {hint}")
        every.setdefault(option.name, []).append(value)
    return Arguments(every, operands, None)


def _is_switch(by_name: dict[str, Option], letter: str) -> bool:
    option = by_name.get(f"-{letter}")
    return option is not None and not option.metavar


def seconds(text: str, name: str = "--timeout") -> float:
    """Raises ConfigError; `name` is the option's."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value <= LONGEST_TIME:
        raise ConfigError(f"{name} {text!r} is not a time in seconds; write it like 30 or 0.5")
    return value


def boot_words(arguments: Arguments, command: str, usage: str = "[OPTIONS]") -> list[str]:
    """What comes behind `-- boot`, of a subcommand that boots a guest as `corral boot` does. Raises ConfigError."""
    if not arguments.rest or arguments.rest[0] != "boot":
        raise ConfigError(f"corral {command} wants what to boot: corral {command} {usage} -- boot ...; see its --help")
    return arguments.rest[1:]
