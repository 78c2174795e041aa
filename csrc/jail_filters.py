"""Makes C arrays of seccomp instructions from src/corral/jail/table.py, when the shim is built.

A program looks at the architecture, then at the number of the call, in the order of the table: what is frequent comes
first there. Linux: Documentation/userspace-api/seccomp_filter.rst.
"""

from __future__ import annotations

import re
import runpy
import subprocess
from pathlib import Path
from typing import Any

TABLE = Path(__file__).resolve().parent.parent / "src" / "corral" / "jail" / "table.py"

_LOAD = "{BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(struct seccomp_data, %s)},"
_JUMP = "{BPF_JMP | %s | BPF_K, %d, %d, %s},"
_RETURN = "{BPF_RET | BPF_K, 0, 0, %s},"
_AND = "{BPF_ALU | BPF_AND | BPF_K, 0, 0, %s},"
_ALLOW, _TRAP, _KILL = "SECCOMP_RET_ALLOW", "SECCOMP_RET_TRAP", "SECCOMP_RET_KILL_PROCESS"
_ERROR = "SECCOMP_RET_ERRNO | %s"
_FARTHEST = 255  # instructions that a jump skips


def _equal(value: str, instructions: list[str]) -> list[str]:
    """`instructions`, skipped where the accumulator is not `value`."""
    assert len(instructions) <= _FARTHEST
    return [_JUMP % ("BPF_JEQ", 0, len(instructions), value), *instructions]


def _checked(check: Any, otherwise: str) -> list[str]:
    """The end of a call whose argument is looked at: low half first in memory, for x86 is little-endian."""
    code = [_LOAD % f"args[{check.argument}]"]
    if check.mask:
        code.append(_AND % check.mask)
    for value in check.values:
        code += _equal(value, [_RETURN % _ALLOW])
    return [*code, _RETURN % otherwise]


def program(rules: tuple[Any, ...], fail: tuple[str, ...], absent: tuple[str, ...]) -> list[str]:
    """The instructions, as C initializers."""
    refusals = dict.fromkeys(fail, _ERROR % "EACCES") | dict.fromkeys(absent, _ERROR % "ENOSYS")
    code = [_LOAD % "arch", _JUMP % ("BPF_JEQ", 1, 0, "AUDIT_ARCH_X86_64"), _RETURN % _KILL, _LOAD % "nr"]
    for rule in rules:
        otherwise = refusals.get(rule.call, _TRAP)
        code += _equal(f"SYS_{rule.call}", _checked(rule.check, otherwise) if rule.check else [_RETURN % _ALLOW])
    for name, refusal in refusals.items():
        code += _equal(f"SYS_{name}", [_RETURN % refusal])
    return [*code, _RETURN % _TRAP]


def _names(compiler: list[str]) -> str:
    """The name of each call by its number, of this compiler's headers."""
    command = [*compiler, "-E", "-dM", "-include", "sys/syscall.h", "-x", "c", "/dev/null"]
    macros = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.findall(r"^#define __NR_(\w+) (\d+)$", macros, re.MULTILINE)
    lines = "\n".join(f'    [{number}] = "{name}",' for name, number in sorted(found, key=lambda one: int(one[1])))
    return f"static const char *const call_names[] = {{\n{lines}\n}};\n"


def source(compiler: list[str]) -> str:
    """What jail.c includes: `main_filter`, `vcpu_filter` and so on, and `call_names`."""
    table = runpy.run_path(str(TABLE))
    arrays = [_names(compiler)]
    for kind, rules in table["KINDS"].items():
        lines = "\n".join(f"    {line}" for line in program(rules, table["FAIL"], table["ABSENT"]))
        arrays.append(f"static const struct sock_filter {kind}_filter[] = {{\n{lines}\n}};\n")
    return "\n".join(arrays)


def markdown() -> str:
    """The table of docs/security.md: a row for each call, a column for each kind."""
    kinds = runpy.run_path(str(TABLE))["KINDS"]
    calls = {rule.call: None for rules in kinds.values() for rule in rules}
    lines = [f"| system call | {' | '.join(kinds)} |", "|---|" + "---|" * len(kinds)]
    for call in calls:
        cells = []
        for rules in kinds.values():
            rule = next((rule for rule in rules if rule.call == call), None)
            cells.append("" if rule is None else _limits(rule.check) if rule.check else "yes")
        lines.append(f"| {call} | {' | '.join(cells)} |")
    lines.append(f"| **calls** | {' | '.join(str(len(rules)) for rules in kinds.values())} |")
    return "\n".join(lines) + "\n"


def _limits(check: Any) -> str:
    if len(check.values) > 3:
        return f"{len(check.values)} requests"
    if check.values == ("0",):
        return f"not {check.mask}" if check.mask else "no flags"
    values = ", ".join(check.values).replace("CORRAL_JAIL_SELF", "this process")
    return "of a thread" if "|" in values else values


if __name__ == "__main__":
    print(markdown(), end="")
