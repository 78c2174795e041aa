"""What a client did wrong, or cannot have."""

from __future__ import annotations

from corral.errors import CorralError

AFTER = "The requested operation is not supported after starting the microVM."
BEFORE = "The requested operation is not supported before starting the microVM."


class Fault(CorralError):
    """Answered with `status` and {"fault_message": text}."""

    def __init__(self, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.status = status


def lacks(what: str, instead: str = "") -> Fault:
    """For what Firecracker has and Corral has not."""
    return Fault(f"Not supported by Corral: {what}" + (f"; {instead}" if instead else "."))
