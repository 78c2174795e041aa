"""python -m tests.fuzz [--seconds N] [--jobs N] [--coverage] [INPUT...]: fuzzes virtio-blk's data plane.

libFuzzer over csrc (blk_fuzzer.c), under ASan and UBSan. Inputs that reach something new are kept in the user's cache
and built upon by the next run. With INPUTs it runs these alone, as to look at a finding. Exit status 1: a finding,
which is in a file that is named.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from corral.guests import cache, sources
from csrc import build_ffi

HERE = Path(__file__).parent
COMPILER = "clang-14"
PACKAGES = ["clang-14", "libclang-rt-14-dev", "llvm-14"]
WRAPPED = ["calloc", "aligned_alloc", "pthread_create"]
FLAGS = ["-g", "-O1", "-std=gnu11", "-fno-omit-frame-pointer", *(f"-Wl,--wrap={name}" for name in WRAPPED)]
FUZZER = ["-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all"]
COVERAGE = ["-fsanitize=fuzzer", "-fprofile-instr-generate", "-fcoverage-mapping"]
LONGEST_INPUT = 1024
HANG = 20  # seconds for one input
CONCERNED = re.compile(r"^(blk(?!_fuzzer)|virtq|virtio)\w*\.c$")
FUZZED = re.compile(r"^((blk|virtq|virtio)\w*|memory|vcpu_run|vcpu|exit_ring|sampler|guest_access|worker)\.[ch]$")


def build(name: str, flags: list[str]) -> Path:
    """The fuzzer, in the cache; made when it or what it is made of has changed."""
    files = [
        *sorted(path for path in build_ffi.CSRC.glob("*.[ch]") if FUZZED.match(path.name)),
        *sorted(HERE.glob("*.c")),
    ]
    target = cache.folder("fuzz", sources.digest(*(path.read_bytes() for path in files)))
    os.makedirs(target, exist_ok=True)
    program = Path(target) / name
    if not program.exists():
        uring = build_ffi.find_uring([COMPILER])
        libraries = ["-DCORRAL_HAVE_URING", *uring] if uring is not None else []
        inputs = [str(path) for path in files if path.suffix == ".c"]
        command = [COMPILER, *FLAGS, *flags, f"-I{build_ffi.CSRC}", *inputs, *libraries, "-lpthread", "-o"]
        subprocess.run([*command, f"{program}.{os.getpid()}"], check=True)
        os.replace(f"{program}.{os.getpid()}", program)
    return program


def fuzz(corpus: Path, seconds: int, jobs: int) -> int:
    """Runs; tells executions. 0, or what libFuzzer ended with: it has named the input then."""
    program = build("fuzzer", FUZZER)
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
        f"fuzz: {executions} executions in {seconds} s ({executions / seconds:.0f} a second), "
        f"{len(list(corpus.iterdir()))} inputs kept, {'a finding' if failed else 'no finding'}"
    )
    return failed


def minimize(corpus: Path) -> None:
    """Keeps the fewest inputs that reach what all of them do."""
    with tempfile.TemporaryDirectory(dir=corpus.parent) as folder:
        smaller = Path(folder) / "smaller"
        smaller.mkdir()
        command = [str(build("fuzzer", FUZZER)), "-merge=1", f"-max_len={LONGEST_INPUT}", f"-timeout={HANG}"]
        subprocess.run([*command, str(smaller), str(corpus)], check=True, capture_output=True)
        shutil.rmtree(corpus)
        smaller.rename(corpus)


def coverage(corpus: Path, show: bool) -> None:
    """Prints which lines of the data plane the inputs reach."""
    program = build("coverage", COVERAGE)
    with tempfile.TemporaryDirectory() as folder:
        raw, profile = os.path.join(folder, "raw"), os.path.join(folder, "profile")
        subprocess.run(
            [str(program), "-runs=0", str(corpus)],
            check=True,
            capture_output=True,
            env={**os.environ, "LLVM_PROFILE_FILE": raw},
        )
        subprocess.run(["llvm-profdata-14", "merge", "-sparse", raw, "-o", profile], check=True)
        report = subprocess.run(
            ["llvm-cov-14", "report", str(program), f"-instr-profile={profile}"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        rows = []
        for line in report.splitlines():
            words = line.split()
            name = words[0].rsplit("/", 1)[-1] if words else ""
            if CONCERNED.match(name):
                rows.append((name, int(words[7]), int(words[8])))
        rows.append(("all", sum(lines for _, lines, _ in rows), sum(missed for *_, missed in rows)))
        print("\nlines of the data plane that were reached")
        for name, lines, missed in rows:
            print(f"  {name:24}{lines - missed:6} of {lines:5}{100 - 100 * missed / lines:8.1f} %")
        if show:
            command = ["llvm-cov-14", "show", str(program), f"-instr-profile={profile}", "-region-coverage-lt=100"]
            print(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzz virtio-blk's data plane.")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--coverage", action="store_true", help="then tell which lines were reached")
    parser.add_argument("--show", action="store_true", help="and which were not")
    parser.add_argument("inputs", nargs="*", metavar="INPUT")
    options = parser.parse_args()
    if shutil.which(COMPILER) is None:
        print(
            f"fuzz: no {COMPILER}, so nothing is fuzzed; get it: apt-get install {' '.join(PACKAGES)}", file=sys.stderr
        )
        return 1 if "CI" in os.environ else 0
    if options.inputs:
        return subprocess.run([str(build("fuzzer", FUZZER)), f"-timeout={HANG}", *options.inputs]).returncode
    corpus = Path(cache.folder("fuzz", "corpus"))
    corpus.mkdir(parents=True, exist_ok=True)
    status = fuzz(corpus, options.seconds, options.jobs) if options.seconds else 0
    if not status and options.coverage:
        minimize(corpus)
        coverage(corpus, options.show)
    return 1 if status else 0


if __name__ == "__main__":
    sys.exit(main())
