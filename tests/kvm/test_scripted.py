"""The Python API over tiny guests, and the Linux that it boots, on this host's KVM."""

from __future__ import annotations

import re
import struct
import subprocess
import sys
import traceback

import pytest

import corral
from corral import Machine, MachineConfig
from corral.core.exits import Cause
from corral.core.vcpu_thread import State
from corral.errors import ConfigError, GuestError, GuestTimeout, KvmError
from corral.memory import GuestMemoryError
from corral.native import ffi
from tests.support.tiny_guests import tiny_guest

pytest_plugins = ["pytester"]


def machine(name: str, cpus: int = 1, **defines: int) -> Machine:
    return Machine(MachineConfig(kernel=str(tiny_guest(name, **defines)), memory=16 << 20, cpus=cpus))


def test_import_of_corral_imports_nothing_else() -> None:
    code = "import sys, corral; print(sorted(m for m in sys.modules if m.startswith('corral.')))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
    with pytest.raises(AttributeError):
        corral.nothing  # noqa: B018


def test_a_conversation() -> None:
    with machine("echo") as vm:
        assert vm.console.expect(">", timeout=60)[0] == b">"
        assert not vm.running
        vm.console.send("corral")
        assert vm.run_until(re.compile(rb"c(.)r"), timeout=60).match[1] == b"o"  # type: ignore[index]
        vm.console.expect("ral", timeout=60)
        with pytest.raises(GuestTimeout, match=r"within 0.1 s; the last it said: '>corral'"):
            vm.console.expect("ral", timeout=0.1)  # that was found before
        assert not vm.running
        vm.console.send("q")
        with pytest.raises(GuestError, match="ended before 'never' came: the guest reset"):
            vm.run_until("never", timeout=60)
        assert vm.wait(10).cause is Cause.RESET
        assert vm.console.output == b">corralq"


@pytest.mark.parametrize("cpus", [1, 3])
def test_an_exit_that_c_finishes_stops_the_guest_behind_its_instruction(cpus: int) -> None:
    with machine("port_writes", cpus, COUNT=50, PORT=0x80) as vm:
        for _ in range(3):
            exit = vm.run_until(exit=lambda exit: exit.write and exit.address == 0x80, timeout=60).exit
            assert exit
            assert (exit.reason, exit.size, exit.value, exit.count) == ("IO", 1, ord("x"), 1)
            assert {thread.state for thread in vm.threads} == {State.PAUSED}
            assert vm.mem[vm.regs.rip - 1].u8 == 0xEE  # out %al, %dx is behind
        assert vm.wait(10).cause is Cause.RESET


def test_a_condition() -> None:
    with machine("spin") as vm:
        vm.run_until("r", timeout=60)
        times = []
        vm.run_until(condition=lambda vm: times.append(vm.regs.rip) or len(times) == 3, timeout=60)
        assert len(times) == 3
        with pytest.raises(ZeroDivisionError):
            vm.run_until(condition=lambda vm: 1 // 0, timeout=60)
        assert not vm.running


def test_an_exit_hook_that_raises_is_removed_and_the_guest_paused_and_able_to_go_on() -> None:
    def broken(exit: object) -> bool:
        raise ZeroDivisionError("a hook with a mistake")

    with machine("hello", cpus=2) as vm:
        with pytest.raises(ZeroDivisionError) as caught:
            vm.run_until(exit=broken, timeout=60)
        assert "broken" in "".join(traceback.format_tb(caught.value.__traceback__))
        (note,) = caught.value.__notes__
        assert "'run_until(exit=...)' failed on vCPU 0 (ZeroDivisionError: a hook with a mistake)" in note
        assert {thread.state for thread in vm.threads} == {State.PAUSED}
        assert vm.hooks.attached == ()
        assert vm.mem[vm.regs.rip].bytes(1)
        assert vm.wait(60).cause is Cause.RESET
        assert vm.console.output == b"hello\n"


def test_registers() -> None:
    with machine("spin") as vm:
        vm.run_until("r", timeout=60)
        regs = vm.regs
        regs.rbx, regs.r15, regs.cr2 = 0x1234, 1 << 63, 0x5000
        regs.ds.base = 0x40
        regs.msr["lstar"] = 0xFFFFFFFF81000000
        assert (regs.rbx, regs.r15, regs.cr2, regs.ds.base) == (0x1234, 1 << 63, 0x5000, 0x40)
        assert regs.msr[0xC0000082] == 0xFFFFFFFF81000000
        assert regs.cs.l == 0
        assert regs.idt.limit >= 0
        with pytest.raises(AttributeError, match="no register 'rzx'"):
            regs.rzx  # noqa: B018
        with pytest.raises(AttributeError, match="no register 'rzx'"):
            regs.rzx = 1
        with pytest.raises(ConfigError, match="does not fit"):
            regs.rax = 1 << 64
        with pytest.raises(KvmError, match="does not have the MSR"):
            regs.msr[0xDEADBEEF]
        vm.resume()
        with pytest.raises(ConfigError, match="vCPU 0 runs"):
            regs.rip  # noqa: B018
        vm.pause()
        assert regs.rbx == 0x1234


def test_memory() -> None:
    with machine("spin") as vm:
        vm.phys[0x200000:0x200004] = b"abcd"
        assert vm.phys[0x200000].u32 == int.from_bytes(b"abcd", "little")
        vm.phys[0x200008].i64 = -2
        vm.phys[0x200010].pack("<HQ", 7, 9)
        assert vm.phys[0x200008:0x20000C] == b"\xfe\xff\xff\xff"
        assert vm.phys[0x200010].struct("<HQ") == (7, 9)
        assert vm.mem[0x200000].string() == b"abcd"
        assert vm.mem.translate(0x200000) == 0x200000
        across = 0x200000 + (1 << 20) - 3  # over a page, and over search()'s window
        vm.phys[across] = b"needle"
        assert list(vm.phys.search(b"needle", 0x100000, 15 << 20)) == [across]
        assert list(vm.phys.search(b"needle", 0, 1 << 30)) == [across]  # past the end of RAM
        assert list(vm.phys.search(b"needle", across + 1, 15 << 20)) == []
        with pytest.raises(GuestMemoryError):
            vm.phys[(16 << 20) - 2].u32  # noqa: B018
        with pytest.raises(ConfigError, match="does not fit"):
            vm.phys[0].u8 = 256
        with pytest.raises(ConfigError, match="3 bytes for a range of 4"):
            vm.phys[0:4] = b"abc"


def test_an_array_is_the_guests_memory_and_outlives_the_machine() -> None:
    pytest.importorskip("numpy")
    with machine("spin") as vm:
        array = vm.phys[0x200000].array("<u4", 4)
        array[1] = 77
        assert vm.phys[0x200004].u32 == 77
    assert array[1] == 77


def test_page_walk_in_long_mode() -> None:
    with machine("vector") as vm:
        vm.run_until("\n", timeout=60)
        steps = vm.mem.walk(0x100123)
        assert [step.table for step in steps] == ["PML4", "PDPT", "PD"]
        assert steps[-1].maps == 0x100123
        assert vm.mem.translate(1 << 30) is None
        with pytest.raises(GuestMemoryError, match="0x40000000 is not mapped"):
            vm.mem[1 << 30].u8  # noqa: B018


@pytest.mark.parametrize("running", [False, True])
def test_devices(running: bool) -> None:
    with machine("unclaimed") as vm:
        if running:
            vm.run_until(exit=lambda exit: True, timeout=60)  # the port was read before there was a device
        written = []

        @vm.pio(range(0x5670, 0x5674))
        def port(offset: int, size: int, value: int | None) -> int:
            return 0x11223344

        @vm.mmio(range(0xD0000000, 0xD0001000))
        class Registers:
            def read(self, offset: int, size: int) -> int:
                return 0x55667788

            def write(self, offset: int, size: int, value: int) -> None:
                written.append((offset, size, value))

        vm.wait(10)
        assert vm.console.output == (b"\xff" * 4 if running else b"\x44\x33\x22\x11") + b"\x88\x77\x66\x55"
        assert written == [(0, 4, 0x12345678)]
        assert isinstance(Registers, object)


def test_a_device_put_in_while_vcpus_run() -> None:
    with machine("chatter", cpus=2) as vm:
        vm.resume()
        for page in range(200):
            vm.mmio(range(0xD2000000 + page * 4096, 0xD2000000 + (page + 1) * 4096))(lambda offset, size, value: 0)
        assert vm.running
        vm.pause()


@pytest.mark.parametrize(
    ("kind", "where", "why"),
    [
        ("mmio", range(0x1000, 0x2000), "RAM"),
        ("mmio", range(0xFEE00000, 0xFEE00004), "interrupt controller"),
        ("mmio", range(0), "no range"),
        ("mmio", range(0xD0000000, 0xD0000010, 4), "no range"),
        ("pio", 0x3FF, "console"),
        ("pio", range(0x60, 0x62), "keyboard controller"),
        ("pio", range(0x10000, 0x10001), "no range"),
    ],
)
def test_ranges_that_are_not_free_are_refused(kind: str, where: range | int, why: str) -> None:
    with machine("hello") as vm, pytest.raises(ConfigError, match=why):
        getattr(vm, kind)(where)(lambda offset, size, value: 0)


def test_a_device_that_raises() -> None:
    with machine("unclaimed", cpus=2) as vm:

        @vm.pio(range(0x5670, 0x5674))
        def port(offset: int, size: int, value: int | None) -> int:
            raise ValueError("a device with a mistake")

        with pytest.raises(ValueError, match="a device with a mistake") as caught:
            vm.wait(10)
        assert "in port" in "".join(traceback.format_tb(caught.value.__traceback__))
        assert vm.regs.rdx == 0x5670
        assert vm.phys[vm.regs.rip].bytes(1)


def test_what_inject_refuses() -> None:
    with machine("halt") as vm:
        for wrong in ({}, {"line": 24}, {"vector": 15}, {"nmi": True, "line": 1}, {"nmi": True, "vcpu": 1}):
            with pytest.raises(ConfigError):
                vm.inject(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("enabled", [False, True])
def test_a_vector_arrives_where_the_local_apic_is_enabled(enabled: bool) -> None:
    with machine("ticket") as vm:
        vm.mmio(range(0xD1000000, 0xD1000008))(lambda offset, size, value: 0)
        vm.run_until("aaaa", timeout=60)
        if enabled:
            lapic = vm.vcpus[0].get_lapic()
            ffi.buffer(lapic)[0xF0:0xF4] = struct.pack("<I", 0x1FF)  # the spurious interrupt vector register
            vm.vcpus[0].set_lapic(lapic)
        vm.inject(vector=0x25)
        if enabled:
            assert vm.wait(10).cause is Cause.RESET
            assert vm.console.output == b"aaaa!"
        else:
            with pytest.raises(GuestTimeout):
                vm.wait(0.2)


def test_an_nmi_without_a_handler_ends_a_guest() -> None:
    with machine("halt") as vm:
        vm.run_until(re.compile(rb"."), timeout=60)
        vm.inject(nmi=True)
        assert vm.wait(10).cause is not None


def test_a_vcpu_that_there_is_not() -> None:
    with machine("hello", cpus=2) as vm:
        for ask in (vm.regs_of, vm.mem_of, vm.step, vm.report, lambda vcpu: vm.disassemble(vcpu=vcpu)):
            for vcpu in (2, -1):
                with pytest.raises(ConfigError, match=f"no vCPU {vcpu}: this machine has 0 to 1"):
                    ask(vcpu)


def test_what_is_printed_helps() -> None:
    with machine("hello") as vm:
        assert re.fullmatch(r"<Machine '.*hello.*', 16 MiB, 1 vCPU, not started>", repr(vm))
        found = vm.run_until(exit=lambda exit: exit.address == 0x3F8, timeout=60)
        assert "address=0x3f8, size=1, write=True, value=0x68" in repr(found)
        assert repr(vm).endswith("paused>")
        assert repr(vm.regs.cs).startswith("<cs selector=0x8 base=0x0 limit=0xffffffff")
        assert (repr(vm.phys[0x7000]), repr(vm.memory)) == (
            "<Physical address 0x7000>",
            "<GuestMemory 0x0-0x1000000>",
        )
        assert repr(vm.console) == "<Conversation of 1 bytes; the last it said: 'h'>"
        vm.wait(10)
        assert repr(vm).endswith("over: the guest reset the machine>")
    assert repr(vm).endswith("closed>")


def test_linux() -> None:
    with corral.linux() as vm:
        vm.console.expect("# ", timeout=300)
        vm.console.send("echo $((6 * 7))\n")
        vm.console.expect("42", timeout=60)
        start = vm.phys.search(b"Linux version ", 1 << 20, vm.memory.size)
        assert vm.phys[next(start)].string(64).startswith(b"Linux version ")
        vm.console.send("exit 3\n")
        assert vm.wait(60).status == 3


def test_linux_runs_a_command() -> None:
    with corral.linux("echo hello; exit 5", memory="128M") as vm:
        vm.run_until("hello", timeout=300)
        assert vm.wait(60).status == 5
    with pytest.raises(ConfigError, match="is not a size"):
        corral.linux(memory="much")


def test_the_fixtures(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(f"""
        def test_good(corral_machine):
            vm = corral_machine({str(tiny_guest("hello"))!r}, memory=16 << 20)
            vm.run_until("hello", timeout=60)

        def test_bad(corral_machine):
            vm = corral_machine({str(tiny_guest("hello"))!r}, memory=16 << 20)
            vm.run_until("good bye", timeout=60)
    """)
    result = pytester.runpytest_inprocess()
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*Guest 0's console*", "hello"])
