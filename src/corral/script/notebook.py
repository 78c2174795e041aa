"""What a machine, and a report of it, show in a notebook."""

from __future__ import annotations

from corral import notebook

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from corral.config import MachineConfig

_SHOWN = 2000  # bytes of the console's end


class ReportText(str):
    """Text for people, in a box of its own in a notebook."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        return notebook.lines(self)


def machine(config: MachineConfig, condition: str, places: Sequence[str], said: bytes) -> str:
    """`places`: where its vCPUs are. `said`: on its console."""
    rows: list[tuple[str, object]] = [
        ("kernel", "/".join(config.kernel.split("/")[-2:])),
        ("memory", f"{config.memory >> 20} MiB"),
        ("vCPUs", config.cpus),
        ("it is", condition),
        *((f"vCPU {index} at", place) for index, place in enumerate(places)),
    ]
    text = said[-_SHOWN:].decode("utf-8", "replace").replace("\r", "")
    return notebook.table(rows) + (notebook.lines(text) if text else "")
