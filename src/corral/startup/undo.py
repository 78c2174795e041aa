"""What was made, to be unmade in the opposite order; contextlib.ExitStack's callbacks without contextlib's imports."""

from __future__ import annotations

from corral.startup.threads import RLock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Undo:
    """A stack of callbacks."""

    def __init__(self) -> None:
        self._steps: list[tuple[Callable[..., object], tuple[object, ...]]] = []
        self._running = RLock()

    def push(self, step: Callable[..., object], *arguments: object) -> None:
        self._steps.append((step, arguments))

    def forget(self) -> list[object]:
        """The steps that are left, which will not be run."""
        steps, self._steps = self._steps, []
        return list(steps)

    def run(self) -> None:
        """Calls each once, last first. One that raises does not keep the others from being called. A second thread
        waits for the first."""
        with self._running:
            while self._steps:
                step, arguments = self._steps.pop()
                try:
                    step(*arguments)
                except BaseException:
                    self.run()
                    raise
