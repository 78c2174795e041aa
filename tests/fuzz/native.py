"""What is fuzzed of C: a harness for libFuzzer each, with the files of csrc/ that it calls, under ASan and UBSan."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from corral.guests import cache, sources
from csrc import build_ffi
from tests.fuzz import clang

HERE = Path(__file__).parent
FLAGS = ["-g", "-O1", "-std=gnu11", "-fno-omit-frame-pointer"]
COVERAGE = ["-fsanitize=fuzzer", "-fprofile-instr-generate", "-fcoverage-mapping"]


@dataclass(frozen=True)
class Harness:
    """What is fuzzed: the harness, the files of its folder that are compiled with it, and those whose lines count."""

    harness: str
    folder: Path
    compiled: re.Pattern[str]
    concerned: re.Pattern[str]
    wrapped: tuple[str, ...] = ()
    uring: bool = False

    def files(self) -> list[Path]:
        own = sorted(path for path in self.folder.rglob("*.[ch]") if self.compiled.match(path.name))
        return [*own, HERE / "input.h", HERE / self.harness]


HARNESSES = {
    "blk": Harness(
        harness="blk_fuzzer.c",
        folder=build_ffi.CSRC,
        compiled=re.compile(r"^((blk|virtq|virtio)\w*|memory|ram_save|ram_file|queue_worker|limit|thread)\.[ch]$"),
        concerned=re.compile(r"^(blk(?!_fuzzer)|virtq|virtio|queue_worker|limit)\w*\.c$"),
        wrapped=("calloc", "aligned_alloc", "pthread_create"),
        uring=True,
    ),
    "net": Harness(
        harness="net_fuzzer.c",
        folder=build_ffi.CSRC,
        compiled=re.compile(r"^((net|virtq|virtio)\w*|memory|queue_worker|vector_io|thread)\.[ch]$"),
        concerned=re.compile(r"^net(?!_fuzzer)\w*\.c$"),
        wrapped=("corral_worker_add_thread",),
    ),
    "p9": Harness(
        harness="p9_fuzzer.c",
        folder=build_ffi.SERVER_SOURCES,
        compiled=re.compile(r"^(?!main\.c|namespaces\.c|warden\.c|landlock\.c|capabilities\.c|filter\.c)\w+\.[ch]$"),
        concerned=re.compile(r"^(walk|names|files|folders|attributes|xattrs|locks|fids|tree|serve|wire)\.[ch]$"),
    ),
    "uart": Harness(
        harness="uart_fuzzer.c",
        folder=build_ffi.CSRC,
        compiled=re.compile(r"^(uart\w*|byte_ring|ioapic)\.[ch]$"),
        concerned=re.compile(r"^uart(_state)?\.c$"),
        wrapped=("eventfd_write", "eventfd_read"),
    ),
    "vsock": Harness(
        harness="vsock_fuzzer.c",
        folder=build_ffi.CSRC,
        compiled=re.compile(r"^((vsock(?!_connector)|virtq|virtio)\w*|memory|queue_worker|thread)\.[ch]$"),
        concerned=re.compile(r"^vsock(?!_fuzzer)\w*\.c$"),
        wrapped=("corral_worker_add_thread",),
    ),
}


def build(target: Harness, compiler: str, name: str, flags: list[str]) -> Path:
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
        command = [compiler, *FLAGS, *wraps, *flags, *build_ffi.INCLUDES, *inputs, *libraries, "-lpthread", "-o"]
        subprocess.run([*command, f"{program}.{os.getpid()}"], check=True)
        os.replace(f"{program}.{os.getpid()}", program)
    return program


def reached(target: Harness, compiler: str, corpus: Path, show: bool = False) -> Iterator[tuple[str, int, int]]:
    """A row for each file that is concerned: its name, its lines that the inputs reach, and all. `show` prints those
    that they do not."""
    program = build(target, compiler, "coverage", COVERAGE)
    with tempfile.TemporaryDirectory() as folder:
        raw, profile = os.path.join(folder, "raw"), os.path.join(folder, "profile")
        environment = {**os.environ, "LLVM_PROFILE_FILE": raw}
        subprocess.run([str(program), "-runs=0", str(corpus)], check=True, capture_output=True, env=environment)
        subprocess.run([clang.tool(compiler, "profdata"), "merge", "-sparse", raw, "-o", profile], check=True)
        words = [str(program), f"-instr-profile={profile}"]
        report = _said([clang.tool(compiler, "cov"), "report", *words])
        if show:
            print(_said([clang.tool(compiler, "cov"), "show", *words, "-region-coverage-lt=100"]))
    for line in report.splitlines():
        columns = line.split()
        name = columns[0].rsplit("/", 1)[-1] if columns else ""
        if target.concerned.match(name):
            yield name, int(columns[7]) - int(columns[8]), int(columns[7])


def _said(command: list[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
