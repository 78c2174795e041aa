"""Moments of a machine in memory, and the way back to them in place, on this host's KVM."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Iterator

import pytest

import corral
from corral.boot.payload import parse_flat
from corral.config import MachineConfig
from corral.errors import ConfigError
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
