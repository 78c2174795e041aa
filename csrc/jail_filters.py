"""Makes C arrays of seccomp instructions from src/corral/jail/table.py, when the shim is built.

A program looks at the architecture, then at the number of the call: first for ioctl, by which a vCPU runs, then by a
binary search for all others. As a filter is installed, Linux runs it for every call there is, to remember those that it
always allows; a search by halves makes that short. Linux: Documentation/userspace-api/seccomp_filter.rst.
"""

from __future__ import annotations

import re
import runpy
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

TABLE = Path(__file__).resolve().parent.parent / "src" / "corral" / "jail" / "table.py"

_ALLOW, _TRAP, _KILL = "SECCOMP_RET_ALLOW", "SECCOMP_RET_TRAP", "SECCOMP_RET_KILL_PROCESS"
_ERROR = "SECCOMP_RET_ERRNO | %s"
_FARTHEST = 255  # instructions that a conditional jump skips
_FEW = 2  # calls that are compared one after the other
_FIRST = "ioctl"


class Instruction(NamedTuple):
    """Of struct sock_filter: `code` and `k` as C expressions; a jump skips so many instructions."""

    code: str
    k: str
    true: int = 0
    false: int = 0

    @property
    def text(self) -> str:
        return f"{{{self.code}, {self.true}, {self.false}, {self.k}}},"


def _load(field: str) -> Instruction:
    return Instruction("BPF_LD | BPF_W | BPF_ABS", f"offsetof(struct seccomp_data, {field})")


def _jump(test: str, k: str, true: int = 0, false: int = 0) -> Instruction:
    return Instruction(f"BPF_JMP | {test} | BPF_K", k, true, false)


def _return(action: str) -> Instruction:
    return Instruction("BPF_RET | BPF_K", action)


def _equal(value: str, instructions: list[Instruction]) -> list[Instruction]:
    """`instructions`, skipped where the accumulator is not `value`."""
    assert len(instructions) <= _FARTHEST
    return [_jump("BPF_JEQ", value, 0, len(instructions)), *instructions]


def _checked(check: Any, otherwise: str) -> list[Instruction]:
    """The end of a call whose argument is looked at: low half first in memory, for x86 is little-endian."""
    code = [_load(f"args[{check.argument}]")]
    if check.mask:
        code.append(Instruction("BPF_ALU | BPF_AND | BPF_K", check.mask))
    for value in check.values:
        code += _equal(value, [_return(_ALLOW)])
    return [*code, _return(otherwise)]


def _search(calls: list[tuple[str, list[Instruction]]]) -> list[Instruction]:
    """The instructions of the call in the accumulator; `calls` are in the order of their numbers."""
    if len(calls) <= _FEW:
        return [*(line for name, code in calls for line in _equal(f"SYS_{name}", code)), _return(_TRAP)]
    middle = len(calls) // 2
    below, above = _search(calls[:middle]), _search(calls[middle:])
    border = f"SYS_{calls[middle][0]}"
    if len(below) <= _FARTHEST:
        return [_jump("BPF_JGE", border, len(below)), *below, *above]
    far = Instruction("BPF_JMP | BPF_JA", str(len(below)))
    return [_jump("BPF_JGE", border, 0, 1), far, *below, *above]


def program(
    rules: tuple[Any, ...], fail: tuple[str, ...], absent: tuple[str, ...], numbers: dict[str, int]
) -> list[Instruction]:
    """Of a filter that allows `rules`. Calls of `fail` and `absent` return an error, all others trap. `numbers` are
    those of all calls."""
    refusals = dict.fromkeys(fail, _ERROR % "EACCES") | dict.fromkeys(absent, _ERROR % "ENOSYS")
    calls = {name: [_return(refusal)] for name, refusal in refusals.items()}
    for rule in rules:
        otherwise = refusals.get(rule.call, _TRAP)
        calls[rule.call] = _checked(rule.check, otherwise) if rule.check else [_return(_ALLOW)]
    code = [_load("arch"), _jump("BPF_JEQ", "AUDIT_ARCH_X86_64", 1), _return(_KILL), _load("nr")]
    if _FIRST in calls:
        code += _equal(f"SYS_{_FIRST}", calls.pop(_FIRST))
    return code + _search(sorted(calls.items(), key=lambda call: numbers[call[0]]))


def numbers_of(compiler: list[str]) -> dict[str, int]:
    """The number of each call by its name, of this compiler's headers."""
    command = [*compiler, "-E", "-dM", "-include", "sys/syscall.h", "-x", "c", "/dev/null"]
    macros = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {name: int(number) for name, number in re.findall(r"^#define __NR_(\w+) (\d+)$", macros, re.MULTILINE)}


def source(compiler: list[str]) -> str:
    """What jail_calls.c includes: `main_filter`, `vcpu_filter` and so on, and `call_names`."""
    table, numbers = runpy.run_path(str(TABLE)), numbers_of(compiler)
    names = sorted(numbers.items(), key=lambda call: call[1])
    arrays = [_array("const char *const call_names", [f'[{number}] = "{name}",' for name, number in names])]
    for kind, rules in table["KINDS"].items():
        code = program(rules, table["FAIL"], table["ABSENT"], numbers)
        arrays.append(_array(f"const struct sock_filter {kind}_filter", [line.text for line in code]))
    return "\n".join(arrays)


def _array(name: str, lines: list[str]) -> str:
    return f"static {name}[] = {{\n" + "".join(f"    {line}\n" for line in lines) + "};\n"


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
