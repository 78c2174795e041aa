"""A plan on this machine's KVM: threads where it has them, a claim while the machine lives, and what became of it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from corral.config import MachineConfig
from corral.errors import ConfigError
from corral.machine import Machine
from corral.numa import host
from corral.numa.claims import Claims
from corral.numa.placement import place
from corral.numa.request import Request
from corral.observe import live
from tests.support.tiny_guests import tiny_guest

MEMORY = 32 << 20


def spinning() -> str:
    return str(tiny_guest("spin"))


def config(**fields: object) -> MachineConfig:
    plan = place(host.read(), Request(1, MEMORY, **fields))  # type: ignore[arg-type]
    return MachineConfig(kernel=spinning(), memory=MEMORY, plan=plan)


def test_a_pinned_vcpu_and_what_became_of_it() -> None:
    cpu = max(os.sched_getaffinity(0))
    with Machine(config(pin_cpus=(cpu,), prealloc=True)) as machine:
        machine.start()
        deadline = time.monotonic() + 10
        while not (facts := live.vcpus(machine)) or not facts[0].ran:
            assert time.monotonic() < deadline
        assert facts[0].cpus == (cpu,)
        assert facts[0].last == cpu
        assert sum(live.residency(machine)[0].values()) == MEMORY
        mine = next(found for found in live.running() if found.pid == os.getpid())
        assert [vcpu.vcpu for vcpu in mine.vcpus] == [0]
        assert sum((mine.memory or {}).values()) > MEMORY
    while any(found.pid == os.getpid() for found in live.running()):  # a thread ends a moment after its vCPU
        assert time.monotonic() < deadline


def test_the_callers_affinity_is_put_back() -> None:
    before = os.sched_getaffinity(0)
    with Machine(config()) as machine:
        machine.run(timeout=0.1)
        assert os.sched_getaffinity(0) == before


def test_a_plan_for_another_machine() -> None:
    plan = place(host.read(), Request(2, MEMORY))
    with pytest.raises(ConfigError, match="the plan has 2 vCPUs, and the machine 1"):
        MachineConfig(kernel="", memory=MEMORY, plan=plan)
    with pytest.raises(ConfigError, match="the plan has 32 MiB of memory, and the machine 64 MiB"):
        MachineConfig(kernel="", cpus=2, memory=2 * MEMORY, plan=plan)


def test_claims_keep_machines_apart() -> None:
    found = host.read()
    cpus = sorted(found.allowed_cpus)
    if len(cpus) < 2:
        pytest.skip("one CPU, for which there is no other")
    with Claims() as first, Claims() as second, Claims() as third:
        one, two = first.place(found, Request(1, MEMORY)), second.place(found, Request(1, MEMORY))
        assert one.pinned != two.pinned
        load = third.load(cpus)
        assert load[one.pinned[0]] == load[two.pinned[0]] == 1
        again = third.place(found, Request(1, MEMORY, pin_map=((0, one.pinned),)))
        assert again.pinned == one.pinned, "who asks for a CPU by name gets it"
        with Claims() as fourth:
            assert fourth.load(one.pinned) == {one.pinned[0]: 2}
    with Claims() as last:
        assert last.load(cpus) == {}


def test_a_claim_ends_with_its_process(tmp_path: Path) -> None:
    code = f"""
from corral.numa import claims, host
from corral.numa.request import Request
c = claims.Claims()
print(c.place(host.read(), Request(1, {MEMORY})).pinned[0], flush=True)
input()
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    cpu = int(process.stdout.readline())
    with Claims() as claims:
        assert claims.load([cpu]) == {cpu: 1}
        process.kill()
        process.communicate()
        assert claims.load([cpu]) == {}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--numa", "maybe"], "is none of auto"),
        (["--cpus", "2", "--numa", "0-1@77"], "this host has no node 77"),
        (["--pin", "4000"], "CPU 4000 is not there or offline"),
        (["--cpus", "sockets=0"], "must be 1 or more"),
        (["--hugepages", "3M"], "none of 2M, 1G, thp"),
    ],
)
def test_bad_words_are_one_line(words: list[str], message: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "corral", "boot", *words], capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert message in done.stderr


def test_topology_is_drawn() -> None:
    done = subprocess.run([sys.executable, "-m", "corral", "topology"], capture_output=True, text=True, check=True)
    assert "NUMA nodes: " in done.stdout
    for cpu in os.sched_getaffinity(0):
        assert f"CPU {cpu}" in done.stdout
