"""After close(): whatever is called of a machine, or of what belongs to one, tells what is known or raises ClosedError.

All public names of a thing are called, whichever it has: one that takes arguments has them in a table here, and one
that answers after close() is in a list of those that do.
"""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from corral import Machine, MachineConfig
from corral.backends.console import Console
from corral.config import DiskConfig
from corral.core.exits import Cause
from corral.core.ioapic import Ioapic
from corral.debug.breakpoints import Point, PointKind, Stop, Why
from corral.debug.debugger import Debugger
from corral.errors import ClosedError, ConfigError, CorralError
from corral.machine import Machine as PlainMachine
from corral.native import ffi
from corral.observe.exit_trace import ExitTrace
from corral.observe.profiler import Profiler
from corral.observe.tally import Tally
from tests.support.tiny_guests import tiny_guest

Arguments = dict[str, tuple[object, ...] | dict[str, object]]

LONG = 60.0  # seconds: no test waits for it unless it fails
AT = 0x200000
OPERATORS = ("__enter__", "__iter__", "__getitem__", "__repr__")


def machine(name: str, disk: Path | None = None, cpus: int = 1) -> Machine:
    disks = () if disk is None else (DiskConfig(str(disk)),)
    return Machine(MachineConfig(kernel=str(tiny_guest(name)), memory=16 << 20, cpus=cpus, disks=disks))


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(bytes(1 << 20))
    return path


@pytest.fixture
def vm(disk: Path) -> Iterator[Machine]:
    """Two vCPUs, paused; not closed yet."""
    with machine("spin", disk, cpus=2) as vm:
        vm.run_until("r", timeout=LONG)
        yield vm


# What is called after close(), with which arguments, and what answers all the same.

POINT = Point(PointKind.SOFTWARE, AT, 1, None)

RUNNING: Arguments = {
    "run": (Console(), 0.1),
    "inject": {"line": 5},
    "breakpoint": (AT,),
    "watchpoint": (AT, 4),
    "remove": (POINT,),
    "disassemble": (AT, 1),
    "run_until": ("never", 0.1),
    "snapshot": ("/nowhere/x",),
    "fork": (1,),
    "dump": ("/nowhere/x",),
    "step": (0, 0.1),
    "wait": (0.1,),
    "back": (0.1,),
    "mmio": (0xD1000000,),
    "pio": (0x5670,),
    "regs_of": (1,),
    "mem_of": (1,),
    "on": ("panic", print),
}
OF_MACHINE = {"close", "stop", "raise_failure", "__repr__"}
OF_SCRIPT = OF_MACHINE | {"regs_of", "mem_of", "known_symbols", "symbols", "running"}
SPACE = {"read": (AT, 4), "read_some": (AT, 4), "write": (AT, b"1234"), "search": (b"1234", AT, AT + 4096)}
SPACE |= {"locate": (AT,), "pieces": (AT, 4), "beyond": (AT,), "array": (AT, "u1", 4), "translate": (AT,)}
SPACE |= {"walk": (AT,), "view": (AT, 4), "offset": (AT, 4), "__getitem__": (slice(AT, AT + 4),)}


def called(thing: Any, arguments: Arguments) -> dict[str, Callable[[], Any]]:
    """Every public method and property, and the operators."""
    names = [name for name in dir(type(thing)) if not name.startswith("_")]
    names += [name for name in OPERATORS if hasattr(type(thing), name)]
    calls = {}
    for name in names:

        def call(name: str = name) -> Any:
            found, given = getattr(thing, name), arguments.get(name, ())
            if callable(found):
                found = found(**given) if isinstance(given, dict) else found(*given)
            result = found
            return list(result) if inspect.isgenerator(result) else result

        calls[name] = call
    return calls


def answers(thing: Any, arguments: Arguments | None = None) -> set[str]:
    """The names that do not raise ClosedError. Whatever else one raises comes out of here."""
    answering = set()
    for name, call in called(thing, arguments or {}).items():
        try:
            call()
            answering.add(name)
        except ClosedError:
            continue
        except Exception as error:
            raise AssertionError(f"{type(thing).__name__}.{name} raised {error!r}") from error
    return answering


def test_a_machine(disk: Path) -> None:
    with PlainMachine(MachineConfig(kernel=str(tiny_guest("hello")), disks=(DiskConfig(str(disk)),))) as vm:
        outcome = vm.run(Console(), timeout=LONG)
    assert answers(vm, RUNNING) == OF_MACHINE | {"__repr__"}
    assert vm.outcome == outcome
    assert outcome.cause is Cause.RESET


def test_a_scripted_machine(vm: Machine) -> None:
    vm.breakpoint(AT)
    vm.close()
    assert answers(vm, RUNNING) == OF_SCRIPT


def test_a_machine_that_never_ran() -> None:
    with machine("hello", cpus=2) as vm:
        pass
    assert answers(vm, RUNNING) == OF_SCRIPT
    assert (vm.console.output, vm.outcome) == (b"", None)
    assert vm.regs.cs.selector == 8


def test_what_is_known_stays() -> None:
    with machine("hello") as vm:
        vm.resume()
        time.sleep(0.1)  # nobody reads its console
        before = None
        while before is None or vm.running:
            before = vm.threads[0].end
        rip, selector = vm.regs.rip, vm.regs.cs.selector
    assert vm.console.output == b"hello\n"
    assert "hello" in vm.console.last
    assert vm.outcome is not None
    assert vm.outcome.cause is Cause.RESET
    assert (vm.regs.rip, vm.regs.cs.selector, vm.regs.bits) == (rip, selector, 32)
    assert vm.regs.values()["rip"] == rip
    with pytest.raises(ClosedError):
        vm.regs.rip = 1
    with pytest.raises(ClosedError):
        vm.regs.cs.base = 1


def test_a_machine_that_is_closed_changes_no_other(disk: Path, vm: Machine) -> None:
    """The descriptors of the second have the numbers of the first."""
    regs, vcpu = vm.regs, vm.vcpus[0]
    number, general = vcpu.fd.value, vcpu.get_regs()
    vm.close()
    with machine("spin", disk, cpus=2) as other:
        assert other.vcpus[0].fd.value == number
        other.run_until("r", timeout=LONG)
        before = other.regs.values()
        for change in (lambda: setattr(regs, "rip", 0x1234), lambda: vcpu.set_regs(general), lambda: vcpu.kick()):
            with pytest.raises(ClosedError):
                change()
        assert other.regs.values() == before
        assert regs.rip != 0x1234


def test_registers_of_a_closed_machine(vm: Machine) -> None:
    registers = vm.regs_of(1)
    vm.close()
    assert answers(registers) == {"bits", "regs", "sregs", "values", "vcpu", "msr", "__repr__"}
    assert answers(registers.msr, {"__getitem__": ("lstar",)}) == {"__repr__"}
    with pytest.raises(ClosedError):
        registers.msr[0x10] = 1


def test_a_vcpu(vm: Machine) -> None:
    vcpu, thread = vm.vcpus[0], vm.threads[0]
    wanted = {
        "set_regs": (vcpu.get_regs(),),
        "set_sregs": (vcpu.get_sregs(),),
        "set_lapic": (vcpu.get_lapic(),),
        "set_xsave": (vcpu.get_xsave(),),
        "set_cpuid": ([],),
        "set_msrs": ({0x10: 0},),
        "get_msr": (0x10,),
        "set_guest_debug": (0,),
        "watch_interrupts": ((),),
        "held": (lambda native: native.run.exit_reason,),
        "connect": (ffi.NULL, ffi.NULL),
    }
    vm.close()
    assert answers(vcpu, wanted) == {"close", "__repr__"}
    assert vcpu.run_page.exit_reason == 0  # an empty page: the real one is not mapped any more
    answers(thread)  # which has ended, so there is nothing to start, pause or stop


def test_what_belongs_to_kvm(vm: Machine) -> None:
    event = ffi.new("struct kvm_pit_state2 *")
    of_vm = {
        "set_tss_area": (AT,),
        "set_identity_map": (AT,),
        "set_pit": (event,),
        "split_irqchip": (24,),
        "set_memory_slot": (0, 0, 0, 0),
        "enable_capability": (1,),
        "set_irq_line": (1, True),
        "irqfd": (1, 1),
        "create_vcpu": (7, ffi.NULL),
    }
    vm.close()
    assert answers(vm.vm, of_vm) == {"close", "__repr__"}
    assert answers(vm.system, {"capability": ("IRQFD",)}) == {"close", "__repr__", "__enter__"}
    assert answers(vm.shell) == {"close", "connected", "__repr__", "__enter__"}


def test_memory(vm: Machine) -> None:
    place = vm.phys[AT]
    vm.close()
    assert answers(vm.memory, SPACE) == {"close", "offset", "regions", "__repr__"}
    assert answers(vm.phys, SPACE) == {"beyond", "locate", "pieces", "__repr__"}
    by_registers = {"locate", "pieces", "translate", "walk"}  # which are known, and say that there is no paging
    assert answers(vm.mem, SPACE) == by_registers | {"beyond", "__repr__"}
    of_place = {"bytes": (4,), "struct": ("<I",), "pack": ("<I", 1), "array": ("u1", 4)}
    assert answers(place, of_place) == {"__repr__"}


def test_an_array_of_memory_outlives_the_machine(vm: Machine) -> None:
    pytest.importorskip("numpy")
    array = vm.phys[AT].array("<u4", 1024)
    array[:] = 7
    vm.close()
    assert array.sum() == 7 * 1024


def test_the_console(vm: Machine) -> None:
    import re

    pattern = re.compile(b"never")
    vm.close()
    of_console = {"send": ("text",), "expect": ("never", 0.1), "find": (pattern,)}
    assert answers(vm.console, of_console) == {"output", "last", "drain", "find", "offer", "__repr__"}
    assert vm.console.output == b"r"


def test_devices(vm: Machine) -> None:
    state, of_transport = vm.serial.save(), vm.virtio[0].save()
    saved = vm.disks[0].save()
    vm.close()
    serial = {"offer": (b"x",), "restore": (state,)}
    assert answers(vm.serial, serial) == {"close", "__repr__"}
    of_disk = {"start": (0, [], []), "resume": (0, [], [], saved), "write_config": (0, b""), "save_layer": (0, 0, 0)}
    quiet = {"close", "device_id", "one_doorbell", "ready", "write_config", "kind", "__repr__"}
    assert answers(vm.disks[0], of_disk) == quiet
    transport = vm.virtio[0]
    registers = {"read": (0, 4), "write": (0x50, 4, 0), "connect": (vm.vm, 0)}
    registers["restore"] = (of_transport,)
    assert answers(transport, registers) == {"close", "read", "restore", "in_c", "__repr__"}
    assert transport.interrupt.fd.closed


def test_a_trace_keeps_what_it_has() -> None:
    of_trace: Arguments = {"take": (0,), "select": (("IO",),)}
    with machine("hello") as vm, ExitTrace(vm) as trace:
        vm.wait(LONG)
        vm.close()
        assert [exit.address for exit in trace].count(0x3F8) == len("hello\n")
        assert (trace.lost, trace.take(0)) == (0, b"")
        with pytest.raises(ClosedError, match="this machine is closed"):
            trace.flush()
    assert answers(trace, of_trace) == {"close", "__enter__", "__repr__"}
    with pytest.raises(ClosedError, match="this trace is closed"):
        list(trace)


def test_a_profiler_keeps_what_it_has(vm: Machine) -> None:
    with Profiler(vm, rate=1000) as profiler:
        vm.run_until(condition=lambda vm: profiler.profile.samples > 3, timeout=LONG)
        vm.close()
        time.sleep(0.02)  # it goes on to ask
    assert profiler.profile.samples > 3
    profiler.__exit__()


def test_a_tally(vm: Machine) -> None:
    with Tally(vm) as tally:
        tally.step()
        rows = tally.rows()
        assert rows
        vm.close()
        assert answers(tally) == {"seconds", "step", "__enter__", "__repr__"}
    assert answers(tally) == {"seconds", "step", "__enter__", "__repr__"}


@pytest.mark.parametrize("first", ["machine", "debugger"])
def test_a_debugger(vm: Machine, first: str) -> None:
    debugger = Debugger(vm)
    debugger.add(PointKind.SOFTWARE, AT)
    (vm if first == "machine" else debugger).close()
    (debugger if first == "machine" else vm).close()
    of_debugger = {
        "add": (PointKind.SOFTWARE, AT),
        "remove": (POINT,),
        "read": (AT, 4),
        "write": (AT, b"1234"),
        "locate": (AT,),
        "find": (AT, vm.vcpus[0]),
        "step": (0, 0.1),
        "begin_step": (0,),
        "run": (0.1,),
        "wait": (0.1,),
        "poll": (0.1,),
        "report": (Stop(Why.PAUSE),),
        "point_at": (AT,),
        "in_register": (1,),
        "stored_to": (AT, 1),
    }
    debugger.points.append(POINT)
    known = {"close", "control", "detach", "in_register", "point_at", "ready", "registers", "registers_left", "remove"}
    known |= {"stored_to", "__enter__", "__repr__"}
    assert answers(debugger, of_debugger) <= known


# In threads.


@pytest.mark.parametrize(
    "work",
    [
        lambda vm: vm.run_until("never"),
        lambda vm: vm.run_until(condition=lambda vm: False),
        lambda vm: vm.run_until(exit=lambda exit: False),
        lambda vm: vm.wait(),
        lambda vm: vm.run(),
        lambda vm: vm.console.expect("never"),
        lambda vm: vm.debugger.run(),
    ],
    ids=["text", "condition", "exit", "wait", "run", "expect", "debugger"],
)
def test_who_waits_for_a_machine_that_another_thread_closes_is_told(work: Callable[[Machine], Any]) -> None:
    with machine("halt", cpus=2) as vm:
        caught: list[BaseException] = []

        def body() -> None:
            try:
                work(vm)
            except BaseException as error:
                caught.append(error)

        thread = threading.Thread(target=body)
        thread.start()
        time.sleep(0.1)
        vm.close()
        thread.join(LONG)
        assert not thread.is_alive()
    assert [type(error) for error in caught] == [ClosedError]


@pytest.mark.parametrize("round", range(5))
def test_who_uses_a_machine_that_another_thread_closes(disk: Path, round: int) -> None:
    """All at once, again and again: what is known, ClosedError, or another error of Corral's, and no crash."""
    vm = machine("chatter", disk, cpus=2)
    vm.run_until("x", timeout=LONG)
    trace, profiler, tally = ExitTrace(vm), Profiler(vm), Tally(vm)
    things = [
        (vm.vcpus[0], {"get_msr": (0x10,), "set_cpuid": ([],), "set_msrs": ({},), "set_guest_debug": (0,)}),
        (vm.regs, {}),
        (vm.memory, SPACE),
        (vm.phys, SPACE),
        (vm.console, {"send": ("x",)}),
        (vm.serial, {"offer": (b"x",), "restore": (vm.serial.save(),)}),
        (vm.disks[0], {"write_config": (0, b"")}),
        (vm.vm, {"set_irq_line": (5, False)}),
        (trace, {"take": (0,), "select": (("IO",),)}),
        (tally, {}),
    ]
    left_alone = {"close", "attach", "start", "stop", "run", "hang_up", "find", "expect", "held", "connect"}
    left_alone |= {
        "assist",
        "watch_interrupts",
        "__enter__",
        "array",
        "set_regs",
        "set_sregs",
        "set_lapic",
        "set_xsave",
    }
    left_alone |= {"create_pit", "get_pit", "set_pit", "create_irqchip", "create_vcpu", "set_tss_area", "irqfd"}
    left_alone |= {
        "set_identity_map",
        "split_irqchip",
        "set_memory_slot",
        "enable_capability",
        "watch",
        "watch_room",
        "beyond",
    }
    left_alone |= {"watch_interrupts", "pause", "resume", "save_layer"}
    strange: list[object] = []
    over = threading.Event()

    def use(thing: object, arguments: Arguments) -> None:
        calls = [call for name, call in called(thing, arguments).items() if name not in left_alone]
        while not over.is_set():
            for call in calls:
                try:
                    call()
                except CorralError:
                    pass
                except BaseException as error:
                    strange.append((thing, error))
                    return

    threads = [threading.Thread(target=use, args=each) for each in things]
    for thread in threads:
        thread.start()
    time.sleep(0.05 * round)
    vm.close()
    trace.close()
    profiler.__enter__()
    profiler.__exit__()
    time.sleep(0.05)
    over.set()
    for thread in threads:
        thread.join(LONG)
    assert not strange
    assert not any(thread.is_alive() for thread in threads)
    tally.__exit__()


def test_of_two_who_close_both_return_when_it_is_closed(disk: Path) -> None:
    for _ in range(20):
        vm = machine("spin", disk, cpus=2)
        vm.resume()
        threads = [threading.Thread(target=vm.close) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LONG)
            assert vm.memory.native.low_end == 0
        assert all(each.fd.closed for each in (vm.system, vm.vm, *vm.vcpus))


@pytest.mark.parametrize("wish", ["close", "pause", "stop"])
def test_a_device_cannot_wait_for_the_vcpu_that_called_it(wish: str) -> None:
    with machine("unclaimed") as vm:

        @vm.pio(range(0x5670, 0x5674))
        def port(offset: int, size: int, value: int | None) -> int:
            getattr(vm, wish)()
            return 0

        with pytest.raises(ConfigError, match="cannot wait for itself"):
            vm.wait(LONG)
        assert not vm.closed


def test_an_ioapic() -> None:
    ioapic = Ioapic(-1)
    arguments = {"read": (0, 8), "write": (0, 8, 0), "restore": (ioapic.save(),)}
    ioapic.close()
    assert answers(ioapic, arguments) == {"close", "__repr__"}
