"""python -m tests PART...: runs parts of the tests, two or three at a time, and ends with a table of them.

A part is a target of the Makefile. Its output is shown when it ends. One that fails fails the run, but the others run
all the same. With CORRAL_RESULTS=FOLDER the output and pytest's JUnit files stay there.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from corral.errors import HostError
from corral.guests import kernel
from tests.fuzz import clang
from tests.support import programs
from tests.support.results import Part, table

UNIT = {"unit", "unit-1", "unit-2", "unit-long"}
WITHOUT_GUESTS = {"lint", *UNIT, "compilers", "fuzz", "debian13", "docs"}  # the others build the small kernel first
WAITING = {"kvm-1", "kvm-2", "lint", *UNIT}  # for guests, files and processes, for half of their time
CORES = min(2, len(os.sched_getaffinity(0)))


class Running:
    """A part, from its start to its end."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self._folder = folder
        self._log = folder / f"{name}.log"
        for old in self._junit_files():
            old.unlink()
        self._began = time.monotonic()
        print(f"tests: {name} begins", flush=True)
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                ["make", "--no-print-directory", name],
                env={**os.environ, "CORRAL_RESULTS": str(folder)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def ended(self, status: int) -> Part:
        seconds = time.monotonic() - self._began
        said = self._log.read_text(errors="replace").strip()
        part = Part(self.name, seconds, status, last_line=said.rpartition("\n")[2])
        part.read(self._junit_files())
        print(f"\n======== {self.name}: {part.result} after {seconds:.0f} s\n{said}\n", flush=True)
        return part

    def _junit_files(self) -> list[Path]:
        """Of pytest in this part; a part that has parts of its own has a folder of them."""
        return [*self._folder.glob(f"{self.name}.xml"), *sorted(self._folder.glob(f"{self.name}/*.xml"))]


def prepare(names: list[str]) -> None:
    """Installs what the parts lack when root; else raises HostError naming all of it. The folder of a part's tests is
    the first word of its name."""
    files = [file for name in names for file in programs.TESTS.glob(f"{name.partition('-')[0]}/**/test_*.py")]
    packages = []
    if not WITHOUT_GUESTS.issuperset(names) and not any(found.name == kernel.SMALL for found in kernel.ready()):
        packages += kernel.BUILD_PACKAGES
    if "fuzz" in names and clang.find() is None:
        packages += clang.packages()
    programs.install(files, packages)


def at_once(names: set[str]) -> int:
    """How many parts may run beside each other, if these are they."""
    return CORES + 1 if names <= WAITING else CORES


def run(names: list[str], folder: Path) -> list[Part]:
    """Runs them in this order, as many at once as there is room for; gives them in this order, too."""
    waiting, running, ended = names[:], list[Running](), list[Part]()
    try:
        while waiting or running:
            while waiting and len(running) < at_once({waiting[0], *(part.name for part in running)}):
                running.append(Running(waiting.pop(0), folder))
            pid, status = os.wait()
            for part in [part for part in running if part.process.pid == pid]:
                running.remove(part)
                part.process.returncode = os.waitstatus_to_exitcode(status)
                ended.append(part.ended(part.process.returncode))
    except BaseException:  # an interrupt, for the most part: the parts get it as well, from the terminal
        for part in running:
            part.process.terminate()
            part.process.wait()
        raise
    return sorted(ended, key=lambda part: names.index(part.name))


def main(names: list[str]) -> int:
    began = time.monotonic()
    try:
        prepare(names)
    except HostError as error:
        print(f"tests: {error}", file=sys.stderr)
        return error.exit_status
    with tempfile.TemporaryDirectory(prefix="corral-tests-") as temporary:
        folder = Path(os.environ.get("CORRAL_RESULTS") or temporary).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        parts = run(names, folder)
    print(table(parts, time.monotonic() - began), flush=True)
    return 1 if any(part.status for part in parts) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
