"""corral boot --report: the last exits are kept, and a guest that dies leaves a report in full."""

from __future__ import annotations

import os
from contextlib import contextmanager

from corral.core.exits import Cause
from corral.debug.report import full
from corral.errors import ConfigError
from corral.observe.exit_trace import ExitTrace, TracedExit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from corral.core.exits import Outcome
    from corral.debug.report.remains import Remains
    from corral.machine import Machine

    Watch = Callable[[Machine], AbstractContextManager[object]]


class DeathReport:
    """To the file `path`. Raises ConfigError where none can be made."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.exits: list[TracedExit] = []
        folder = os.path.dirname(path) or "."
        if os.path.isdir(path) or not os.access(folder, os.W_OK | os.X_OK):
            raise ConfigError(f"--report: cannot write {path!r}; name a file in a folder that you may write to")

    def watch(self, outer: Watch | None) -> Watch:
        """What boot.run() attaches to the machine, `outer` included."""

        @contextmanager
        def attach(machine: Machine) -> Iterator[None]:
            if outer:  # a trace has the ring
                with outer(machine):
                    yield
                return
            with ExitTrace(machine, size=full.EXITS, newest=True) as trace:
                try:
                    yield
                finally:
                    trace.flush()
                    self.exits = list(trace)

        return attach

    def write(self, found: Remains, outcome: Outcome, headline: str, console: bytes) -> None:
        text = full.text(found, headline, outcome.cause, outcome.vcpu, console, self.exits)
        if trouble := full.write(self.path, text):
            raise ConfigError(trouble)


def of_reset(outcome: Outcome) -> str:
    """The headline for a guest that resets without a word: it may have meant it, and that is for the reader to say. ""
    for another end."""
    if outcome.cause is not Cause.RESET or outcome.status is not None:
        return ""
    return f"corral: {outcome.cause.value}, without a word why"
