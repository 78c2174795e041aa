"""What a launch has to tell while it goes on, as values: the caller decides what is shown, and how."""

from __future__ import annotations

from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Tell = Callable[["Notice | ProgressEvent"], None]


@record(frozen=True)
class Notice:
    """A line for a person, about the guest that is to start. `routine`: it says what is as it should be."""

    text: str
    routine: bool = False


@record(frozen=True)
class ProgressEvent:
    """How far something has come that takes a while, like a download. It replaces the one before."""

    text: str


def ignore(event: Notice | ProgressEvent) -> None:
    """For those who have not asked."""


def steps(tell: Tell) -> Callable[[str], None]:
    """A function that tells each text as Progress."""
    return lambda text: tell(ProgressEvent(text))
