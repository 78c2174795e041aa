"""fuzzing: executions of a program that parses what is in a shared page, on one CPU, against AFL++'s fork server on the
host: the same source, the same afl-fuzz, the same first input; and Corral's own engine. `--fresh 1` has each input
begin at the checkpoint, as the fork server's do, and 1000 has a thousand in a row."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measure import interleaved, report, verdict
from corral.fuzz import afl, program
from corral.fuzz.corpus import Corpus
from corral.fuzz.engine import FuzzEngine
from corral.fuzz.findings import Findings
from corral.fuzz.mutate import Mutator
from corral.fuzz.target import Target
from corral.guests import debian
from tests.support import fuzz_targets

ROUNDS = 3
RUNS = 4.0  # seconds of each contender in a round
FORKS, PERSISTENT, EACH, OWN, OWN_EACH = (
    "afl-fuzz, fork server, host",
    "afl-fuzz, Corral --fresh 1000",
    "afl-fuzz, Corral --fresh 1",
    "Corral's engine, --fresh 1000",
    "Corral's engine, --fresh 1",
)
FASTEST = 0.5  # of the fork server's executions a second, at least
FIRST = b"REC\1s\4abcd"


def native(folder: Path) -> Path:
    """The program for the host, by afl-clang-fast."""
    target = folder / "native"
    sources = [str(fuzz_targets.FUZZ / name) for name in ("parser.c", "native.c")]
    subprocess.run(["afl-clang-fast", "-O1", *sources, "-o", str(target)], check=True, capture_output=True)
    return target


def of_afl(target: Sequence[str], seeds: Path) -> float:
    """Seconds an execution, as afl-fuzz counts them; the start is not in it."""
    with tempfile.TemporaryDirectory() as temporary:
        command = afl.command(list(target), str(seeds), f"{temporary}/out", 1000, RUNS, "")
        environment = {**os.environ, **afl.ENVIRONMENT}
        subprocess.run(command, env=environment, check=True, cwd=temporary, capture_output=True, timeout=120)
        stats = Path(temporary, "out", "default", "fuzzer_stats").read_text()
    fields = dict(line.replace(" ", "").split(":", 1) for line in stats.splitlines() if ":" in line)
    return 1 / float(fields["execs_per_sec"])


def of_corral(target: Path, fresh: int) -> float:
    """Seconds an execution of Corral's own engine; the boot is not in it."""
    with tempfile.TemporaryDirectory() as temporary:
        config, symbols = program.config(str(target), temporary)
        with Target(config, 0.5, fresh, symbols) as guest:
            corpus = Corpus(temporary, guest.room)
            engine = FuzzEngine(corpus, Findings(temporary), Mutator(1, guest.room), "", lambda name, finding: None)
            began = time.perf_counter()
            guest.drive(engine.step, time.monotonic() + RUNS)
            return (time.perf_counter() - began) / engine.executions


def main() -> bool:
    debian.require_installed(["afl++", "clang"], "the fuzzing benchmark")
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        with tempfile.TemporaryDirectory() as temporary:
            seeds = Path(temporary, "seeds")
            seeds.mkdir()
            (seeds / "first").write_bytes(FIRST)
            host, guest = native(Path(temporary)), fuzz_targets.program(compiler="clang")
            corral = [sys.executable, "-m", "corral", "fuzz", str(guest), "--engine", "afl", "--fresh"]
            contenders = {
                FORKS: lambda: of_afl([str(host)], seeds),
                PERSISTENT: lambda: of_afl([*corral, "1000"], seeds),
                EACH: lambda: of_afl([*corral, "1"], seeds),
                OWN: lambda: of_corral(guest, 1000),
                OWN_EACH: lambda: of_corral(guest, 1),
            }
            samples = interleaved(contenders, ROUNDS, warm_up=0)
    finally:
        os.sched_setaffinity(0, allowed)
    medians = report("fuzzing: an execution, one CPU", samples, FORKS, "us")
    limit = 1 / FASTEST
    each = verdict("from the checkpoint each time, against the fork server", medians[EACH] / medians[FORKS], limit)
    return verdict("a thousand in a row, against the fork server", medians[PERSISTENT] / medians[FORKS], limit) and each


if __name__ == "__main__":
    sys.exit(not main())
