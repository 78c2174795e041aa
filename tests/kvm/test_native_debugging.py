"""Debugging, profiling and tracing of kernel code that runs natively on a pagetable KVM: of guests/asm/native.S, whose
every instruction is known, and of Linux."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

import corral
from corral import Machine, MachineConfig
from corral.arch.x86_64.supervisor import Supervisor, supervisor_mode
from corral.cli import main
from corral.core.exits import Cause
from corral.debug.breakpoints import PointKind, Stop, Why
from corral.debug.guest_registers import native_mode
from corral.observe.exit_trace import ExitTrace
from corral.observe.profiler import USER, Profiler
from tests.support.symbols import labels
from tests.support.tiny_guests import tiny_guest

LONG = 300.0  # seconds: nothing takes so long unless it hangs
NUMBERS = [5, 4, 3, 2, 1]  # RBX at each call of native.S's work
IF = 1 << 9
ALIAS = 0x80000000  # native.S has all of its memory there again
KERNEL = 1 << 63  # and above

pytestmark = pytest.mark.skipif(
    supervisor_mode().supervisor is not Supervisor.NATIVE, reason="this KVM does not run a guest's kernel natively"
)


@pytest.fixture(scope="module")
def guest() -> dict[str, int]:
    return labels(tiny_guest("native"))


@pytest.fixture
def vm() -> Iterator[Machine]:
    with Machine(MachineConfig(kernel=str(tiny_guest("native")), memory=16 << 20)) as machine:
        yield machine


def is_native(vm: Machine, vcpu: int = 0) -> bool:
    return native_mode(vm.vcpus[vcpu]) is not None


def step(vm: Machine, vcpu: int = 0) -> int:
    stop = vm.step(vcpu, timeout=LONG)
    assert stop.why is Why.STEP
    return stop.rip


# Of a guest whose instructions are known.


@pytest.mark.parametrize("kind", [PointKind.SOFTWARE, PointKind.HARDWARE])
def test_a_breakpoint_from_before_the_switch_is_met_each_time_after_it(
    vm: Machine, guest: dict[str, int], kind: PointKind
) -> None:
    assert vm.run_until(guest["interpreted"], LONG).stop
    assert not is_native(vm)
    code = vm.mem[guest["work"] : guest["ways"]]
    point = vm.debugger.add(kind, guest["work"])
    seen = []
    for _ in NUMBERS:
        stop = vm.run_until(timeout=LONG).stop
        assert stop is not None
        assert (stop.why, stop.rip, stop.point) == (Why.BREAKPOINT, guest["work"], point)
        assert is_native(vm)
        assert vm.mem[guest["work"] : guest["ways"]] == code, "the guest's memory shows a breakpoint"
        seen.append(vm.regs.rbx)
    assert seen == NUMBERS
    assert vm.wait(LONG).cause is Cause.RESET
    assert point.hits == len(NUMBERS)


def test_a_breakpoint_at_every_instruction_is_met(vm: Machine, guest: dict[str, int]) -> None:
    """Of one byte and of more, next to each other."""
    vm.run_until(guest["work"], LONG)
    listed = [one.address for one in vm.disassemble(guest["work"]) if one.address < guest["ways"]]
    assert len(listed) == 6
    for address in listed:
        vm.debugger.add(PointKind.SOFTWARE, address)
    met = []
    for _ in range(2 * len(listed)):
        stop = vm.run_until(timeout=LONG).stop
        assert stop is not None
        met.append(stop.rip)
    assert met == (listed * 3)[1 : 1 + len(met)], "from the first one on, where it is"
    assert vm.regs.rbx == NUMBERS[2]


def test_steps_go_one_instruction_each_whatever_it_is(vm: Machine, guest: dict[str, int]) -> None:
    """Into the handler of an exception, too, and through the mode's end."""
    vm.run_until(guest["ways"], LONG)
    code = vm.mem[guest["ways"] : guest["on_breakpoint"]]
    offsets = [step(vm) - guest["ways"] for _ in range(8)]
    assert offsets == [0x1, 0x8, 0xC, 0xE, 0x10, 0x14, 0x19, 0x1B]  # JMP RAX, JNE and JE, LOOP to itself
    assert vm.regs.rcx == 0
    places = [step(vm) for _ in range(3)]
    assert places[2] == guest["leaf"], "CALL through memory"
    assert step(vm) == guest["ways"] + 0x2D, "RET"
    assert [step(vm) for _ in range(3)][2] == guest["leaf"], "CALL through memory, by two registers"
    assert step(vm) == guest["ways"] + 0x3B
    for _ in range(3):
        step(vm)
    assert (vm.regs.rcx, vm.regs.rdi) == (0, guest["result"] + 4), "REP STOSB"
    assert [step(vm) for _ in range(3)][2] == guest["faulting"]
    assert step(vm) == guest["on_page_fault"]
    assert vm.regs.cr2 == 1 << 30
    assert [step(vm) for _ in range(5)][4] == guest["after_fault"], "IRETQ"
    assert vm.mem[guest["ways"] : guest["on_breakpoint"]] == code
    vm.run_until(guest["own_breakpoint"], LONG)
    assert vm.mem[guest["breakpoints"]].u32 == 1
    assert [step(vm) for _ in range(4)][3] == guest["off"]
    assert not is_native(vm)
    assert [step(vm) for _ in range(4)][3] == guest["on"]
    assert is_native(vm)
    assert vm.wait(LONG).cause is Cause.RESET


def test_code_that_is_mapped_twice_is_stopped_at_both_addresses(vm: Machine, guest: dict[str, int]) -> None:
    point = vm.debugger.add(PointKind.SOFTWARE, guest["leaf"])
    rips = []
    for _ in range(3):
        stop = vm.run_until(timeout=LONG).stop
        assert stop is not None
        assert stop.point is point
        rips.append(stop.rip)
    assert rips == [guest["leaf"], guest["leaf"], guest["leaf"] + ALIAS]
    assert vm.regs.rip == rips[-1]
    assert vm.wait(LONG).cause is Cause.RESET
    assert point.hits == 3


def test_a_breakpoint_of_the_guests_own_is_its_own(vm: Machine, guest: dict[str, int]) -> None:
    vm.breakpoint(guest["own_breakpoint"])
    vm.debugger.add(PointKind.SOFTWARE, guest["on_breakpoint"])
    stop = vm.run_until(timeout=LONG).stop
    assert stop is not None
    assert stop.rip == guest["on_breakpoint"]
    stop = vm.run_until(timeout=LONG).stop
    assert stop is not None
    assert stop.rip == guest["own_breakpoint"]
    assert vm.mem[guest["breakpoints"]].u32 == 1


def test_a_watchpoint_stops_behind_each_store(vm: Machine, guest: dict[str, int]) -> None:
    vm.run_until(guest["natively"], LONG)
    point = vm.watchpoint(guest["result"], 4)
    seen = []
    for _ in NUMBERS:
        stop = vm.run_until(timeout=LONG).stop
        assert stop is not None
        assert (stop.why, stop.point) == (Why.WATCHPOINT, point)
        assert stop.rip == guest["work"] + 7
        seen.append(vm.mem[guest["result"]].u32)
    assert seen == NUMBERS
    before = [vm.run_until(timeout=LONG).stop for _ in range(4)]  # REP STOSB, of what AL is
    assert all(before)
    value = vm.mem[guest["result"]].u32
    stop = vm.run_until(timeout=LONG).stop
    assert stop is not None
    assert vm.disassemble(stop.rip - 7, 1)[0].text.startswith("lock inc")
    assert vm.mem[guest["result"]].u32 == value + 1
    vm.remove(point)
    assert vm.wait(LONG).cause is Cause.RESET
    assert point.hits == len(NUMBERS) + 5


def test_what_is_stored_to_the_same_page_is_stored_and_not_told(vm: Machine, guest: dict[str, int]) -> None:
    vm.watchpoint(guest["result"] + 8, 8)
    vm.run_until(guest["ways"], LONG)
    assert vm.mem[guest["result"]].u32 == NUMBERS[-1]
    assert vm.wait(LONG).cause is Cause.RESET


def test_registers_are_the_guests(vm: Machine, guest: dict[str, int]) -> None:
    vm.run_until(guest["work"], LONG)
    assert (vm.regs.cs.selector, vm.regs.cs.dpl, vm.regs.ss.dpl) == (0x10, 0, 0)
    assert not vm.regs.rflags & IF
    vm.run_until(guest["enabled"], LONG)  # behind an IRETQ that KVM did not see
    assert (vm.regs.cs.selector, vm.regs.cs.dpl, vm.regs.ss.dpl) == (0x10, 0, 0)
    assert vm.regs.rflags & IF
    vm.regs.rflags &= ~IF
    assert vm.mem[guest["shared"]].u8 == 0
    vm.regs.rflags |= IF
    assert vm.mem[guest["shared"]].u8 == 1
    vm.regs.cr2 = 0x1234
    vm.regs.rcx = 5
    assert (vm.regs.cr2, vm.regs.rcx) == (0x1234, 5)
    assert "CPL 0, 64-bit, a kernel that runs natively\n" in vm.report()
    assert vm.wait(LONG).cause is Cause.RESET


# Of Linux.

LOOP = "i=0; while [ $i -lt {} ]; do sync; i=$((i+1)); done"


def test_no_vcpu_passes_a_breakpoint_while_another_steps_over_it() -> None:
    with corral.linux(f"({LOOP.format(60)}) & ({LOOP.format(60)}) & wait; echo all done", cpus=2) as vm:
        seen = [0, 0]

        def note(stop: Stop) -> None:
            seen[stop.vcpu] += 1
            assert vm.regs_of(stop.vcpu).rip == stop.rip

        vm.breakpoint("__x64_sys_sync", note)
        last = vm.breakpoint("ksys_sync", lambda stop: False)
        assert vm.wait(LONG).status == 0
        assert sum(seen) == last.hits == 2 * 60 + 1  # the last is init's
        assert min(seen) > 0
        assert b"all done" in vm.console.output


def test_linux_is_stepped_through_a_system_call_and_out_of_it() -> None:
    with corral.linux("sync; echo in order") as vm:
        assert vm.run_until(at="start_kernel", timeout=LONG).stop
        assert is_native(vm)
        vm.run_until(at="__x64_sys_sync", timeout=LONG)
        symbols, passed = vm.symbols, []
        for _ in range(200):
            rip = step(vm)
            assert rip >= KERNEL
            passed.append(symbols.text(rip).partition("+")[0])
        assert "ksys_sync" in passed
        vm.run_until(at="corral_return_from_syscall", timeout=LONG)
        while not vm.disassemble(vm.regs.rip, 1)[0].text.startswith("sysret"):
            step(vm)
        rip = step(vm)  # a program runs, until it enters the kernel
        assert rip >= KERNEL
        assert symbols.text(rip).startswith(("asm_", "corral_syscall_entries")), symbols.text(rip)
        assert vm.regs.cs.dpl == 0
        assert vm.wait(LONG).status == 0
        assert b"in order" in vm.console.output


def test_a_program_is_stepped_to_where_it_enters_the_kernel() -> None:
    with corral.linux("i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; echo counted") as vm:
        vm.run_until("init\r\n", timeout=LONG)
        vm.run_until(condition=lambda vm: vm.regs.cs.dpl == 3, timeout=LONG)
        assert vm.regs.rip < KERNEL
        with pytest.raises(corral.ConfigError, match="is in a program"):
            vm.breakpoint(vm.regs.rip)
        assert "CR3 is the programs' PGD of a pair" in vm.report()
        assert vm.mem[vm.symbols.address("linux_banner")].string(14) == b"Linux version "
        assert step(vm) >= KERNEL
        assert vm.regs.cs.dpl == 0
        vm.run_until("counted", timeout=LONG)


def test_a_programs_code_that_is_not_in_memory_yet_is_a_programs() -> None:
    """Where the kernel is about to fetch it, and where a program is stopped just before its fault: it comes to that in
    one of twenty looks."""
    with corral.linux("while :; do ls / > /dev/null; done") as vm:
        vm.run_until("init\r\n", timeout=LONG)
        vm.breakpoint("asm_exc_page_fault", lambda stop: vm.mem[vm.regs.rsp + 8].u64 == vm.regs.cr2)
        for _ in range(10):
            vm.run_until(timeout=LONG)
            assert vm.regs.cr2 < KERNEL
            with pytest.raises(corral.ConfigError, match="is in a program"):
                vm.breakpoint(vm.regs.cr2)
        for code_to_come in (0x2000_0000_0000, 0xFFFF_FFFF_7000_0000):
            assert vm.breakpoint(code_to_come).kind is PointKind.HARDWARE
        for point in list(vm.debugger.points):
            vm.remove(point)
        for _ in range(100):
            vm.run_until(condition=lambda vm: vm.regs.cs.dpl == 3, timeout=LONG)
            with pytest.raises(corral.ConfigError, match="is in a program"):
                vm.breakpoint(vm.regs.rip)
            vm.resume()


def test_registers_are_linux_own_wherever_it_is() -> None:
    """Until both are seen: a program, and kernel code for which KVM shows the selectors of CPL 3."""
    with corral.linux("while :; do ls /proc/1 > /dev/null; done") as vm:
        vm.run_until("init\r\n", timeout=LONG)
        wanted = {"a program", "the kernel", "the kernel, by KVM's words a program"}

        def look(vm: Machine) -> bool:
            is_kernel = vm.regs.rip >= KERNEL
            assert (vm.regs.cs.dpl, vm.regs.cs.selector) == ((0, 0x10) if is_kernel else (3, 0x33))
            if not is_kernel:
                assert vm.regs.rflags & IF
                wanted.discard("a program")
            elif vm.vcpus[0].get_sregs().cs.dpl:
                wanted.discard("the kernel, by KVM's words a program")
            else:
                wanted.discard("the kernel")
            return not wanted

        vm.run_until(condition=look, timeout=LONG)


def test_a_variable_of_linux_is_watched() -> None:
    with corral.linux("true") as vm:
        vm.run_until(at="start_kernel", timeout=LONG)
        point = vm.watchpoint("nr_threads", 4)
        place = vm.mem[vm.symbols.address("nr_threads")]
        counts = []
        for _ in range(10):
            stop = vm.run_until(timeout=LONG).stop
            assert stop is not None
            assert stop.point is point
            assert re.match("copy_process|release_task|fork_init", vm.symbols.text(stop.rip))
            counts.append(place.i32)
        assert all(abs(one - other) == 1 for one, other in pairwise(counts)), counts
        vm.remove(point)
        assert vm.wait(LONG).status == 0


def test_the_stack_that_is_in_use_is_not_watched() -> None:
    with corral.linux("true") as vm:
        vm.run_until(at="start_kernel", timeout=LONG)
        with pytest.raises(corral.ConfigError, match="on the kernel's stack"):
            vm.watchpoint(vm.regs.rsp - 64, 8)


def test_a_profile_tells_programs_from_the_kernel() -> None:
    command = "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; cat /proc/self/status > /dev/null"
    with corral.linux(command) as vm:
        vm.run_until("init\r\n", timeout=LONG)
        with Profiler(vm, 1000) as profiler:
            vm.wait(LONG)
    rows = {name: (own, total) for name, own, total in profiler.profile.functions()}
    samples = profiler.profile.samples
    assert samples > 50
    assert rows[USER][0] > samples / 2, rows
    assert not [name for name in rows if name == "[unknown]"]


def test_a_trace_has_the_guests_privilege_levels() -> None:
    """What Linux does with the serial port its kernel does, all of it."""
    with corral.linux("echo traced") as vm, ExitTrace(vm, with_cpl=True) as trace:
        vm.wait(LONG)
        exits = [exit for exit in trace if exit.reason == "IO"]
    assert len(exits) > 100
    assert {exit.cpl for exit in exits} == {0}


def test_a_panic_is_reported_with_its_callers(tmp_path: Path) -> None:
    path = tmp_path / "report"
    assert main(["boot", "--report", str(path), "--initrd", "none", "--timeout", "280"]) == 4
    told = path.read_text()
    assert "CPL 0, 64-bit, a kernel that runs natively\nCR3 is the kernel's PGD of a pair" in told
    assert re.search(r"called, by frame pointers:\n(  .*\n)*  \w+  panic\+", told), told
    assert re.search(r"(?m)^cs 0010:0  ss (0018|0000):0 ", told), told


def test_the_code_of_a_guest_that_runs_is_shown_as_it_is_there(capfd: pytest.CaptureFixture[str]) -> None:
    """The kernel has patched itself for native mode: another function is called there than in its file."""
    assert main(["disasm", "asm_exc_page_fault", "-n", "6", "--", "boot", "--", "true"]) == 0
    told = capfd.readouterr().out
    assert told.startswith("asm_exc_page_fault:\n")
    assert re.search(r"call 0x\w+  # corral_error_entry\n", told), told
