"""Corral's own engine: it changes inputs that went new ways, and keeps what goes another."""

from __future__ import annotations

import time

from corral.fuzz.coverage import Coverage
from corral.fuzz.mutate import Mutator, walk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from corral.fuzz.corpus import Corpus
    from corral.fuzz.findings import Findings, FuzzFinding
    from corral.fuzz.target import Execution

TURNS = 64  # changed inputs in a row from one of the corpus
_WALKS = 256  # inputs that wait for theirs, at most
_LOOK = 5.0  # seconds between two looks for what other jobs have found


class FuzzEngine:
    """`step` is what Target.drive() is given. `limit`: after so many executions it ends. `command` replays a finding,
    and `tell` is called with each new one."""

    def __init__(
        self,
        corpus: Corpus,
        findings: Findings,
        mutator: Mutator,
        command: str,
        tell: Callable[[str, FuzzFinding], object],
        limit: int | None = None,
    ) -> None:
        self.executions = 0
        self.coverage = Coverage()
        self._corpus, self._findings, self._mutator = corpus, findings, mutator
        self._command, self._tell, self._limit = command, tell, limit
        self._given = corpus.first()[::-1]  # are tried as they are first; the last is the next
        self._base, self._turns = b"", 0
        self._walks: list[Iterator[bytes]] = []  # of inputs that went new ways; the last is at work
        self._look_at = time.monotonic() + _LOOK

    @property
    def inputs(self) -> list[bytes]:
        """Of the corpus, those that went new ways."""
        return self._corpus.inputs

    def step(self, done: Execution | None) -> bytes | None:
        if done:
            self._judge(done)
        if self._limit is not None and self.executions >= self._limit:
            return None
        if not self.executions & 255 and time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + _LOOK
            self._given = self._corpus.news() + self._given
        self.executions += 1
        if self._given:
            return self._given.pop()
        inputs = self._corpus.inputs
        if not inputs:  # all that was given are findings: they are changed themselves
            return self._mutator.changed(b"", [b""])
        while self._walks and self.executions & 1:  # half of the time
            walked = next(self._walks[-1], None)
            if walked is not None:
                return walked
            self._walks.pop()
        if self._turns == 0:
            self._base, self._turns = self._mutator.choose(inputs), TURNS
        self._turns -= 1
        return self._mutator.changed(self._base, inputs)

    def _judge(self, done: Execution) -> None:
        finding = done.finding
        new = self.coverage.add(done.coverage) if done.coverage or self._corpus.inputs else True
        if finding is None:
            if new:
                self._corpus.add(done.data)
                if len(self._walks) < _WALKS:
                    self._walks.insert(0, walk(done.data))
        elif self._findings.add(done.data, finding, self._command):
            self._tell(finding.name, finding)
