"""corral boot --report: the last exits are kept, and a guest that dies leaves a report in full."""

from __future__ import annotations

import os
from contextlib import contextmanager

from corral.errors import ConfigError
from corral.exits import Cause
from corral.toolkit.exit_trace import Exit, ExitTrace
from corral.toolkit.report import full

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from corral.machine import Machine, Outcome

    Watch = Callable[[Machine], AbstractContextManager[object]]


class DeathReport:
    """To the file `path`. Raises ConfigError where none can be made."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._exits: list[Exit] = []
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
                    self._exits = list(trace)

        return attach

    def of_reset(self, machine: Machine, outcome: Outcome, console: bytes) -> None:
        """A guest that resets without a word may have meant it: that is for the reader to say."""
        if outcome.cause is Cause.RESET and outcome.status is None:
            self.write(machine, outcome, f"corral: {outcome.cause.value}, without a word why", console)

    def write(self, machine: Machine, outcome: Outcome, headline: str, console: bytes) -> None:
        text = full.text(machine, headline, outcome.cause, outcome.vcpu, console, self._exits)
        try:
            with open(self.path, "w") as file:
                file.write(text)
        except OSError as error:
            raise ConfigError(f"--report: cannot write {self.path!r}: {error.strerror}; name another file") from None
