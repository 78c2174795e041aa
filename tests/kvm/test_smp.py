"""Many processors: started by the guest, paused, resumed and stopped from outside, more of them than the host has."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from corral.arch.x86_64 import layout
from corral.backends.console import Console
from corral.config import MOST_CPUS, MachineConfig
from corral.core import vcpu_thread
from corral.core.exits import Cause, Outcome, Over
from corral.core.vcpu_thread import State
from corral.errors import HostError
from corral.machine import Machine
from tests.support.tiny_guests import tiny_guest

MIB = 1 << 20
# Of guests/asm/smp.S.
COUNTERS, IDS = 0x10100, 0x10400
LONG = 300.0  # seconds: nothing takes so long unless it hangs


def config(name: str, cpus: int, acpi: bool = False, **defines: int) -> MachineConfig:
    return MachineConfig(kernel=str(tiny_guest(name, **defines)), memory=16 * MIB, cpus=cpus, acpi=acpi)


def counters(machine: Machine) -> tuple[int, ...]:
    cpus = machine.config.cpus
    return struct.unpack(f"<{cpus}I", machine.memory.read(COUNTERS, 4 * cpus))


def wait_until_all_count(machine: Machine) -> None:
    before, deadline = counters(machine), time.monotonic() + LONG
    while any(now == then for now, then in zip(counters(machine), before, strict=True)):
        assert time.monotonic() < deadline, [
            index for index, now in enumerate(counters(machine)) if now == before[index]
        ]
        time.sleep(0.01)


@pytest.fixture(params=[2, 5, MOST_CPUS])
def running(request: pytest.FixtureRequest) -> Iterator[Machine]:
    """A guest all of whose processors are up."""
    with Machine(config("smp", request.param, CPUS=request.param)) as machine:
        machine.start()
        deadline = time.monotonic() + LONG
        while not machine.serial.drain():
            assert time.monotonic() < deadline, "not all processors came up"
            time.sleep(0.01)
        yield machine


def test_each_processor_has_its_own_id(running: Machine) -> None:
    cpus = running.config.cpus
    ids = list(struct.iter_unpack("<II", running.memory.read(IDS + 8, 8 * (cpus - 1))))
    assert sorted(ids) == [(index, index) for index in range(1, cpus)]


def test_pause_resume_and_stop_of_all(running: Machine) -> None:
    wait_until_all_count(running)
    for _ in range(3):
        running.pause()
        assert {thread.state for thread in running.threads} == {State.PAUSED}
        before = counters(running)
        time.sleep(0.02)
        assert counters(running) == before, "a processor ran while it was paused"
        running.resume()
        wait_until_all_count(running)
    running.pause()
    running.stop()
    assert {thread.state for thread in running.threads} == {State.STOPPED}


def test_threads_have_names(running: Machine) -> None:
    names = {Path(f"/proc/self/task/{task}/comm").read_text().strip() for task in os.listdir("/proc/self/task")}
    assert {f"vcpu{index}" for index in range(running.config.cpus)} <= names


@pytest.mark.parametrize("name", ["spin", "halt"])
def test_processors_that_nobody_starts(name: str) -> None:
    """They wait for a SIPI in the kernel's KVM_RUN."""
    with Machine(config(name, MOST_CPUS)) as machine:
        machine.start()
        for _ in range(3):
            machine.pause()
            assert {thread.state for thread in machine.threads} == {State.PAUSED}
            machine.resume()
        machine.stop()
        assert {thread.state for thread in machine.threads} == {State.STOPPED}


def test_a_guest_that_ends_ends_all_its_processors() -> None:
    with Machine(config("reset", MOST_CPUS)) as machine:
        assert machine.run(Console(), LONG) == Outcome(Over.ENDED, Cause.RESET)
        assert {thread.state for thread in machine.threads} == {State.STOPPED}


def test_a_host_that_has_no_thread_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """The processors that have one are stopped; nobody waits for the others."""
    start_new_thread, started = vcpu_thread.start_new_thread, []

    def third_fails(*call: object) -> None:
        if len(started) == 2:
            raise RuntimeError("can't start new thread")
        started.append(call)
        start_new_thread(*call)  # type: ignore[arg-type]

    monkeypatch.setattr(vcpu_thread, "start_new_thread", third_fails)
    with Machine(config("spin", 4)) as machine:
        with pytest.raises(HostError, match="no thread for vCPU 2"):
            machine.run(Console(), LONG)
        assert [thread.state for thread in machine.threads] == [State.STOPPED] * 2 + [State.CREATED] * 2


def test_power_off_by_acpi() -> None:
    guest = config("power_off", 2, acpi=True, PORT=layout.ACPI_POWER_PORTS[0])
    with Machine(guest) as machine:
        assert machine.run(Console(), LONG) == Outcome(Over.ENDED, Cause.POWER_OFF)


def test_without_acpi_nothing_is_at_its_ports() -> None:
    guest = config("power_off", 1, PORT=layout.ACPI_POWER_PORTS[0])
    with Machine(guest) as machine:
        assert machine.run(Console(), LONG) == Outcome(Over.ENDED, Cause.RESET)
