"""System calls summed up: how often, how long, how many failed."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from corral.debug.probes.syscall import Syscall

_LAST_ERRNO = 4095


class Summary:
    def __init__(self, calls: Iterable[Syscall] = ()) -> None:
        self._rows: dict[str, list[int]] = {}  # by name: calls, ns, errors
        for call in calls:
            self.add(call)

    def add(self, call: Syscall) -> None:
        row = self._rows.setdefault(call.name, [0, 0, 0])
        row[0] += 1
        row[1] += call.duration or 0
        row[2] += call.result is not None and -_LAST_ERRNO <= call.result < 0

    def rows(self) -> list[tuple[str, int, int, int]]:
        """Name, calls, ns in all, errors: the longest time first."""
        return sorted(((name, *row) for name, row in self._rows.items()), key=lambda row: (-row[2], row[0]))  # type: ignore[misc]

    def text(self) -> str:
        lines = [f"{'system call':<20} {'calls':>9} {'errors':>7} {'total ms':>10} {'us each':>9}"]
        for name, count, took, errors in self.rows():
            lines.append(f"{name[:20]:<20} {count:>9} {errors:>7} {took / 1e6:>10.1f} {took / 1e3 / count:>9.1f}")
        return "\n".join(lines)
