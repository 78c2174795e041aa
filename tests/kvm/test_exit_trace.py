"""The exit trace over tiny guests whose exits are known, on this host's KVM."""

from __future__ import annotations

import csv
import itertools
import json
import struct
from pathlib import Path

import pytest

from corral.arch.x86_64 import layout
from corral.backends.console import Console
from corral.cli import main
from corral.config import MachineConfig
from corral.core.exits import Cause
from corral.errors import ConfigError
from corral.machine import Machine
from corral.observe.exit_trace import DTYPE, ExitTrace, TracedExit
from corral.symbols.table import read
from tests.support.tiny_guests import tiny_guest

POST = layout.POST_PORTS[0]
PYTHON_PORT = 0x5679


class Echo:
    def read(self, offset: int, size: int) -> int:
        return 0x5A

    def write(self, offset: int, size: int, value: int) -> None:
        pass


def machine(name: str = "port_writes", **defines: int) -> Machine:
    machine = Machine(MachineConfig(kernel=str(tiny_guest(name, **defines)), memory=16 << 20))
    machine.ports.claim(PYTHON_PORT, PYTHON_PORT, Echo())
    return machine


def traced(vm: Machine, **options: object) -> tuple[list[TracedExit], int]:
    with ExitTrace(vm, **options) as trace:  # type: ignore[arg-type]
        assert vm.run(Console(), timeout=20).cause is Cause.RESET
        trace.flush()
        return list(trace), trace.lost


@pytest.mark.parametrize(("port", "by"), [(POST, "C"), (PYTHON_PORT, "Python")])
def test_each_port_write_is_there_with_who_finished_it(port: int, by: str) -> None:
    with machine(COUNT=50, PORT=port) as vm:
        exits, lost = traced(vm, with_cpl=True)
    writes = [exit for exit in exits if exit.address == port]
    assert lost == 0
    assert [(e.reason, e.by, e.value, e.size, e.count, e.write) for e in writes] == [
        ("IO", by, ord("x"), 1, 1, True)
    ] * 50
    assert {e.cpl for e in writes} == {0}
    assert all(before.time < after.time for before, after in itertools.pairwise(writes))
    assert all(e.host_ns and e.guest_ns for e in writes)
    # The reset, which no entry follows, is the last.
    assert exits[-1].address in range(0x60, 0x65)
    assert exits[-1].host_ns == 0


def test_only_what_was_asked_for_is_recorded() -> None:
    with machine(COUNT=20, PORT=POST) as vm:
        exits, _ = traced(vm, reasons=["MMIO"])
    assert exits == []


def test_what_finds_a_full_ring_is_counted() -> None:
    with machine(COUNT=100, PORT=POST) as vm:
        exits, lost = traced(vm, size=16)
    assert len(exits) == 16
    assert [e.address for e in exits] == [POST] * 16
    assert lost == 100 + 1 - 16


def test_records_as_they_are_in_memory() -> None:
    sizes = {"<u8": 8, "<u4": 4, "u1": 1, "V7": 7}
    with machine(COUNT=5, PORT=POST) as vm, ExitTrace(vm) as trace:
        vm.run(Console(), timeout=20)
        raw = trace.take(0)
        assert trace.take(0) == b""
    size = sum(sizes[kind] for _, kind in DTYPE)
    assert len(raw) == 5 * size
    assert struct.unpack_from("<8xQQ", raw, 4 * size) == (POST, ord("x"))


def test_a_trace_can_be_put_on_a_running_machine_and_taken_away(tmp_path: Path) -> None:
    with machine("chatter") as vm:
        vm.start()
        thread = vm.threads[0]
        for _ in range(3):
            thread.pause()
            with ExitTrace(vm) as trace:
                thread.resume()
                while not list(trace):
                    pass
            assert vm.vcpus[0].run_page.kvm_valid_regs == 0
        vm.stop()


def test_rings_and_reasons_that_cannot_be() -> None:
    with machine(COUNT=1, PORT=POST) as vm:
        with pytest.raises(ConfigError, match="NONSENSE"):
            ExitTrace(vm, reasons=["NONSENSE"])
        with pytest.raises(ConfigError, match="power of two"):
            ExitTrace(vm, size=100)
        assert traced(vm)[0]


def guest() -> str:
    return str(tiny_guest("port_writes", COUNT=30, PORT=POST))


def test_the_command_writes_csv_and_sums_it_up(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "trace.csv"
    assert main(["trace", "--out", str(path), "--", "boot", guest()]) == 0
    with path.open() as file:
        rows = [row for row in csv.DictReader(file) if row["address"] == str(POST)]
    assert len(rows) == 30
    assert (rows[0]["by"], rows[0]["value"], rows[0]["write"], rows[0]["cpl"]) == ("C", str(ord("x")), "True", "")
    capfd.readouterr()
    assert main(["trace", "summary", str(path)]) == 0
    told = capfd.readouterr().out
    assert told.startswith("31 exits; ")
    assert f"IO out {POST:#x} (C)" in told


def test_the_command_writes_json_that_perfetto_reads(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    assert main(["trace", "-e", "io", "--cpl", "--out", str(path), "--", "boot", guest()]) == 0
    events = json.loads(path.read_text())["traceEvents"]
    hosts = [event for event in events if event["name"] == f"IO out {POST:#x}"]
    assert len(hosts) == 30
    assert all(event["ph"] == "X" and event["dur"] >= 0 and event["args"]["cpl"] == 0 for event in hosts)
    assert sum(event["name"] == "guest" for event in events) == 31


def test_the_command_writes_parquet(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed; it is in the dev extra")
    path = tmp_path / "trace.parquet"
    assert main(["trace", "--out", str(path), "--", "boot", guest()]) == 0
    table = parquet.read_table(path).to_pylist()
    assert sum(row["address"] == POST for row in table) == 30


def test_the_command_prints_as_they_come(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["trace", "--", "boot", guest()]) == 0
    lines = capfd.readouterr().err.splitlines()
    assert sum(f"IO out {POST:#x} = 0x78 at _start+0x" in line for line in lines) == 30


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "wants what to boot"),
        (["--", "run"], "wants what to boot"),
        (["-e", "lunch", "--", "boot", "KERNEL"], "'LUNCH'"),
        (["--out", "trace.txt", "--", "boot", "KERNEL"], ".csv"),
        (["--out", "/nowhere/trace.csv", "--", "boot", "KERNEL"], "No such file"),
        (["--for", "soon", "--", "boot", "KERNEL"], "--for 'soon'"),
        (["--ring", "7", "--", "boot", "KERNEL"], "power of two"),
        (["--symbols", "/dev/null", "--", "boot", "KERNEL"], "no regular file"),
        (["summary"], "summary FILE"),
        (["summary", "/dev/null"], ""),
        (["summary", "/nowhere"], "No such file"),
        (["-x"], "no option -x"),
    ],
)
def test_traces_that_cannot_be(words: list[str], message: str, capfd: pytest.CaptureFixture[str]) -> None:
    status = main(["trace", *[guest() if word == "KERNEL" else word for word in words]])
    told = capfd.readouterr()
    if words == ["summary", "/dev/null"]:
        assert (status, told.out) == (0, "0 exits; 0.000 s in the guest, 0.000 s outside of it\n")
        return
    assert (status, told.err.count("\n")) == (2, 1)
    assert message in told.err


def test_symbols(tmp_path: Path) -> None:
    path = tmp_path / "System.map"
    path.write_text(
        "ffffffff81000000 T _text\nffffffff81000000 T startup_64\nffffffff81000100 t helper\n"
        "ffffffff81000200 D data\nffffffff81000300 T last\n"
    )
    symbols = read(str(path))
    assert symbols.text(0xFFFFFFFF81000000) == "startup_64"
    assert symbols.text(0xFFFFFFFF81000123) == "helper+0x23"
    assert symbols.text(0x01000004) == "startup_64+0x4"
    assert symbols.text(0x7F0000000000) == "0x7f0000000000"


def test_the_command_writes_flame_graphs(tmp_path: Path) -> None:
    path = tmp_path / "trace.folded"
    assert main(["trace", "--out", str(path), "--", "boot", str(tiny_guest("port_writes", COUNT=5, PORT=POST))]) == 0
    assert "_start;IO out 0x80 5\n" in path.read_text()
    assert main(["trace", "--out", str(tmp_path / "trace.svg"), "--", "boot", str(tiny_guest("reset"))]) == 0
    assert "<svg" in (tmp_path / "trace.svg").read_text()
