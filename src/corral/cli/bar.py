"""A bar at a terminal, by rich, where that is installed (pip install 'corral[progress]')."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rich.progress import Progress


class Bar:
    """It is drawn when show() is called, and by no thread; close() takes it away."""

    def __init__(self, drawn: Progress) -> None:
        self._drawn = drawn
        self._task = drawn.add_task("", total=100)
        drawn.start()

    def show(self, text: str, percent: int) -> None:
        self._drawn.update(self._task, description=f"corral: {text}", completed=min(100, percent))
        self._drawn.refresh()

    def close(self) -> None:
        self._drawn.stop()


def made() -> Bar | None:
    """None: rich is not installed, and the line says the same."""
    try:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
    except ImportError:
        return None
    columns = TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
    return Bar(
        Progress(*columns, console=Console(file=sys.stderr, force_terminal=True), auto_refresh=False, transient=True)
    )
