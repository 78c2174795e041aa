"""The table of system calls: as short as it may be, and the same in the documentation."""

from __future__ import annotations

from pathlib import Path

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


def test_the_documentation_has_the_same_table() -> None:
    assert jail_filters.markdown() in DOC.read_text()
