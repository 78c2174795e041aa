"""python -m tests.fuzz [--target NAME] [--seconds N] [--jobs N] [--coverage] [INPUT...]: fuzzes virtio-blk's data plane
(blk), virtio-net's (net) and the server of shared folders (p9), or the one that is named.

libFuzzer over csrc (blk_fuzzer.c, net_fuzzer.c, p9_fuzzer.c), under ASan and UBSan. Inputs that reach something new are
kept in the user's cache and built upon by the next run. With INPUTs it runs these alone, as to look at a finding. Exit
status 1: a finding, which is in a file that is named.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from corral.errors import HostError
from corral.guests import cache, sources
from csrc import build_ffi
from tests.fuzz import clang

HERE = Path(__file__).parent
WRAPPED = ["calloc", "aligned_alloc", "pthread_create"]
FLAGS = ["-g", "-O1", "-std=gnu11", "-fno-omit-frame-pointer"]
COVERAGE = ["-fsanitize=fuzzer", "-fprofile-instr-generate", "-fcoverage-mapping"]
LONGEST_INPUT = 1024
HANG = 20  # seconds for one input


@dataclass(frozen=True)
class Target:
    """What is fuzzed: the harness, the files of its folder that are compiled with it, and those whose lines count."""

    harness: str
    folder: Path
    compiled: re.Pattern[str]
    concerned: re.Pattern[str]
    wrapped: list[str]
    uring: bool

    def files(self) -> list[Path]:
        own = sorted(path for path in self.folder.glob("*.[ch]") if self.compiled.match(path.name))
        return [*own, HERE / "input.h", HERE / self.harness]


TARGETS = {
    "blk": Target(
        harness="blk_fuzzer.c",
        folder=build_ffi.CSRC,
        compiled=re.compile(r"^((blk|virtq|virtio)\w*|memory|queue_worker|limit|thread)\.[ch]$"),
        concerned=re.compile(r"^(blk(?!_fuzzer)|virtq|virtio|queue_worker|limit)\w*\.c$"),
        wrapped=["calloc", "aligned_alloc", "pthread_create"],
        uring=True,
    ),
    "net": Target(
        harness="net_fuzzer.c",
        folder=build_ffi.CSRC,
        compiled=re.compile(r"^((net|virtq|virtio)\w*|memory|queue_worker|vector_io|thread)\.[ch]$"),
        concerned=re.compile(r"^net(?!_fuzzer)\w*\.c$"),
        wrapped=["corral_worker_add_thread"],
        uring=False,
    ),
    "p9": Target(
        harness="p9_fuzzer.c",
        folder=build_ffi.SERVER_SOURCES,
        compiled=re.compile(r"^(?!main\.c|namespaces\.c|landlock\.c|capabilities\.c|filter\.c)\w+\.[ch]$"),
        concerned=re.compile(r"^(walk|names|files|folders|attributes|xattrs|locks|fids|tree|serve|wire)\.[ch]$"),
        wrapped=[],
        uring=False,
    ),
}


def build(target: Target, compiler: str, name: str, flags: list[str]) -> Path:
    """The fuzzer, in the cache; made when it, what it is made of or its compiler has changed."""
    files = target.files()
    folder = cache.folder("fuzz", sources.digest(compiler.encode(), *(path.read_bytes() for path in files)))
    os.makedirs(folder, exist_ok=True)
    program = Path(folder) / name
    if not program.exists():
        uring = build_ffi.find_uring([compiler]) if target.uring else None
        libraries = ["-DCORRAL_HAVE_URING", *uring] if uring is not None else []
        inputs = [str(path) for path in files if path.suffix == ".c"]
        wraps = [f"-Wl,--wrap={name}" for name in target.wrapped]
        command = [compiler, *FLAGS, *wraps, *flags, f"-I{build_ffi.CSRC}", *inputs, *libraries, "-lpthread", "-o"]
        subprocess.run([*command, f"{program}.{os.getpid()}"], check=True)
        os.replace(f"{program}.{os.getpid()}", program)
    return program


def fuzz(name: str, compiler: str, corpus: Path, seconds: int, jobs: int) -> int:
    """Runs; tells executions. 0, or what libFuzzer ended with: it has named the input then."""
    program = build(TARGETS[name], compiler, "fuzzer", clang.FUZZER)
    with tempfile.TemporaryDirectory() as logs:
        options = [
            f"-max_total_time={seconds}",
            f"-max_len={LONGEST_INPUT}",
            f"-timeout={HANG}",
            "-print_final_stats=1",
        ]
        options += [f"-artifact_prefix={corpus.parent}/", "-reload=1"]
        runs = []
        for job in range(jobs):
            log = open(os.path.join(logs, str(job)), "w+")  # noqa: SIM115  (closed below)
            command = [str(program), *options, str(corpus)]
            runs.append((subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL), log))
        executions = 0
        failed = 0
        for process, log in runs:
            status = process.wait()
            log.seek(0)
            said = log.read()
            log.close()
            found = re.search(r"number_of_executed_units:\s*(\d+)", said)
            executions += int(found[1]) if found else 0
            if status:
                failed = status
                print(said[-6000:], file=sys.stderr)
    print(
        f"fuzz: {name}: {executions} executions in {seconds} s ({executions / seconds:.0f} a second), "
        f"{len(list(corpus.iterdir()))} inputs kept, {'a finding' if failed else 'no finding'}"
    )
    return failed


def minimize(target: Target, compiler: str, corpus: Path) -> None:
    """Keeps the fewest inputs that reach what all of them do."""
    with tempfile.TemporaryDirectory(dir=corpus.parent) as folder:
        smaller = Path(folder) / "smaller"
        smaller.mkdir()
        command = [
            str(build(target, compiler, "fuzzer", clang.FUZZER)),
            "-merge=1",
            f"-max_len={LONGEST_INPUT}",
            f"-timeout={HANG}",
        ]
        subprocess.run([*command, str(smaller), str(corpus)], check=True, capture_output=True)
        shutil.rmtree(corpus)
        smaller.rename(corpus)


def coverage(target: Target, compiler: str, corpus: Path, show: bool) -> None:
    """Prints which lines of what is fuzzed the inputs reach."""
    program = build(target, compiler, "coverage", COVERAGE)
    with tempfile.TemporaryDirectory() as folder:
        raw, profile = os.path.join(folder, "raw"), os.path.join(folder, "profile")
        subprocess.run(
            [str(program), "-runs=0", str(corpus)],
            check=True,
            capture_output=True,
            env={**os.environ, "LLVM_PROFILE_FILE": raw},
        )
        subprocess.run([clang.tool(compiler, "profdata"), "merge", "-sparse", raw, "-o", profile], check=True)
        report = subprocess.run(
            [clang.tool(compiler, "cov"), "report", str(program), f"-instr-profile={profile}"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        rows = []
        for line in report.splitlines():
            words = line.split()
            name = words[0].rsplit("/", 1)[-1] if words else ""
            if target.concerned.match(name):
                rows.append((name, int(words[7]), int(words[8])))
        rows.append(("all", sum(lines for _, lines, _ in rows), sum(missed for *_, missed in rows)))
        print(f"\nlines of {target.folder.name} that were reached")
        for name, lines, missed in rows:
            print(f"  {name:24}{lines - missed:6} of {lines:5}{100 - 100 * missed / max(lines, 1):8.1f} %")
        if show:
            command = [
                clang.tool(compiler, "cov"),
                "show",
                str(program),
                f"-instr-profile={profile}",
                "-region-coverage-lt=100",
            ]
            print(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz",
        description="Fuzz the data planes of virtio-blk and virtio-net, and the server of shared folders.",
    )
    parser.add_argument("--target", choices=TARGETS)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--coverage", action="store_true", help="then tell which lines were reached")
    parser.add_argument("--show", action="store_true", help="and which were not")
    parser.add_argument("inputs", nargs="*", metavar="INPUT")
    options = parser.parse_args()
    try:
        compiler = clang.get()
    except HostError as error:
        print(f"fuzz: nothing is fuzzed: {error}", file=sys.stderr)
        return error.exit_status
    names = [options.target] if options.target else list(TARGETS)
    if options.inputs:
        program = build(TARGETS[names[0]], compiler, "fuzzer", clang.FUZZER)
        return subprocess.run([str(program), f"-timeout={HANG}", *options.inputs]).returncode
    found = False
    for name in names:
        corpus = Path(cache.folder("fuzz", "corpus" if name == "blk" else f"corpus-{name}"))
        corpus.mkdir(parents=True, exist_ok=True)
        status = fuzz(name, compiler, corpus, options.seconds, options.jobs) if options.seconds else 0
        if not status and options.coverage:
            minimize(TARGETS[name], compiler, corpus)
            coverage(TARGETS[name], compiler, corpus, options.show)
        found |= bool(status)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
