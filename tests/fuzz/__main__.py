"""python -m tests.fuzz [--target NAME]... [--seconds N] [--jobs N] [--coverage] [INPUT...]: fuzzes all that takes what
others wrote, or what is named.

C by libFuzzer, under ASan and UBSan (native.py); Python by Atheris, which is libFuzzer too (python.py). Inputs that
reach something new are kept in the user's cache and built upon by the next run. With INPUTs it runs these alone, as to
look at a finding. Exit status 1: a finding, which is in a file that is named.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from corral.errors import HostError
from corral.guests import cache
from tests.fuzz import clang, native

HANG = 20  # seconds for one input
MOST_MEMORY = 1024  # MiB of a process
# In bytes; Python's targets know theirs.
LONGEST_INPUT = {
    "blk": 1024,
    "net": 1024,
    "p9": 1024,
    "uart": 256,
    "vsock": 1024,
}
PYTHON = sorted(path.stem for path in (native.HERE / "targets").glob("[a-z]*.py"))
TARGETS = [*native.HARNESSES, *PYTHON]


@dataclass
class Run:
    """What came of fuzzing a target."""

    executions: int
    failed: int  # exit status


def program(name: str) -> list[str]:
    """The command that libFuzzer's words are given to."""
    if name in PYTHON:
        return [sys.executable, "-m", "tests.fuzz.python", name]
    return [str(native.build(native.HARNESSES[name], clang.get(), "fuzzer", clang.FUZZER)), *_length(name)]


def _length(name: str) -> list[str]:
    return [f"-max_len={LONGEST_INPUT[name]}"] if name in LONGEST_INPUT else []


def corpus_of(name: str) -> Path:
    folder = Path(cache.folder("fuzz", "corpus" if name == "blk" else f"corpus-{name}"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def fuzz(name: str, seconds: int, jobs: int) -> Run:
    """Runs; shows what libFuzzer said of a finding: it has named the input then."""
    corpus = corpus_of(name)
    words = [f"-max_total_time={seconds}", f"-timeout={HANG}", f"-rss_limit_mb={MOST_MEMORY}"]
    words += ["-print_final_stats=1", f"-artifact_prefix={corpus.parent}/{name}-", "-reload=1"]
    command = [*program(name), *words, str(corpus)]
    run = Run(0, 0)
    with tempfile.TemporaryDirectory() as logs:
        running = []
        for job in range(jobs):
            log = open(os.path.join(logs, str(job)), "w+", errors="replace")  # noqa: SIM115  (closed below)
            process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
            running.append((process, log))
        for process, log in running:
            status = process.wait()
            log.seek(0)
            said = log.read()
            log.close()
            found = re.search(r"number_of_executed_units:\s*(\d+)", said)
            run.executions += int(found[1]) if found else 0
            if status:
                run.failed = status
                print(said[-6000:], file=sys.stderr)
    return run


def minimize(name: str) -> None:
    """Keeps the fewest inputs that reach what all of them do."""
    corpus = corpus_of(name)
    with tempfile.TemporaryDirectory(dir=corpus.parent) as folder:
        smaller = Path(folder) / "smaller"
        smaller.mkdir()
        command = [*program(name), "-merge=1", f"-timeout={HANG}", str(smaller), str(corpus)]
        subprocess.run(command, check=True, capture_output=True)
        shutil.rmtree(corpus)
        smaller.rename(corpus)


def reached(name: str, show: bool) -> Iterator[tuple[str, int, int]]:
    """A row for each file or module: its lines that the inputs reach, and all."""
    if name not in PYTHON:
        yield from native.reached(native.HARNESSES[name], clang.get(), corpus_of(name), show)
        return
    command = [*program(name), "--lines", str(corpus_of(name))]
    said = subprocess.run(command, check=True, capture_output=True, text=True)
    for line in said.stdout.splitlines():
        module, reached, lines = line.split()
        yield module, int(reached), int(lines)


def coverage(name: str, show: bool) -> None:
    rows = list(reached(name, show))
    rows.append(("all", sum(row[1] for row in rows), sum(row[2] for row in rows)))
    print(f"\nlines that the inputs of {name} reach")
    for file, some, lines in rows:
        print(f"  {file:36}{some:6} of {lines:5}{100 * some / max(lines, 1):8.1f} %")


def fit(names: list[str], wanted: bool) -> list[str]:
    """Those that can be fuzzed here. Raises HostError without clang, or without Atheris for one that is `wanted`."""
    python = [name for name in names if name in PYTHON]
    if len(python) < len(names):
        clang.get()
    if not python or importlib.util.find_spec("atheris"):
        return names
    lack = f"there is no Atheris for this Python: {sys.executable} -m pip install atheris"
    if wanted:
        raise HostError(lack)
    print(f"fuzz: skipped: {', '.join(python)}: {lack}", file=sys.stderr)
    return [name for name in names if name not in PYTHON]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzz what takes what others wrote.")
    parser.add_argument("--target", choices=TARGETS, action="append")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--coverage", action="store_true", help="then tell which lines were reached")
    parser.add_argument("--show", action="store_true", help="and which were not")
    parser.add_argument("inputs", nargs="*", metavar="INPUT")
    options = parser.parse_args()
    try:
        names = fit(options.target or TARGETS, bool(options.target))
    except HostError as error:
        print(f"fuzz: nothing is fuzzed: {error}", file=sys.stderr)
        return error.exit_status
    if options.inputs:
        return subprocess.run([*program(names[0]), f"-timeout={HANG}", *options.inputs]).returncode
    failed = executions = 0
    for name in names:
        if options.seconds:
            run = fuzz(name, options.seconds, options.jobs)
            executions += run.executions
            failed += bool(run.failed)
            rate, kept = run.executions / options.seconds, len(list(corpus_of(name).iterdir()))
            print(
                f"fuzz: {name}: {run.executions} executions in {options.seconds} s ({rate:.0f} a second), "
                f"{kept} inputs kept, {'a finding' if run.failed else 'no finding'}",
                flush=True,
            )
        if options.coverage:
            minimize(name)
            coverage(name, options.show)
    print(f"fuzz: {executions} executions of {len(names)} targets, {failed} with a finding")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
