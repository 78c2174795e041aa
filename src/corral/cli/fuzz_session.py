"""A session of `corral fuzz` in one process, with one guest."""

from __future__ import annotations

import os
import shlex
import sys
import tempfile
import time

from corral.cli import terminal
from corral.errors import ConfigError
from corral.files.file import ImageFile
from corral.fuzz import afl, program
from corral.fuzz import findings as found
from corral.fuzz.corpus import Corpus
from corral.fuzz.engine import FuzzEngine
from corral.fuzz.findings import Findings
from corral.fuzz.mutate import Mutator
from corral.fuzz.target import Target
from corral.launch.events import Notice, ProgressEvent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.cli.fuzz_request import FuzzRequest
    from corral.fuzz.findings import FuzzFinding

FOUND = 1  # exit status
_TELL = 5.0  # seconds between two lines on how it goes
_LARGEST = 1 << 20  # bytes of an input to replay


def folder(path: str, name: str) -> None:
    """Makes it, if it is not there. Raises ConfigError."""
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--{name} {path!r}: {error.strerror}; name a folder") from None


def _target(wanted: FuzzRequest) -> Target:
    progress = terminal.Progress()

    def tell(event: Notice | ProgressEvent) -> None:
        if isinstance(event, ProgressEvent):
            progress(event.text)
        elif isinstance(event, Notice) and not event.routine:
            print(f"corral: {event.text}", file=sys.stderr)

    with tempfile.TemporaryDirectory(prefix="corral-fuzz-") as temporary:
        config, symbols = program.config(wanted.target, temporary, wanted.memory, tell)
        return Target(config, wanted.timeout, wanted.fresh, symbols)


def _command(wanted: FuzzRequest) -> str:
    memory = f" --memory {wanted.memory >> 10}K" if wanted.memory else ""
    limit = f" --timeout-ms {round(wanted.timeout * 1000)}"
    return f"corral fuzz {shlex.quote(wanted.target)}{memory}{limit} --replay"


def replay(wanted: FuzzRequest, path: str) -> int:
    with ImageFile(path, "input") as file:
        data = file.read(0, min(file.size, _LARGEST))
    with _target(wanted) as target:
        finding = target.run(data).finding
    if finding is None:
        print(f"nothing: the target was done with {path}")
        return 0
    print(found.text(finding, f"{_command(wanted)} {path}"))
    return FOUND


def _say(name: str, finding: FuzzFinding) -> None:
    print(f"{name}: {finding.what}", flush=True)


def run(wanted: FuzzRequest) -> int:
    folder(wanted.corpus, "corpus")
    folder(wanted.crashes, "crashes")
    findings = Findings(wanted.crashes)
    with _target(wanted) as target:
        corpus, mutator = Corpus(wanted.corpus, target.room), Mutator(wanted.seed, target.room)
        engine = FuzzEngine(corpus, findings, mutator, _command(wanted), _say, wanted.executions)
        said = _Said(engine, findings, target.edges)
        target.drive(engine.step, time.monotonic() + wanted.time if wanted.time else float("inf"), said)
    said.last()
    return FOUND if findings.names else 0


def serve(wanted: FuzzRequest) -> int:
    """What afl-fuzz asks for."""
    folder(wanted.crashes, "crashes")
    findings = Findings(wanted.crashes)
    with _target(wanted) as target:
        server = afl.ForkServer(target.edges, findings, _command(wanted), _say)
        try:
            target.drive(server.step)
        finally:
            server.close()
    return FOUND if findings.names else 0


class _Said:
    """A line on how it goes, every few seconds, for stderr."""

    def __init__(self, engine: FuzzEngine, findings: Findings, edges: int) -> None:
        self._engine, self._findings, self._edges = engine, findings, edges
        self._began = time.monotonic()
        self._next = self._began + _TELL

    def __call__(self) -> None:
        if time.monotonic() >= self._next:
            self._next += _TELL
            self.last()

    def last(self) -> None:
        count, took = self._engine.executions, max(time.monotonic() - self._began, 1e-9)
        edges = f"{self._engine.coverage.edges} of {self._edges} edges" if self._edges else "no coverage"
        print(
            f"corral: {count} executions, {count / took:.0f} a second, {edges}, "
            f"{len(self._engine.inputs)} inputs, {len(self._findings.names)} findings",
            file=sys.stderr,
        )
