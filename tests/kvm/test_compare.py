"""`corral compare` as a person runs it, on this host's KVM: machinery and report, not the figures."""

from __future__ import annotations

import csv
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from corral.compare.experiment import PREFIX, WORK
from corral.kvm.system import Kind, host_kind

COMPARE = [sys.executable, "-m", "corral", "compare"]
LONG = 300.0  # seconds
OTHERS = "native,bubblewrap,runc,qemu-microvm"


def traces() -> set[str]:
    """Whatever a run could leave on this host: folders, mounts, control groups, processes."""
    folders = {str(path) for path in Path(WORK).glob(f"{PREFIX}*")}
    mounts = {line for line in Path("/proc/self/mounts").read_text().splitlines() if PREFIX in line}
    groups = {str(path) for path in Path("/sys/fs/cgroup").rglob(f"{PREFIX}*")}
    return folders | mounts | groups | running()


def running() -> set[str]:
    found = set()
    for path in Path("/proc").iterdir():
        try:
            words = (path / "cmdline").read_bytes().split(b"\0") if path.name.isdigit() else []
        except OSError:
            continue
        # What compare starts has its folder or one of its programs among its words.
        if any(PREFIX.encode() in word or re.search(rb"/hello(_[0-9a-f]+/hello)?$", word) for word in words):
            found.add(f"{path.name} {words}")
    return found


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    before = traces()
    yield
    assert traces() <= before


def test_a_short_run(tmp_path: Path) -> None:
    """Corral's own VMs take part on either KVM; who cannot has a reason."""
    done = subprocess.run(
        [
            *COMPARE,
            "--short",
            "--only",
            "start,ledger",
            "--contenders",
            f"{OTHERS},corral",
            "--out",
            str(tmp_path / "out"),
        ],
        capture_output=True,
        text=True,
        timeout=LONG,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    results = json.loads((tmp_path / "out" / "samples.json").read_text())
    values = {(one["contender"], one["metric"]): one["value"] for one in results["samples"]}
    absent = {one["contender"]: one["reason"] for one in results["absences"]}
    for name in [*OTHERS.split(","), "corral"]:
        assert (name, "first-line") in values or absent.get(name), f"{name} is silently missing"
    assert 0 < values["native", "first-line"] < values["corral", "first-line"] < values["corral", "whole-life"]
    assert "corral" not in absent
    if host_kind() is Kind.PAGETABLE and shutil.which("qemu-system-x86_64"):
        assert "on a pagetable KVM other VMMs boot no Linux" in absent["qemu-microvm"]
    if host_kind() is Kind.HARDWARE and shutil.which("qemu-system-x86_64"):
        assert "qemu-microvm" not in absent, absent
    _check_ledger(results["ledger"]["corral"])
    assert results["manifest"]["KVM"] == host_kind().value
    with (tmp_path / "out" / "samples.csv").open() as file:
        assert len(list(csv.DictReader(file))) == len(results["samples"])
    page = (tmp_path / "out" / "report.html").read_text()
    for word in ("VM (Corral)", *(f"container ({name})" for name in ("runc", "bubblewrap")), "first instruction"):
        assert word in page, word
        assert word in done.stdout, word


def _check_ledger(stages: list[dict[str, object]]) -> None:
    names = [stage["stage"] for stage in stages]
    wanted = ["interpreter", "imports, command line", "KVM: VM, interrupts, memory"]
    wanted += ["kernel and initramfs loaded", "memory given to KVM", "first instruction"]
    wanted += ["first byte of its console", "init", "first line of the command", "its end"]
    assert [name for name in names if name in wanted] == wanted
    assert all(float(str(stage["end"])) >= float(str(stage["begin"])) for stage in stages)
    assert len({str(stage["begin"]) for stage in stages}) > len(wanted)


def test_disks_memory_and_rates_of_processes(tmp_path: Path) -> None:
    """The measures that hold instances, with the quickest contenders; those of VMs are in the nested host."""
    words = ["--short", "--only", "memory-10,disk-2,rate-10", "--contenders", "native,bubblewrap,runc"]
    done = subprocess.run(
        [*COMPARE, *words, "--out", str(tmp_path)], capture_output=True, text=True, timeout=LONG, check=False
    )
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "samples.json").read_text())
    own = {
        one["contender"]: one["value"]
        for one in results["samples"]
        if (one["measure"], one["metric"]) == ("disk-2", "each")
    }
    assert own
    assert all(4 <= value < 4.5 for value in own.values()), own
    memory = [
        one["value"] for one in results["samples"] if (one["measure"], one["contender"]) == ("memory-10", "native")
    ]
    assert all(0.05 < value < 50 for value in memory)


@pytest.mark.parametrize(
    ("number", "contenders", "sign", "delay", "has_samples"),
    [
        (signal.SIGINT, "corral", "trying corral", 0, None),  # a quick host may have tried it by then
        (signal.SIGTERM, "native,bubblewrap,runc", "round 1 of 900: rate-10, runc", 0.05, True),
        (signal.SIGINT, "native,bubblewrap,runc", "round 1 of 900: memory-10, runc", 0.05, True),
    ],
)
def test_an_interruption_leaves_nothing_and_keeps_what_was_measured(
    number: signal.Signals, contenders: str, sign: str, delay: float, has_samples: bool | None, tmp_path: Path
) -> None:
    """Some seconds after the bar has said `sign`."""
    words = ["--short", "--runs", "900", "--only", "start,rate-10,memory-10", "--contenders", contenders]
    words += ["--out", str(tmp_path)]
    ours, theirs = pty.openpty()
    with subprocess.Popen([*COMPARE, *words], stdout=subprocess.PIPE, stderr=theirs, text=True) as process:
        os.close(theirs)
        shown = b""
        while sign.encode() not in shown and b"round 2 of" not in shown:  # nor if that one cannot run here
            shown += os.read(ours, 4096)
        time.sleep(delay)
        process.send_signal(number)
        reader = threading.Thread(target=drain, args=(ours,))
        reader.start()
        out, _ = process.communicate(timeout=LONG)
        reader.join()
    os.close(ours)
    assert process.returncode == 128 + number
    assert b"Traceback" not in shown
    written = (tmp_path / "report.html").exists()
    assert has_samples is None or written is has_samples
    if written:
        results = json.loads((tmp_path / "samples.json").read_text())
        assert results["interrupted"]
        told = {one["contender"] for one in (*results["samples"], *results["absences"])}
        assert told == set(contenders.split(","))
        assert "interrupted" in out


def drain(descriptor: int) -> None:
    try:
        while os.read(descriptor, 4096):
            pass
    except OSError:  # nobody has the other end any more
        pass
