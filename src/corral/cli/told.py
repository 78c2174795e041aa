"""What a start has to say, on its way to a person."""

from __future__ import annotations

from corral.cli import terminal
from corral.launch.events import Notice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.launch.events import ProgressEvent


class Told:
    """Shows progress at once, and keeps notices until the guest starts. `quiet`: nothing is said of what is as it
    should be."""

    def __init__(self) -> None:
        self.notices: list[str] = []
        self.quiet = False
        self.progress = terminal.Progress()

    def __call__(self, event: Notice | ProgressEvent) -> None:
        if not isinstance(event, Notice):
            self.progress(event.text)
        elif not (event.routine and self.quiet):
            self.notices.append(event.text)
