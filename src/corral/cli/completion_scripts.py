"""The scripts themselves, one function a shell."""

from __future__ import annotations

from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


@record(frozen=True)
class Value:
    """An option with what may be its value: some words, a file, or anything; None for a switch."""

    name: str
    help: str
    words: tuple[str, ...] | None = None
    file: bool = False
    short: str = ""


@record(frozen=True)
class Completed:
    """A command, or an action of one ("image create"). `words` are what its first operand may be; a file may be one
    where `file`; `guest`: the words after -- are those of `corral boot`."""

    name: str
    help: str
    options: tuple[Value, ...]
    words: tuple[str, ...]
    file: bool
    guest: bool


_BASH = """\
# Completion of corral for bash; made by: corral completion bash
_corral() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD - 1]}}
    local command=${{COMP_WORDS[1]}} at options words files=
    COMPREPLY=()
    if ((COMP_CWORD == 1)); then
        mapfile -t COMPREPLY < <(compgen -W '{commands} version --help --version' -- "$current")
        return
    fi
    for ((at = 2; at < COMP_CWORD; at++)); do
        if [[ ${{COMP_WORDS[at]}} == -- ]]; then # what follows is for the guest, or for corral boot
            case $command in
            {guests})
                if ((COMP_CWORD == at + 1)); then
                    COMPREPLY=(boot)
                    return
                fi
                command=boot
                ;;
            *) return ;;
            esac
        fi
    done
    case $command:$previous in
{values}
    esac
    case $command in
{of_commands}
    *) return ;;
    esac
    [[ $current != -* ]] || words=$options files=
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
    [[ -z $files ]] || {{
        compopt -o filenames 2>/dev/null
        mapfile -t -O ${{#COMPREPLY[@]}} COMPREPLY < <(compgen -f -- "$current")
    }}
}}
complete -F _corral corral
"""


def bash(commands: list[Completed]) -> str:
    values: dict[str, list[str]] = {}  # what is done, and for which options
    for command in commands:
        for value in command.options:
            if value.words is not None:
                places = values.setdefault(_bash_value(value), [])
                places += [f"{command.name}:{name}" for name in _written(value)]
    of_commands = []
    for command in commands:
        options = " ".join(name for value in command.options for name in _written(value))
        files = " files=yes" if command.file else ""
        of_commands.append(f"    {command.name}) options='{options}' words='{' '.join(command.words)}'{files} ;;")
    return _BASH.format(
        commands=" ".join(command.name for command in commands),
        guests="|".join(command.name for command in commands if command.guest),
        values="\n".join(
            f"    {'|'.join(places)})\n{does}\n        return\n        ;;" for does, places in values.items()
        ),
        of_commands="\n".join(of_commands),
    )


def _bash_value(value: Value) -> str:
    if value.file:
        files = 'mapfile -t COMPREPLY < <(compgen -f -- "$current")'
        return f"        compopt -o filenames 2>/dev/null\n        {files}"
    if not value.words:
        return "        : # anything"
    return f"        mapfile -t COMPREPLY < <(compgen -W '{' '.join(value.words)}' -- \"$current\")"


_ZSH = """\
#compdef corral
# Completion of corral for zsh; made by: corral completion zsh
_corral() {{
    local -a commands=(
{commands}
    )
    if ((CURRENT == 2)); then
        _describe command commands
        return
    fi
    local command=$words[2] behind=${{words[(i)--]}}
    if ((behind < CURRENT)); then # what follows -- is for the guest, or for corral boot
        [[ $command == ({guests}) ]] || return
        if ((CURRENT == behind + 1)); then
            compadd boot
            return
        fi
        command=boot words=("${{(@)words[behind,-1]}}")
        ((CURRENT -= behind - 1))
    fi
    shift words
    ((CURRENT--))
    case $command in
{of_commands}
    esac
}}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _corral "$@"
else
    compdef _corral corral
fi
"""


def zsh(commands: list[Completed]) -> str:
    of_commands = []
    for command in commands:
        lines = [f"        {_zsh_option(value, name)}" for value in command.options for name in _written(value)]
        operands = f"'*: :({' '.join(command.words)})'" if command.words else ""
        if command.file and command.words:
            operands = f'\'*: :{{_alternative "words: :({" ".join(command.words)})" "files: :_files"}}\''
        elif command.file:
            operands = "'*: :_files'"
        lines += [f"        {operands}"] if operands else []
        arguments = " \\\n".join(lines)
        of_commands.append(f"    {command.name})\n        _arguments -S \\\n{arguments}\n        ;;")
    return _ZSH.format(
        commands="\n".join(
            f"        {_in_quotes(command.name + ':' + command.help.replace(':', chr(92) + ':'))}"
            for command in commands
        ),
        guests="|".join(command.name for command in commands if command.guest),
        of_commands="\n".join(of_commands),
    )


def _zsh_value(value: Value) -> str:
    if value.words is None:
        return ""
    return ": :_files" if value.file else f": :({' '.join(value.words)})"


def fish(commands: list[Completed]) -> str:
    lines = ["# Completion of corral for fish; made by: corral completion fish", "complete -c corral -f"]
    for command in commands:
        lines.append(
            f"complete -c corral -n __fish_use_subcommand -a {command.name} -d {_in_fish_quotes(command.help)}"
        )
    for command in commands:
        here = f"complete -c corral -n '__fish_seen_subcommand_from {command.name}'"
        for value in command.options:
            short = f" -s {value.short}" if value.short else ""
            takes = "" if value.words is None else " -r -F" if value.file else f" -x -a '{' '.join(value.words)}'"
            lines.append(f"{here} -l {value.name}{short}{takes} -d {_in_fish_quotes(value.help)}")
        if command.words:
            lines.append(f"{here} -a '{' '.join(command.words)}'")
        if command.file:
            lines.append(f"{here} -F")
        if command.guest:
            lines.append(f"{here} -a boot")
    return "\n".join(lines) + "\n"


def _written(value: Value) -> list[str]:
    """As a person writes it."""
    return [f"--{value.name}", *([f"-{value.short}"] if value.short else [])]


def _zsh_command(command: Completed) -> str:
    return _in_quotes(f"{command.name}:" + command.help.replace(":", r"\:"))


def _zsh_option(value: Value, name: str) -> str:
    about = value.help.replace("[", r"\[").replace("]", r"\]")
    return _in_quotes(f"*{name}[{about}]{_zsh_value(value)}")


def _in_quotes(text: str) -> str:
    """For bash and zsh."""
    return "'" + text.replace("'", r"'\''") + "'"


def _in_fish_quotes(text: str) -> str:
    return "'" + text.replace("\\", r"\\").replace("'", r"\'") + "'"


SCRIPTS: dict[str, Callable[[list[Completed]], str]] = {"bash": bash, "zsh": zsh, "fish": fish}
