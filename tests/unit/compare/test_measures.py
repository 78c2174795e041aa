"""Measures over the quickest contender, and what a workload may do."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from corral.compare import programs, suite
from corral.compare.contenders import Kit, Unsuitable
from corral.compare.contenders.base import Failed
from corral.compare.contenders.native import Native
from corral.compare.measures import held, start
from corral.compare.measures.base import Cpus
from corral.compare.measures.placed import PlacedMeasure, one_of_each_core
from corral.compare.measures.rate import Rate
from corral.compare.measures.workload import Workload
from corral.errors import ConfigError, HostError
from corral.numa import host


@pytest.fixture
def native(tmp_path: Path) -> Native:
    return Native(Kit(tmp_path, 0))


@pytest.fixture
def place(tmp_path: Path) -> Cpus:
    cpus = tuple(sorted(os.sched_getaffinity(0)))
    return Cpus(cpus[-1:], cpus, tmp_path)


def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    path = tmp_path / "program"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setattr(programs, "binary", lambda name: path)


def test_a_workload_tells_its_metrics(
    native: Native, place: Cpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path, monkeypatch, "echo integer 12.5 Mop/s; echo some words; echo hash 3 ns")
    assert Workload("integer").take(native, place) == {"integer": (12.5, "Mop/s"), "hash": (3.0, "ns")}


def test_a_workload_gets_a_disk(native: Native, place: Cpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, monkeypatch, 'echo size $(stat -c %s "$1") B')
    assert Workload("disk", ("{scratch}",), 4).take(native, place) == {"size": (4 << 20, "B")}


@pytest.mark.parametrize(
    ("script", "error", "message"),
    [
        ("echo residual is 7 >&2; exit 1", Failed, "status 1: residual is 7"),
        ("echo one node only; echo '[    5.1] reboot: Restarting system'; exit 77", Unsuitable, "^one node only"),
        ("echo nothing of interest", Failed, "no result"),
    ],
)
def test_a_workload_that_does_not_end_well(
    script: str,
    error: type[Exception],
    message: str,
    native: Native,
    place: Cpus,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    program(tmp_path, monkeypatch, script)
    with pytest.raises(error, match=message):
        Workload("some").take(native, place)


@pytest.mark.parametrize("cold", [False, True])
def test_a_start(cold: bool, native: Native, place: Cpus) -> None:
    found = start.Start(cold).take(native, place)
    assert 0 < found["first-line"][0] <= found["whole-life"][0] < 5000


def test_a_rate_counts_all_lives(native: Native, place: Cpus) -> None:
    found = Rate(3).take(native, place)
    assert found["rate"][0] > 1
    assert 0 < found["life-p50"][0] <= found["life-p99"][0]


def test_an_instance_without_its_line_spoils_a_rate(
    native: Native, place: Cpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path, monkeypatch, "exit 0")
    with pytest.raises(Failed, match="without its line"):
        Rate(2).take(native, place)


def test_memory_and_disk_of_some(native: Native, place: Cpus) -> None:
    one = held.Memory(1).take(native, place)
    many = held.Memory(4).take(native, place)
    assert one["each"][0] > 0.05
    assert many["all"][0] > one["each"][0]
    assert many["each"][0] < one["each"][0], "the program's pages are shared"
    assert held.DiskHeld(2).take(native, place) == {"all": (8.0, "MiB"), "each": (4.0, "MiB")}


def test_an_unnamed_file_counts_as_disk(tmp_path: Path) -> None:
    with open(tmp_path / "layer", "wb") as layer:
        os.unlink(tmp_path / "layer")
        before = held.unnamed(os.getpid())
        layer.write(os.urandom(1 << 20))
        layer.flush()
        os.fsync(layer.fileno())
        assert held.unnamed(os.getpid()) - before >= 1 << 20


def test_what_a_run_does() -> None:
    def names(*words: str, short: bool = False, memory: int = 1) -> list[str]:
        return [measure.name for measure in suite.choose(list(words), short, memory)]

    assert {"start", "start-cold", "rate-1", "rate-10", "rate-50", "rate-100", "memory-1", "disk-10"} <= {*names()}
    assert "rate-100" not in names(memory=1 << 50), "not where memory does not allow it"
    assert names(short=True) == ["start", "rate-2", "memory-1"]
    assert names("rate-10", "start") == ["start", "rate-10"]
    with pytest.raises(ConfigError, match="'lunch'"):
        names("lunch")


def test_programs_that_cannot_be_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(programs, "folder", lambda: tmp_path)
    (tmp_path / "broken.c").write_text("int main(void) { return nonsense; }\n")
    with pytest.raises(HostError, match=r"cannot build the workload broken: .*nonsense"):
        programs.binary("broken")
    with pytest.raises(ConfigError, match="no workload 'other'; there are broken"):
        programs.binary("other")


def test_all_cores_at_once(native: Native, place: Cpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, monkeypatch, "echo stream $(grep -c . /proc/self/status) MB/s; echo linpack $(nproc) GFLOP/s")
    found = PlacedMeasure("flat").take(native, place)
    assert found["linpack"] == (float(len(one_of_each_core(place.all))), "GFLOP/s")


def test_a_thread_for_each_core(monkeypatch: pytest.MonkeyPatch) -> None:
    cpus = tuple(host.Cpu(number, 0, 0, 0, number % 4) for number in range(8))
    machine = host.HostTopology(cpus, (), {}, frozenset(range(1, 8)), frozenset({0}))
    monkeypatch.setattr(host, "read", lambda: machine)
    assert one_of_each_core(tuple(range(8))) == (1, 2, 3, 4)
    assert one_of_each_core((5, 6, 1)) == (1, 6)
    many = host.HostTopology(
        tuple(host.Cpu(number, 0, 0, 0, number) for number in range(130)), (), {}, frozenset(range(130)), frozenset({0})
    )
    monkeypatch.setattr(host, "read", lambda: many)
    assert one_of_each_core(tuple(range(130))) == tuple(range(0, 130, 3))


def test_placement_is_measured_where_there_are_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    def names() -> set[str]:
        return {measure.name for measure in suite.choose([], False, 128 << 20)}

    monkeypatch.setattr(suite, "nodes", lambda: 1)
    alone = names()
    monkeypatch.setattr(suite, "nodes", lambda: 2)
    assert names() - alone == {"numa-flat", "numa-pinned", "numa-nodes", "numa-placed"}
    assert [measure.name for measure in suite.choose(["numa-flat"], False, 0)] == ["numa-flat"]


def test_a_name_stands_for_all_that_begin_with_it() -> None:
    def names(*only: str) -> list[str]:
        return [measure.name for measure in suite.choose(list(only), False, 0)]

    assert names("numa") == ["numa-flat", "numa-pinned", "numa-nodes", "numa-placed"]
    assert names("start", "fio") == ["start", "fio-randread", "fio-write"], "what has the name itself is meant alone"
    with pytest.raises(ConfigError, match="by the name 'num'"):
        names("num")
