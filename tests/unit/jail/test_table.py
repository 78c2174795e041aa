"""The table of system calls: as short as it may be, and the same in the documentation."""

from __future__ import annotations

from pathlib import Path

import pytest

from corral.jail import table
from csrc import jail_filters

DOC = Path(__file__).resolve().parents[3] / "docs" / "security.md"
MOST = {
    "main": 40,
    "vcpu": 14,
    "disk": 16,
    "stream": 20,
    "clerk": 40,
    "socket": 20,
    "connector": 10,
    "debugger": 50,
    "named": 53,
    "script": 70,
    "files": 85,
}
OPENS_FILES = {"clerk", "files"}  # the latter those that a program in Python names, by Landlock
DANGEROUS = {"execve", "execveat", "fork", "vfork", "clone3", "socket", "connect", "ptrace", "unshare", "kill", "bpf"}
DANGEROUS |= {"io_uring_setup", "io_uring_register", "mount", "process_vm_readv", "process_vm_writev", "memfd_create"}


def test_no_kind_has_more_than_it_may() -> None:
    assert {kind: len(rules) for kind, rules in table.KINDS.items() if len(rules) > MOST[kind]} == {}


def test_nothing_that_reaches_out_is_allowed() -> None:
    for kind, rules in table.KINDS.items():
        outward = {"socket", "connect"} if kind == "connector" else set()  # to Unix sockets whose path is its own
        assert DANGEROUS & {rule.call for rule in rules} == outward, kind


def test_only_the_clerk_maps_code_and_few_open_files() -> None:
    for kind, rules in table.KINDS.items():
        opens = {rule.call for rule in rules} & {"open", "openat", "openat2"}
        assert bool(opens) == (kind in OPENS_FILES)
        code = {rule.call for rule in rules if rule.call in ("mmap", "mprotect") and rule.check is None}
        assert bool(code) == (kind == "clerk")


def test_the_main_thread_has_what_others_inherit() -> None:
    main = {rule.call for rule in table.MAIN}
    for rules in (table.VCPU, table.DISK, table.STREAM):
        assert {rule.call for rule in rules} <= main
    assert {rule.call for rule in table.SOCKET} <= {rule.call for rule in table.DEBUGGER}
    for rules in (table.DEBUGGER, table.NAMED, table.SCRIPT, table.FILES):
        assert main <= {rule.call for rule in rules}


def test_a_call_is_there_once() -> None:
    for rules in table.KINDS.values():
        calls = [rule.call for rule in rules]
        assert len(calls) == len(set(calls))


NUMBERS = jail_filters.numbers_of(["gcc"])
ALLOW, TRAP, KILL = "SECCOMP_RET_ALLOW", "SECCOMP_RET_TRAP", "SECCOMP_RET_KILL_PROCESS"


def _outcome(program: list[jail_filters.Instruction], arch: str, number: int) -> str:
    """What the program returns; "looks" when it looks at an argument."""
    at, loaded = 0, ""
    while True:
        line = program[at]
        at += 1
        if line.code.startswith("BPF_RET"):
            return line.k
        if line.code.startswith("BPF_LD"):
            loaded = line.k.removeprefix("offsetof(struct seccomp_data, ").removesuffix(")")
            if loaded.startswith("args"):
                return "looks"
        elif "BPF_JA" in line.code:
            at += int(line.k)
        elif loaded == "arch":
            at += line.true if line.k == arch else line.false
        else:
            border = NUMBERS[line.k.removeprefix("SYS_")]
            at += line.true if (number >= border if "JGE" in line.code else number == border) else line.false


@pytest.mark.parametrize("kind", table.KINDS)
def test_a_filter_finds_each_call_of_the_table_and_no_other(kind: str) -> None:
    rules = {NUMBERS[rule.call]: rule for rule in table.KINDS[kind]}
    failing = dict.fromkeys((NUMBERS[name] for name in table.FAIL), "SECCOMP_RET_ERRNO | EACCES")
    failing |= dict.fromkeys((NUMBERS[name] for name in table.ABSENT), "SECCOMP_RET_ERRNO | ENOSYS")
    program = jail_filters.program(table.KINDS[kind], table.FAIL, table.ABSENT, NUMBERS)
    of_x32 = 0x40000000
    for number in (*range(max(NUMBERS.values()) + 2), of_x32, of_x32 + NUMBERS["write"]):
        rule = rules.get(number)
        wanted = failing.get(number, TRAP) if rule is None else "looks" if rule.check else ALLOW
        assert _outcome(program, "AUDIT_ARCH_X86_64", number) == wanted, number
    assert _outcome(program, "AUDIT_ARCH_I386", NUMBERS["write"]) == KILL


@pytest.mark.parametrize("kind", table.KINDS)
def test_no_jump_of_a_filter_is_too_far(kind: str) -> None:
    program = jail_filters.program(table.KINDS[kind], table.FAIL, table.ABSENT, NUMBERS)
    assert all(max(line.true, line.false) <= 255 for line in program)


def test_the_documentation_has_the_same_table() -> None:
    assert jail_filters.markdown() in DOC.read_text()
