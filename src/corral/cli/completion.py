"""corral completion: a script by which a shell completes commands, options and values, from the options' tables."""

from __future__ import annotations

from corral.cli import COMMANDS, completion_scripts
from corral.cli.completion_scripts import Completed, Value
from corral.cli.help import of_command
from corral.cli.options import Command, parse
from corral.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.cli.options import Option

COMMAND = Command(
    name="completion",
    summary="""\
Prints a script by which a shell completes corral's commands, options and values with the Tab key. To have it
in each new shell:

  bash    corral completion bash >~/.local/share/bash-completion/completions/corral
  zsh     corral completion zsh >"${fpath[1]}/_corral"       (a folder of $fpath that you may write)
  fish    corral completion fish >~/.config/fish/completions/corral.fish

To try it: source <(corral completion bash)""",
    operands=("SHELL",),
    words=("bash", "zsh", "fish"),
)

FILES = ("FILE", "PATH", "DIR", "JSON")  # in a metavar: the value is a file, or begins with one


def run(words: list[str]) -> int:
    arguments = parse(COMMAND, words)
    if arguments is None or not arguments.operands:
        print(COMMAND.help())
        return 0 if arguments is None else 2
    shell = arguments.operands[0]
    if shell not in COMMAND.words:
        from corral import spelling

        raise ConfigError(spelling.unknown("completion for", shell, COMMAND.words))
    print(completion_scripts.SCRIPTS[shell](commands()), end="")
    return 0


def commands() -> list[Completed]:
    """All of them, and what the shell completes of each."""
    return [_completed(name, text) for name, text in COMMANDS.items()]


def _completed(name: str, text: str) -> Completed:
    command = of_command(name)
    module = __import__(f"corral.cli.{name}", fromlist=["COMMAND"])
    actions: dict[str, Command] = getattr(module, "ACTIONS", {})
    options = {option.name: option for each in (command, *actions.values()) for option in each.options}
    words = command.words
    if name == "help":
        from corral.cli import topics

        words = (*COMMANDS, *topics.TOPICS)
    values = [_value(option) for option in options.values()]
    values.append(Value("help", "what it does"))
    if len(values) > len(command.options) + 20:
        values.append(Value("help-all", "all options"))
    takes_files = any(kind in operand for operand in command.operands for kind in (*FILES, "KERNEL", "..."))
    return Completed(name, text, tuple(values), words, takes_files, command.rest.startswith("boot"))


def _value(option: Option) -> Value:
    if not option.metavar:
        return Value(option.name, option.help, None, False, option.short)
    choices = option.metavar.partition("[")[0].split("|")
    words = tuple(choice for choice in choices if not (choice.isalpha() and choice.isupper())) if choices[1:] else ()
    return Value(option.name, option.help, words, option.metavar.startswith(FILES), option.short)
