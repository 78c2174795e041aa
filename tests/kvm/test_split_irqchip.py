"""Interrupt controllers of Corral's own against those of the host's KVM, by guests that touch both alike."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import corral
from corral import Machine, MachineConfig
from corral.arch.x86_64 import layout
from corral.core.exits import Cause
from corral.errors import ConfigError
from corral.launch.draft import draft
from corral.launch.request import BootRequest
from tests.support.tiny_guests import multiboot, tiny_guest

TABLE = 0x400000
OUT, IN, STORE, LOAD, STORE_BYTE, LOAD_BYTE = range(1, 7)
WINDOW = layout.IOAPIC + 0x10
Access = tuple[int, int, int]  # what, where, value

# Some examples only: each takes two VMs, one of which waits for a grace period.
few = settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def machine(name: str, split: bool, **defines: int) -> Machine:
    return Machine(MachineConfig(str(tiny_guest(name, **defines)), memory=16 << 20, split_irqchip=split))


def carried_out(accesses: list[Access], split: bool) -> list[int]:
    """What is read by them, in order."""
    with machine("accesses", split, TABLE=TABLE) as vm:
        assert (vm.shell.ioapic is not None) == split
        listed = b"".join(struct.pack("<IIII", *access, 0) for access in (*accesses, (0, 0, 0)))
        vm.memory.view(TABLE, len(listed))[:] = listed
        outcome = vm.run(timeout=60)
        assert outcome.cause is Cause.RESET, outcome
        after = struct.iter_unpack("<IIII", vm.memory.view(TABLE, len(listed)))
        return [value for what, _, value, _ in after if what in (IN, LOAD, LOAD_BYTE)]


registers = st.one_of(st.integers(0, 0x42), st.sampled_from((0x43, 0x80, 0xFF)))
words = st.one_of(st.integers(0, 0xFFFFFFFF), st.integers(0, 0x1FFFF), st.sampled_from((0x10000, 0x8040, 0xA0FF)))
ioapic_accesses = st.lists(
    st.one_of(
        st.tuples(st.just(STORE), st.just(layout.IOAPIC), registers),
        st.tuples(st.just(STORE_BYTE), st.just(layout.IOAPIC), registers),
        st.tuples(st.just(STORE), st.just(WINDOW), words),
        st.tuples(st.just(STORE_BYTE), st.just(WINDOW), st.integers(0, 0xFF)),
        st.tuples(
            st.sampled_from((LOAD, LOAD_BYTE)),
            st.sampled_from((layout.IOAPIC, WINDOW, layout.IOAPIC + 0x20, layout.IOAPIC + 0x40)),
            st.just(0),
        ),
    ),
    min_size=20,
    max_size=300,
)
ALL_ENTRIES = [one for n in range(0x42) for one in ((STORE, layout.IOAPIC, n), (LOAD, WINDOW, 0))]


@few
@given(ioapic_accesses)
def test_the_ioapic_answers_as_that_of_kvm(accesses: list[Access]) -> None:
    accesses = [*accesses, *ALL_ENTRIES]
    assert carried_out(accesses, True) == carried_out(accesses, False)


OUTPUT = 1 << 7  # in a counter's status: depends on the moment


@st.composite
def programmed(draw: st.DrawFn) -> list[Access]:
    """A counter is given a mode and a count, and is asked for its status; port 0x61 is written and read."""
    counter, access = draw(st.integers(0, 2)), draw(st.integers(1, 3))
    word = counter << 6 | access << 4 | draw(st.integers(0, 7)) << 1 | draw(st.integers(0, 1))
    count = [(OUT, 0x40 + counter, draw(st.integers(0, 0x99))) for _ in range(1 + (access == 3))]
    speaker = draw(st.integers(0, 255))
    latch = 0xE0 | 2 << counter  # the status alone
    status = [(OUT, 0x43, latch), (OUT, 0x43, latch), (IN, 0x40 + counter, 0)]
    return [(OUT, 0x43, word), *count, *status, (OUT, 0x61, speaker), (IN, 0x61, 0)]


@few
@given(st.lists(programmed(), min_size=1, max_size=20))
def test_the_timer_answers_as_that_of_kvm(programs: list[list[Access]]) -> None:
    def answers(split: bool) -> list[tuple[int, int]]:
        read = carried_out([access for program in programs for access in program], split)
        return [(status & ~OUTPUT, speaker & 3) for status, speaker in zip(read[::2], read[1::2], strict=True)]

    assert answers(True) == answers(False)


@pytest.mark.parametrize("split", [True, False])
def test_the_second_counter_measures_time(split: bool) -> None:
    """As Linux measures its TSC: mode 0, and port 0x61 tells when it is over, which is not at once."""
    start = [(OUT, 0x61, 1), (OUT, 0x43, 0xB0), (OUT, 0x42, 0xFF), (OUT, 0x42, 0xFF)]
    read = carried_out([*start, *[(IN, 0x61, 0)] * 20_000], split)
    over = [value >> 5 & 1 for value in read]
    assert over[0] == 0
    assert over == sorted(over)
    assert over[-1] == 1


def interruptions(split: bool, **defines: int) -> int:
    with machine("level", split, **defines) as vm:
        outcome = vm.run(timeout=60)
        assert outcome.cause is Cause.RESET, outcome
        return vm.serial.stats()["sent"]


def test_a_line_that_stays_up_interrupts_again_after_its_end() -> None:
    """A pagetable KVM has one more on its way when the third is served, whichever IOAPIC sends it."""
    assert interruptions(True) in (3, 4)
    assert interruptions(True) == interruptions(False)
    assert interruptions(True, EDGE=1) == interruptions(False, EDGE=1) == 1


def test_there_is_no_8259() -> None:
    assert carried_out([(OUT, 0x21, 0xFB), (IN, 0x21, 0)], True) == [0xFF]


def test_a_kernel_that_may_wait_for_ticks_is_refused() -> None:
    with pytest.raises(ConfigError, match="split_irqchip"):
        Machine(MachineConfig(str(multiboot("multiboot")), memory=16 << 20, split_irqchip=True))


def test_which_guests_have_split_controllers(tmp_path: Path) -> None:
    def split(**request: object) -> bool:
        return draft(BootRequest(**request)).machine.split_irqchip  # type: ignore[arg-type]

    assert split()
    assert split(command=("true",), parameters="quiet")
    assert split(kernel="host", serves_channel=True)
    assert not split(kernel=str(tiny_guest("reset")))  # may be anything
    assert not split(parameters="quiet noapic")
    assert not split(bios=True)


def test_linux_and_what_goes_on_from_it_have_split_controllers(tmp_path: Path) -> None:
    snapshot = str(tmp_path / "shell")
    with corral.linux() as vm:
        vm.console.expect("# ", timeout=120)
        vm.console.send("cat /proc/interrupts\n")
        vm.console.expect(re.compile(rb"IO-APIC +4-edge +ttyS0"), timeout=60)
        assert vm.shell.ioapic is not None
        before = vm.shell.ioapic.save()
        vm.snapshot(snapshot)
    for _ in range(2):
        with corral.restore(snapshot) as vm:
            assert vm.shell.ioapic is not None
            assert vm.shell.ioapic.save().pins == before.pins
            vm.console.send("echo $((6*7))\n")
            vm.console.expect("\n42", timeout=60)
            vm.snapshot(snapshot)
