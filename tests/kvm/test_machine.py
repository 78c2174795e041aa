"""Whole machines on this host's KVM: one tiny guest a behaviour."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from corral.backends.console import Console
from corral.config import MachineConfig
from corral.core.exits import Cause, Outcome, Over
from corral.core.vcpu_thread import State, VcpuThread
from corral.errors import KvmError
from corral.machine import Machine
from tests.support.tiny_guests import tiny_guest

MIB = 1 << 20


def config(name: str, memory: int = 16 * MIB, cpus: int = 1) -> MachineConfig:
    return MachineConfig(kernel=str(tiny_guest(name)), memory=memory, cpus=cpus)


def run(name: str, timeout: float = 10, **options: int) -> tuple[Outcome, bytes]:
    """Runs a tiny guest to its end; what it sent goes through a pipe, as it would from the command line."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    try:
        with Machine(config(name, **options)) as machine:
            outcome = machine.run(Console(output=writer), timeout)
        try:
            return outcome, os.read(reader, 65536)
        except BlockingIOError:
            return outcome, b""
    finally:
        os.close(reader)
        os.close(writer)


def test_hello() -> None:
    assert run("hello") == (Outcome(Over.ENDED, Cause.RESET), b"hello\n")


@pytest.mark.parametrize("memory", [1 * MIB + 0x100000, 3 << 30, 6 << 30])
def test_memory_sizes_around_the_hole(memory: int) -> None:
    assert run("hello", memory=memory)[1] == b"hello\n"


def test_unclaimed_ports_and_addresses_read_as_all_ones() -> None:
    outcome, sent = run("unclaimed")
    assert outcome.cause is Cause.RESET
    assert sent == b"\xff" * 8


def test_a_triple_fault_is_not_a_clean_end() -> None:
    outcome, _ = run("triple_fault")
    assert outcome.cause is Cause.TRIPLE_FAULT
    assert not outcome.cause.clean


def test_input_reaches_the_guest() -> None:
    with Machine(config("echo")) as machine:
        machine.start()
        for character in b"corral":
            machine.serial.offer(bytes([character]))
        machine.serial.offer(b"q")
        got = b""
        deadline = time.monotonic() + 10
        while not got.endswith(b"q") and time.monotonic() < deadline:
            got += machine.serial.drain()
        assert got == b">corralq"


def wait_for_output(machine: Machine) -> None:
    deadline = time.monotonic() + 10
    while not machine.serial.drain():
        assert time.monotonic() < deadline, "the guest sends nothing"


@pytest.mark.parametrize("name", ["spin", "halt", "chatter"])
@pytest.mark.parametrize("cpus", [1, 3])
def test_pause_resume_and_stop_from_any_state(name: str, cpus: int) -> None:
    """Interrupts off, asleep in the kernel, or in the exit loop all the time; waiting for INIT on the others."""
    with Machine(config(name, cpus=cpus)) as machine:
        machine.start()
        wait_for_output(machine)
        for _ in range(20):
            for thread in machine.threads:
                thread.pause()
                assert thread.state is State.PAUSED
            rip = machine.vcpus[0].get_regs().rip
            assert 0x100000 <= rip < 0x101000
            for thread in machine.threads:
                thread.resume()
        machine.threads[0].pause()
        machine.stop()
        assert {thread.state for thread in machine.threads} == {State.STOPPED}


def test_states_of_a_thread_that_never_ran_and_of_one_that_ended() -> None:
    with Machine(config("hello", cpus=2)) as machine:
        assert machine.threads[0].state is State.CREATED
        machine.run(Console(), timeout=10)
        for thread in machine.threads:
            thread.pause()
            thread.resume()
            thread.stop()
            assert thread.state is State.STOPPED
    with Machine(config("hello")) as machine:
        machine.stop()


def test_stop_from_many_threads_at_once() -> None:
    with Machine(config("spin", cpus=2)) as machine:
        machine.start()
        wait_for_output(machine)
        callers = [threading.Thread(target=machine.stop) for _ in range(8)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join(timeout=10)
            assert not caller.is_alive()


def test_the_time_given_ends_a_guest() -> None:
    outcome, sent = run("spin", timeout=0.2)
    assert outcome == Outcome(Over.TIMEOUT)
    assert sent == b"r"


def test_a_device_that_raises_stops_the_guest_and_its_error_comes_out() -> None:
    class Broken:
        def read(self, offset: int, size: int) -> int:
            raise ZeroDivisionError("a device model with a mistake")

        def write(self, offset: int, size: int, value: int) -> None:
            raise AssertionError("not written to")

    with Machine(config("unclaimed")) as machine:
        machine.ports.claim(0x5670, 0x5673, Broken())
        with pytest.raises(ZeroDivisionError):
            machine.run(Console(), timeout=10)
        assert machine.threads[0].state is State.FAILED


def test_hot_exits_are_finished_in_c() -> None:
    from corral.native import lib

    with Machine(config("hello")) as machine:
        machine.run(Console(), timeout=10)
        counters = machine.vcpus[0].native
        exits, finished = counters.exits[lib.KVM_EXIT_IO], counters.finished[lib.KVM_EXIT_IO]
        assert exits - finished == 1  # the reset; every byte of output stayed in C
        assert finished == len(b"hello\n")


def test_threads_have_names_that_ps_shows() -> None:
    with Machine(config("spin", cpus=2)) as machine:
        machine.start()
        deadline = time.monotonic() + 10
        names: set[str] = set()
        while not {"vcpu0", "vcpu1"} <= names:  # a thread's first deed is to take its name
            assert time.monotonic() < deadline, names
            names = {Path(f"/proc/self/task/{task}/comm").read_text().strip() for task in os.listdir("/proc/self/task")}


def test_the_timer_is_made_at_first_touch_and_keeps_what_was_written() -> None:
    with Machine(config("timer")) as machine:
        with pytest.raises(KvmError, match="KVM_GET_PIT2"):
            machine.vm.get_pit()
        machine.start()
        wait_for_output(machine)
        machine.stop()
        timer = machine.vm.get_pit()
        counter = timer.channels[0]
        assert (counter.mode, counter.rw_mode, counter.count) == (2, 3, 0x2E9C)
        assert timer.channels[2].gate == 1


@pytest.mark.parametrize("cpus", [1, 3])
def test_pause_of_a_thread_that_has_only_just_been_started(cpus: int) -> None:
    for _ in range(20):
        with Machine(config("spin", cpus=cpus)) as machine:
            machine.start()
            for thread in machine.threads:
                thread.pause()
            assert {thread.state for thread in machine.threads} == {State.PAUSED}


def test_vectors_x87_and_their_exceptions_in_a_kernel() -> None:
    cpu = Path("/proc/cpuinfo").read_text()
    if " avx2 " not in cpu:
        pytest.skip("no AVX2")
    outcome, sent = run("vector")
    assert outcome.cause is Cause.RESET, outcome
    root = round(2**0.5 * 1000000)
    invalid = 0 if "QEMU TCG" in cpu else 19  # QEMU's translator knows no #XM
    assert [int(line, 16) for line in sent.split()] == [sum(range(17)), root, crc32c(2), invalid, 32]


def crc32c(value: int) -> int:
    """The register that CRC32 makes of 32 bits, from all ones."""
    register = 0xFFFFFFFF ^ value
    for _ in range(32):
        register = register >> 1 ^ (0x82F63B78 if register & 1 else 0)
    return register


def test_the_end_is_told_before_stop_returns(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a machine tells the end with is closed after stop(): a late word would go to whoever has the descriptor."""
    told = []

    def slowly(machine: Machine, thread: VcpuThread) -> None:
        time.sleep(0.1)
        told.append(thread.index)

    monkeypatch.setattr(Machine, "_vcpu_ended", slowly)
    with Machine(config("reset")) as machine:
        machine.start()
        while not machine.threads[0].end:
            time.sleep(0.001)
        machine.stop()
        assert told == [0]
