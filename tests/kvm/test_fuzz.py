"""corral fuzz on this host's KVM: planted bugs in a kernel and in a program, jobs, AFL++."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from corral.cli import main
from corral.config import MachineConfig
from corral.errors import GuestError, GuestTimeout
from corral.fuzz import program
from corral.fuzz.findings import CRASH, END, TIMEOUT, is_one
from corral.fuzz.target import Execution, Target
from tests.support import fuzz_targets
from tests.support.tiny_guests import tiny_guest

LONG = 120.0  # seconds: nothing takes so long unless it hangs
HANGS = 0.5
RECORD = b"REC\1s\4abcd"
OVERFLOW = b"REC\1n\x20" + b"A" * 32


@pytest.fixture
def kernel() -> Iterator[Target]:
    with Target(MachineConfig(kernel=str(tiny_guest("fuzzed")), memory=4 << 20), HANGS, fresh=1) as target:
        yield target


@pytest.fixture(params=sorted(fuzz_targets.COVERED))
def parser(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Target]:
    config, symbols = program.config(str(fuzz_targets.program(compiler=request.param)), str(tmp_path))
    with Target(config, HANGS, 1000, symbols) as target:
        yield target


def counts(execution: Execution) -> list[int]:
    return list(execution.coverage)


def test_a_kernel_counts_its_edges_from_the_checkpoint_on(kernel: Target) -> None:
    assert kernel.edges == 8
    for _ in range(3):
        assert counts(kernel.run(b"abc")) == [1, 0, 0, 0, 0, 0, 0, 0]
        assert counts(kernel.run(b"BUx")) == [1, 0, 0, 1, 1, 0, 0, 0]


def test_a_kernel_that_dies_or_hangs_is_found_and_goes_on_with_the_next_input(kernel: Target) -> None:
    died = kernel.run(b"BUG")
    assert died.finding
    assert died.finding.kind == END
    assert "triple fault" in died.finding.what
    assert "triple fault" in died.finding.report
    hung = kernel.run(b"LO")
    assert hung.finding
    assert hung.finding.kind == TIMEOUT
    assert kernel.run(b"L").finding is None
    assert kernel.run(b"BUG").finding


def test_inputs_follow_each_other_without_a_way_back_between() -> None:
    with Target(MachineConfig(kernel=str(tiny_guest("fuzzed")), memory=4 << 20), HANGS, fresh=100) as target:
        given = [b"B%d" % number for number in range(250)] + [b"BUG", b"L"]
        done: list[Execution] = []

        def step(execution: Execution | None) -> bytes | None:
            if execution:
                done.append(execution)
            return given[len(done)] if len(done) < len(given) else None

        target.drive(step)
    assert [one.data for one in done] == given
    assert [bool(one.finding) for one in done] == [False] * 250 + [True, False]


def test_a_session_finds_the_bug_of_a_kernel_and_replays_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "near").write_bytes(b"BUx")
    target = str(tiny_guest("fuzzed"))
    words = ["fuzz", target, "--memory", "4M", "--time", str(LONG), "--executions", "5000", "--seed", "3"]
    assert main(words) == 1
    out = capsys.readouterr().out
    assert "triple fault" in out
    name = next(line.partition(":")[0] for line in out.splitlines() if "triple fault" in line)
    assert (tmp_path / "crashes" / name).read_bytes().startswith(b"BUG")
    assert main(["fuzz", target, "--memory", "4M", "--replay", f"crashes/{name}"]) == 1
    assert "triple fault" in capsys.readouterr().out
    (tmp_path / "good").write_bytes(b"good")
    assert main(["fuzz", target, "--memory", "4M", "--replay", "good"]) == 0


def test_a_signal_of_a_program_is_a_finding_with_its_stack(parser: Target) -> None:
    good = parser.run(RECORD)
    assert good.finding is None
    assert sum(map(bool, good.coverage)) > 3
    crashed = parser.run(OVERFLOW)
    assert crashed.finding
    assert (crashed.finding.kind, crashed.finding.what.partition(" ")[0]) == (CRASH, "SIGSEGV")
    assert crashed.finding.stack[0].partition("+")[0] in ("parse", "add_name")
    assert parser.run(RECORD).coverage == good.coverage


def test_a_finding_after_other_inputs_is_tried_alone(parser: Target) -> None:
    given = [RECORD] * 5 + [OVERFLOW, RECORD]
    done: list[Execution] = []

    def step(execution: Execution | None) -> bytes | None:
        if execution:
            done.append(execution)
        return given[len(done)] if len(done) < len(given) else None

    parser.drive(step)
    assert [bool(one.finding) for one in done] == [False] * 5 + [True, False]
    assert done[5].finding
    assert "before" not in done[5].finding.what


def test_a_session_finds_the_bug_of_a_program(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "seeds").mkdir()
    (tmp_path / "seeds" / "one").write_bytes(RECORD + b"n\x0f" + b"a" * 200)
    corpus, crashes = f"--corpus={tmp_path}/seeds", f"--crashes={tmp_path}/found"
    words = ["fuzz", str(fuzz_targets.program()), corpus, crashes, "--executions", "4000", "--time", str(LONG)]
    assert main(words) == 1
    assert "SIGSEGV at " in capsys.readouterr().out
    assert len(list((tmp_path / "seeds").iterdir())) > 1


def test_jobs_share_corpus_and_findings(tmp_path: Path) -> None:
    (tmp_path / "seeds").mkdir()
    (tmp_path / "seeds" / "near").write_bytes(b"BUx")
    words = [
        "fuzz",
        str(tiny_guest("fuzzed")),
        "--memory",
        "4M",
        "--executions",
        "2500",
        "--jobs",
        "2",
        "--timeout-ms",
        "100",
    ]
    words += [f"--corpus={tmp_path}/seeds", f"--crashes={tmp_path}/found", "--time", str(LONG)]
    result = subprocess.run([sys.executable, "-m", "corral", *words], capture_output=True, text=True, timeout=LONG)
    assert result.returncode == 1, result.stderr
    assert result.stderr.count("2500 executions") == 2
    names = [path.name for path in (tmp_path / "found").iterdir() if is_one(path.name)]
    assert [name for name in names if name.startswith(END)]


def test_a_signal_ends_all_jobs(tmp_path: Path) -> None:
    words = ["fuzz", str(tiny_guest("fuzzed")), "--memory", "4M", "--jobs", "2", f"--corpus={tmp_path}/c"]
    command = [sys.executable, "-m", "corral", *words, f"--crashes={tmp_path}/f"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True) as process:
        until = time.monotonic() + LONG
        while not list(tmp_path.glob("c/*")) and time.monotonic() < until:  # a guest is at work
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(LONG) == 128 + signal.SIGTERM
        assert not [left for left in _session(process.pid) if left != process.pid]


def _session(number: int) -> list[int]:
    """Processes of a session."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            fields = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == number and fields[0] != "Z":
            found.append(int(name))
    return found


def test_afl_fuzz_sees_edges_and_crashes(tmp_path: Path) -> None:
    (tmp_path / "seeds").mkdir()
    for data in (b"BUx", b"BUG", b"Lx"):
        (tmp_path / "seeds" / data.decode()).write_bytes(data)
    words = ["fuzz", str(tiny_guest("fuzzed")), "--memory", "4M", "--engine", "afl", "--time", "2"]
    words += [f"--corpus={tmp_path}/seeds", f"--crashes={tmp_path}/found"]
    command = [sys.executable, "-m", "corral", *words]
    result = subprocess.run(command, capture_output=True, text=True, timeout=LONG)
    assert result.returncode == 1, result.stdout + result.stderr
    assert "results in a crash" in result.stdout  # of the seed that is one
    assert [path for path in (tmp_path / "found").iterdir() if path.name.startswith(END)]
    stats = (tmp_path / "found" / "afl" / "default" / "fuzzer_stats").read_text()
    found = re.search(r"edges_found *: (\d+)", stats)
    assert found
    assert int(found[1]) >= 4


def test_a_guest_that_asks_for_nothing_is_told() -> None:
    with pytest.raises(GuestTimeout, match=r"did not ask for input within 0\.2 s"):
        Target(MachineConfig(kernel=str(tiny_guest("spin")), memory=4 << 20), HANGS, boot=0.2)
    with pytest.raises(GuestError, match="ended before it asked for input"):
        Target(MachineConfig(kernel=str(tiny_guest("reset")), memory=4 << 20), HANGS)


def test_a_program_with_libraries_is_refused_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    dynamic = fuzz_targets.program(options=())
    assert main(["fuzz", str(dynamic)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "link it with -static" in error
