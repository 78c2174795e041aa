"""What was made, to be unmade in the opposite order; contextlib.ExitStack's callbacks without contextlib's imports."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Undo:
    """A stack of callbacks."""

    def __init__(self) -> None:
        self._steps: list[tuple[Callable[..., object], tuple[object, ...]]] = []

    def push(self, step: Callable[..., object], *arguments: object) -> None:
        self._steps.append((step, arguments))

    def run(self) -> None:
        """Calls each once, last first. One that raises does not keep the others from being called."""
        while self._steps:
            step, arguments = self._steps.pop()
            try:
                step(*arguments)
            except BaseException:
                self.run()
                raise
