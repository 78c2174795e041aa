"""Moments of a machine in memory, and the way back to them in place, on this host's KVM."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import corral
from corral.boot.payload import parse_flat
from corral.config import DiskConfig, MachineConfig
from corral.errors import ConfigError
from corral.kvm.system import Kind
from corral.memory import PAGE
from tests.support.tiny_guests import flat, tiny_guest

LONG = 120.0
PAGES, AT, CODE = 16, 0x400000, 0x200000
# A program at CPL 3 that writes a number to the first word of each page and tells of it, then the next number.
WRITES = f"xor %eax, %eax; 6: inc %rax; mov ${AT}, %edi; 7: mov %rax, (%rdi); add ${PAGE}, %rdi; "
WRITES += f"cmp ${AT + PAGES * PAGE}, %edi; jb 7b; out %al, $0x80; jmp 6b"


@pytest.fixture
def writer() -> Iterator[corral.Machine]:
    kernel = flat("user_interrupt", CODE, 64, INSTRUCTIONS=WRITES, CODE_3=0x1B, GATES=0xEE)
    config = MachineConfig(str(kernel), memory=16 << 20, flat=parse_flat(f"long@{CODE:#x}"), debug_exit=0xF4)
    with corral.Machine(config) as vm:
        go_on(vm)
        yield vm


def go_on(vm: corral.Machine) -> int:
    """To the end of a round; returns the number that it wrote."""
    vm.run_until(exit=lambda exit: exit.address == 0x80, timeout=LONG)
    return vm.regs.rax


def privileged(vm: corral.Machine) -> list[int]:
    """SYSCALL's entry, GS's other base and the paravirtual clock's page."""
    return [vm.vcpus[0].get_msr(index) for index in (0xC0000082, 0xC0000102, 0x4B564D01)]


def ram(vm: corral.Machine) -> bytes:
    return vm.memory.read(0, vm.memory.size)


def test_a_reset_brings_back_memory_and_registers(writer: corral.Machine) -> None:
    number, before = writer.regs.rax, ram(writer)
    moment = writer.checkpoint()
    for _ in range(40):  # more than pages are in the log without a change
        assert go_on(writer) == number + 1
        writer.phys[AT + 8].u64 = 7  # the host's own write
        writer.reset(moment)
        assert (writer.regs.rax, ram(writer)) == (number, before)
    for _ in range(40):
        writer.reset()
    assert go_on(writer) == number + 1


def test_moments_are_reached_in_any_order(writer: corral.Machine) -> None:
    chance = random.Random(24)
    moments = [(writer.checkpoint(), writer.regs.rax, ram(writer))]
    for _ in range(100):
        moment, number, before = chance.choice(moments)
        writer.reset(moment)
        assert (writer.regs.rax, ram(writer)) == (number, before)
        for _ in range(chance.randrange(3)):
            go_on(writer)
        if chance.random() < 0.3:  # a branch
            moments.append((writer.checkpoint(), writer.regs.rax, ram(writer)))
        if chance.random() < 0.2 and len(moments) > 1:
            moments.pop(chance.randrange(len(moments)))


def test_what_a_kernel_changes_is_taken_back() -> None:
    """A program's registers are not all then: the kernel of this one loads others, between two of its exits."""
    with corral.linux() as vm:
        vm.console.expect("# ", timeout=LONG)
        moment, before = vm.checkpoint(), privileged(vm)
        vm.console.send("cat /proc/uptime | md5sum; echo is $((6*7))\n")
        vm.console.expect("is 42", timeout=LONG)
        vm.reset(moment)
        assert privileged(vm) == before


def test_a_guest_that_has_ended_lives_again() -> None:
    dies = "mov $5, %eax; out %al, $0x80; inc %rax; out %al, $0x80; mov $0, %esp; ud2"
    kernel = flat("user_interrupt", CODE, 64, INSTRUCTIONS=dies, CODE_3=0x1B, GATES=0xEE)
    config = MachineConfig(str(kernel), memory=16 << 20, flat=parse_flat(f"long@{CODE:#x}"), debug_exit=0xF4)
    with corral.Machine(config) as vm:
        assert go_on(vm) == 5
        moment = vm.checkpoint()
        for _ in range(3):
            assert go_on(vm) == 6
            status = vm.wait(LONG).status  # its kernel has told of the exception, and ended
            assert status == 33
            vm.reset(moment)
            assert vm.regs.rax == 5
            assert vm.outcome is None


def test_back_by_seconds() -> None:
    with corral.Machine(MachineConfig(str(tiny_guest("spin")), memory=16 << 20)) as vm:
        vm.run_until("r", timeout=LONG)
        with pytest.raises(ConfigError, match="remembers no moments"):
            vm.back(1)
        with pytest.raises(ConfigError, match="one each 2 s"):
            vm.remember(1, 2)
        vm.remember(30, 0.02)
        with pytest.raises(corral.GuestTimeout):
            vm.run_until("never", timeout=0.3)
        age = vm.back(0.1)
        assert age >= 0.1
        with pytest.raises(ConfigError, match="at most"):
            vm.back(30)
        vm.back(0)
        vm.remember(0)
        with pytest.raises(ConfigError, match="remembers no moments"):
            vm.back(0)


def test_back_in_linux() -> None:
    with corral.linux() as vm:
        vm.console.expect("# ", timeout=LONG)
        vm.remember(10, 0.02)
        vm.console.send("i=0; while :; do i=$((i+1)); echo at $i; done\n")
        numbers = []
        for _ in range(5):
            with pytest.raises(corral.GuestTimeout):
                vm.run_until("never", timeout=0.2)
            numbers.append(counted(vm.console.output)[-1])
            vm.back(0.15)
            said = len(vm.console.output)
            vm.run_until(condition=lambda vm, said=said: len(counted(vm.console.output[said:])) > 1, timeout=LONG)
            assert 0 < counted(vm.console.output[said:])[1] <= numbers[-1] + 2


def counted(said: bytes) -> list[int]:
    return [int(number) for number in re.findall(rb"at (\d+)\r\n", said)]


def test_a_checkpoint_is_of_one_machine(writer: corral.Machine) -> None:
    with pytest.raises(ConfigError, match="has no checkpoint"):
        writer.reset()
    moment = writer.checkpoint()
    with corral.Machine(MachineConfig(str(tiny_guest("spin")), memory=16 << 20)) as other:
        with pytest.raises(ConfigError, match="has started"):
            other.checkpoint()
        other.run_until("r", timeout=LONG)
        other.checkpoint()
        with pytest.raises(ConfigError, match="no such checkpoint"):
            other.reset(moment)


@pytest.mark.parametrize("cpus", [1, 2])
def test_linux_goes_back_whatever_it_does(cpus: int) -> None:
    """In programs, system calls and interrupts, with other processes since: its page tables are other ones then."""
    chance = random.Random(cpus)
    with corral.linux(cpus=cpus) as vm:
        vm.console.expect("# ", timeout=LONG)
        moments = [vm.checkpoint()]
        for number in range(20):
            vm.console.send(f"echo is $((6*{number})) $(cat /proc/uptime | md5sum)\n")
            found = vm.console.expect(re.compile(rb"is (\d+) [\da-f]{32}"), timeout=LONG)
            assert int(found[1]) == 6 * number
            vm.resume()
            time.sleep(chance.random() * 0.01)
            if number % 5 == 4:
                vm.checkpoint()  # in the middle of something, perhaps
            vm.reset(chance.choice(moments))


def test_what_cannot_go_back_is_refused_by_name(tmp_path: Path) -> None:
    disk = tmp_path / "disk.img"
    disk.write_bytes(bytes(1 << 20))
    kernel = str(tiny_guest("spin"))
    with corral.Machine(MachineConfig(kernel, memory=16 << 20, disks=(DiskConfig(str(disk)),))) as vm:
        vm.run_until("r", timeout=LONG)
        with pytest.raises(ConfigError, match=r"disk\.img' cannot be taken back; add ,ro"):
            vm.checkpoint()
    with corral.Machine(MachineConfig(kernel, memory=16 << 20)) as vm:
        vm.run_until("r", timeout=LONG)
        if vm.system.kind is not Kind.PAGETABLE:
            pytest.skip("this KVM watches memory by debug registers: nothing keeps it from that")
        point = vm.watchpoint(AT, 4)
        with pytest.raises(ConfigError, match="remove the watchpoints"):
            vm.checkpoint()
        vm.remove(point)
        vm.checkpoint()
        with pytest.raises(ConfigError, match="has checkpoints"):
            vm.watchpoint(AT, 4)
