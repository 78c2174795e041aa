"""Manual pages, made from the tables of the commands: a wheel installs them (csrc/build_ffi.py)."""

from __future__ import annotations

from corral.cli import COMMANDS
from corral.cli.help import of_command
from corral.cli.options import Command

SECTION = 1
_HEAD = '.TH "{title}" {section} "" "corral {version}" "Corral"\n.SH NAME\n{name} \\- {about}\n'


def pages() -> dict[str, str]:
    """By file name: corral.1, and one for each command."""
    return {f"corral.{SECTION}": _overview()} | {
        f"corral-{name}.{SECTION}": _page(name, about) for name, about in COMMANDS.items()
    }


def escaped(text: str) -> str:
    """Plain text as roff has it: no line is a request, and a hyphen stays one that can be searched for."""
    lines = text.replace("\\", "\\e").replace("-", "\\-").splitlines()
    return "\n".join(f"\\&{line}" if line.startswith((".", "'")) else line for line in lines)


def _head(name: str, about: str) -> str:
    from corral import __version__

    head = {"title": name.upper(), "section": SECTION, "version": __version__}
    return _HEAD.format(**head, name=escaped(name), about=escaped(about))


def _overview() -> str:
    rows = "".join(f".TP\n.BR corral\\-{name} ({SECTION})\n{escaped(about)}\n" for name, about in COMMANDS.items())
    usage = ".SH SYNOPSIS\n.B corral\n.I COMMAND\n[ARGUMENTS]\n"
    return f"{_head('corral', 'a hypervisor: boots guest operating systems')}{usage}.SH COMMANDS\n{rows}"


def _page(name: str, about: str) -> str:
    command = of_command(name)
    module = __import__(f"corral.cli.{name}", fromlist=["ACTIONS"])
    actions: dict[str, Command] = getattr(module, "ACTIONS", {})
    parts = [_head(f"corral-{name}", about), f".SH SYNOPSIS\n.B {escaped(command.usage().removeprefix('usage: '))}\n"]
    parts += [_section("DESCRIPTION", command.summary), _options("OPTIONS", command)]
    parts += [_options(f"OPTIONS OF {action.upper()}", table) for action, table in actions.items()]
    parts += [_section("NOTES", command.epilog), ".SH SEE ALSO\n.BR corral (1)\n"]
    return "".join(parts)


def _section(title: str, text: str) -> str:
    """As it stands: the texts are laid out for a terminal."""
    return f".SH {title}\n.nf\n{escaped(text)}\n.fi\n" if text else ""


def _options(title: str, command: Command) -> str:
    rows = "".join(f".TP\n.B {escaped(option.title)}\n{escaped(option.help)}\n" for option in command.options)
    return f".SH {title}\n{rows}" if rows else ""
