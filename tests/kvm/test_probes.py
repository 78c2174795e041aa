"""System calls and kernel functions of a guest, told while it runs on; corral strace."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

import corral
from corral.debug.probes.points import KernelEvent
from corral.debug.probes.probes import Probes
from corral.debug.probes.syscall import Syscall
from tests.support.named_guest import Guests, skip_without_kernel

LONG = 60.0  # seconds: nothing takes so long unless it hangs


def test_each_system_call_of_a_program_is_told_with_its_arguments_and_what_came_of_it() -> None:
    with corral.linux("cat /nowhere; mkdir /tmp/made; exec true") as vm, vm.trace_syscalls() as trace:
        assert vm.wait(LONG).status == 0
        calls = list(trace)
    assert trace.lost == 0
    assert all(call.duration is not None for call in calls if call.result is not None)
    [opened] = [call for call in calls if (0, "/nowhere") in call.strings or (1, "/nowhere") in call.strings]
    assert (opened.comm, opened.result) == ("cat", -2)
    assert '"/nowhere"' in str(opened)
    assert " = -1 ENOENT <" in str(opened)
    [made] = [call for call in calls if call.strings == ((0, "/tmp/made"),)]
    assert made.name == "mkdir"
    assert made.result == 0
    init = [call for call in calls if call.pid == 1]
    assert {call.comm for call in init} == {"init"}
    ended = [call for call in calls if call.name == "exit_group"]
    assert [(call.result, call.duration) for call in ended] == [(None, None)] * len(ended)
    assert {call.pid for call in ended} >= {opened.pid, made.pid}


def test_no_call_is_missed_on_several_vcpus() -> None:
    """Each shell's own counts agree with those of the trace."""
    loop = "i=0; while [ $i -lt 200 ]; do kill -0 $$; i=$((i+1)); done"
    with corral.linux(f"({loop}) & ({loop}) & wait", cpus=2) as vm, vm.trace_syscalls() as trace:
        assert vm.wait(LONG).status == 0
        killed = [call for call in trace if call.name == "kill"]
    assert len(killed) == 400
    assert {call.vcpu for call in killed} == {0, 1}


def test_more_calls_than_are_kept_are_counted() -> None:
    with corral.linux("ls / > /dev/null") as vm, vm.trace_syscalls(most=10) as trace:
        vm.wait(LONG)
    assert len(trace) == 10
    assert trace.lost == trace.count - 10 > 10


def test_what_a_kernel_does_is_told_by_name() -> None:
    names = ("task_switch", "exec", "fork", "exit", "page_fault", "signal", "ksys_sync")
    seen: list[KernelEvent] = []
    with corral.linux("sh -c 'exit 7'; sync; true") as vm:
        for name in names:
            vm.on(name, seen.append)
        assert vm.wait(LONG).status == 0
    assert {event.what for event in seen} == set(names)
    assert 7 in [event.details["status"] for event in seen if event.what == "exit"]
    assert any(event.task.comm == "sh" for event in seen)
    switch = next(event for event in seen if event.what == "task_switch")
    assert switch.task == switch.details["previous"]
    assert "page_fault(address=" in str(next(event for event in seen if event.what == "page_fault"))


def test_a_panic_is_told_with_its_message() -> None:
    told: list[KernelEvent] = []
    with corral.linux("true", append="rdinit=/nowhere init=/nowhere") as vm:
        vm.on("panic", told.append)
        assert vm.wait(LONG).cause is not None
    [panic] = told
    assert panic.task.pid == 1
    assert str(panic.details["message"]).startswith("VFS: Unable to mount root fs")


def test_memory_has_the_guests_own_code_while_it_is_paused() -> None:
    with corral.linux("while :; do sync; done") as vm:
        vm.run_until("init\r\n", LONG)
        where = vm.symbols.address("do_syscall_64")
        before = vm.mem[where : where + 64]
        with vm.trace_syscalls() as trace:
            vm.run_until(condition=lambda vm: len(trace) > 20, timeout=LONG)
            assert vm.mem[where : where + 64] == before
            vm.step(timeout=LONG)
            vm.run_until(condition=lambda vm: len(trace) > 40, timeout=LONG)
        assert vm.mem[where : where + 64] == before
        assert not [hook for hook in vm.hooks.attached if isinstance(hook, Probes)], "none is left"


def test_a_breakpoint_and_a_trace_go_together() -> None:
    with corral.linux("for i in 1 2 3; do sync; done") as vm, vm.trace_syscalls() as trace:
        point = vm.breakpoint("__x64_sys_sync", lambda stop: False)
        assert vm.wait(LONG).status == 0
        assert point.hits == sum(call.name == "sync" for call in trace) >= 3


def test_a_snapshot_of_a_traced_guest_has_none_of_it(tmp_path: Path) -> None:
    path = str(tmp_path / "traced.snapshot")
    with corral.linux("echo begun; while read line; do echo got $line; done") as vm:
        vm.run_until("begun", LONG)
        with vm.trace_syscalls():
            vm.snapshot(path)
    with corral.restore(path) as vm:
        vm.console.send("on\n")
        vm.console.expect("got on", timeout=LONG)


def test_what_a_call_raises_comes_out_and_the_guest_can_go_on() -> None:
    def fails(event: KernelEvent) -> None:
        raise ValueError("not this one")

    with corral.linux("sync; echo went on") as vm:
        vm.on("ksys_sync", fails)
        with pytest.raises(ValueError, match="not this one"):
            vm.wait(LONG)
        vm.run_until("went on", LONG)


def test_a_function_of_a_program_is_refused_by_name() -> None:
    with corral.linux("true") as vm, pytest.raises(corral.ConfigError, match=r"'libc.so.6:malloc' is in a program"):
        vm.breakpoint("libc.so.6:malloc")


@pytest.mark.parametrize(("what", "why"), [("no_such_function", "no symbol"), ("module_load", "has no module_load")])
def test_what_cannot_be_told_is_one_line(what: str, why: str) -> None:
    with corral.linux("true") as vm, pytest.raises(corral.ConfigError, match=why):
        vm.on(what, print)


def test_objects_show_themselves_in_a_notebook_and_guests_write_no_html() -> None:
    with corral.linux("echo '<script>'; mkdir '/tmp/<b>'") as vm, vm.trace_syscalls() as trace:
        outcome = vm.wait(LONG)
        shown = [vm._repr_html_(), trace._repr_html_(), outcome._repr_html_(), vm.report()._repr_html_()]  # type: ignore[attr-defined]
    assert all(html.startswith("<") for html in shown)
    assert "&lt;script&gt;" in shown[0]
    assert "&lt;b&gt;" in shown[1]
    assert not any("<script>" in html or "<b>" in html for html in shown)


# From outside.


@pytest.fixture
def guests(tmp_path: Path) -> Iterator[Guests]:
    skip_without_kernel()
    running = Guests(tmp_path)
    running.boot("traced", "--", "while :; do ls /proc > /dev/null; sleep 0.05; done")
    yield running
    running.close()


def test_strace_tells_a_guests_system_calls_from_outside(guests: Guests) -> None:
    done = guests.run("strace", "traced", "--only", "getdents64", "-n", "3", "--json")
    assert done.returncode == 0, done.stderr.decode()
    calls = [json.loads(line) for line in done.stdout.splitlines()]
    assert [call["name"] for call in calls] == ["getdents64"] * 3
    assert {call["comm"] for call in calls} == {"ls"}
    assert set(calls[0]) == set(Syscall.__match_args__)
    done = guests.run("strace", "traced", "--summary", "--for", "1")
    assert done.returncode == 0, done.stderr.decode()
    assert b"clock_nanosleep" in done.stdout


def test_a_guest_goes_on_when_a_strace_has_ended(guests: Guests) -> None:
    for _ in range(3):
        assert guests.run("strace", "traced", "-n", "5").returncode == 0
    ends = guests.start("strace", "traced")
    assert ends.stdout
    ends.stdout.readline()
    ends.kill()
    ends.communicate()
    assert guests.exec("traced", "echo still there").stdout == b"still there\n"


def test_two_straces_see_the_same(guests: Guests) -> None:
    both = [guests.start("strace", "traced", "-e", "getdents64", "-n", "4") for _ in range(2)]
    told = [one.communicate(timeout=LONG)[0].count(b"getdents64(") for one in both]
    assert told == [4, 4]


@pytest.mark.parametrize("asked", [b"syscalls", b"syscalls [1, 2]", b"syscalls [[1,2,3,4,5],[]]", b"syscalls [[" * 900])
def test_what_makes_no_sense_is_refused_and_the_guest_goes_on(guests: Guests, asked: bytes) -> None:
    path = str(guests.folder / "corral" / "traced" / "control")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.connect(path)
        client.sendall(asked + b"\n")
        assert client.recv(4096).startswith(b"error ")
    assert guests.exec("traced", "echo still there").stdout == b"still there\n"
