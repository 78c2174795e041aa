"""What is counted of a guest, against what it is known to do, on this host's KVM."""

from __future__ import annotations

import contextlib
import csv
import json
import struct
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral import Machine, MachineConfig
from corral.arch.x86_64 import layout
from corral.cli import main
from corral.errors import HostError
from corral.kvm.stats import parse
from corral.observe.perf_counters import PerfCounters
from corral.observe.tally import Tally, TallyRow, table
from tests.support.tiny_guests import tiny_guest

POST = layout.POST_PORTS[0]
LONG = 300.0  # seconds: nothing takes so long unless it hangs


def guest(**defines: int) -> str:
    return str(tiny_guest("port_writes", PORT=POST, **defines))


def test_exits_are_counted_by_corral_and_by_kvm() -> None:
    with Machine(MachineConfig(kernel=guest(COUNT=500), memory=16 << 20)) as vm, Tally(vm) as tally:
        vm.wait(LONG)
        rows = {(row.group, row.name): row for row in tally.rows()}
    assert rows["exits", "IO, finished in C"].total >= 500
    assert rows["KVM, vCPUs", "exits"].total >= rows["exits", "IO"].total
    assert rows["exits", "IO"].per_vcpu == (rows["exits", "IO"].total,)
    assert not tally.missing


def test_a_threads_time_on_a_cpu() -> None:
    done = threading.Event()
    started = threading.Event()

    def work() -> None:
        started.set()
        done.wait(LONG)
        end = time.thread_time() + 0.2
        while time.thread_time() < end:
            pass

    thread = threading.Thread(target=work)
    thread.start()
    started.wait(LONG)
    assert thread.native_id is not None
    counters = PerfCounters(thread.native_id)
    done.set()
    thread.join()
    read = counters.read()
    counters.close()
    for name, why in counters.missing.items():
        assert why, name
    if "time on a CPU" not in counters.missing:
        assert 0.15e9 < read["time on a CPU"] < 10e9


def test_the_command(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    files = tmp_path / "stat.json", tmp_path / "stat.csv"
    words = [
        "--json",
        str(files[0]),
        "--csv",
        str(files[1]),
        "-i",
        "0.001",
        "--",
        "boot",
        "--cpus",
        "2",
        guest(COUNT=90),
    ]
    assert main(["stat", *words]) == 0
    told = capfd.readouterr().err
    assert "vCPU 1" in told
    assert "exits:\n" in told
    rows = json.loads(files[0].read_text())["rows"]
    assert next(row for row in rows if row["name"] == "IO, finished in C")["total"] >= 90
    with files[1].open(newline="") as file:
        assert len(list(csv.DictReader(file))) == len(rows)
    assert main(["stat", "--", "trace"]) == 2
    assert main(["stat", "--json", "/nowhere/x", "--", "boot", guest(COUNT=1)]) == 2


def test_of_a_script_machine() -> None:
    with Machine(MachineConfig(kernel=guest(COUNT=20), memory=16 << 20)) as vm:
        assert vm.stats() is not None
        vm.wait(LONG)
        assert any(row.name == "IO" and row.total >= 20 for row in vm.stats())


def test_a_table() -> None:
    rows = [TallyRow("g", "grows", "bytes", 300, (100, 200)), TallyRow("g", "is", "", 7, (3, 4), adds=False)]
    lines = table(rows, [TallyRow("g", "grows", "bytes", 100)], 2.0).splitlines()
    assert lines[0].split() == ["total", "a", "second", "vCPU", "0", "vCPU", "1"]
    assert lines[2].split() == ["grows,", "bytes", "300", "100", "100", "200"]
    assert lines[3].split() == ["is", "7", "3", "4"]


# KVM's statistics, invented.


def blob(name: bytes = b"some", flags: int = 0x111, size: int = 2, values: bytes = struct.pack("<QQ", 5, 6)) -> bytes:
    header = struct.pack("<IIIIII", 0, 48, 1, 24, 72, 72 + 16 + 48)
    descriptor = struct.pack("<IhHII", flags, -9, size, 0, 4) + name.ljust(48, b"\0")
    return header + b"id".ljust(48, b"\0") + descriptor + values


def reader(data: bytes) -> object:
    return lambda offset, length: data[offset : offset + length]


def test_statistics_of_kvm() -> None:
    (one,) = parse(reader(blob()))  # type: ignore[arg-type]
    assert (one.name, one.kind, one.unit, one.base, one.exponent, one.bucket) == ("some", "instant", "bytes", 2, -9, 4)
    assert (one.values, one.value) == ((5, 6), 11)


@given(st.data())
def test_statistics_that_make_no_sense(data: st.DataObject) -> None:
    raw = bytearray(blob())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(raw) - 4))
        raw[at : at + 4] = data.draw(st.binary(min_size=4, max_size=4))
    cut = bytes(raw[: data.draw(st.integers(0, len(raw)))])
    with contextlib.suppress(HostError):  # that it is none that Corral knows
        assert isinstance(parse(reader(cut)), list)  # type: ignore[arg-type]
