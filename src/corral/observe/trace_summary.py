"""A trace in one screen: which exits, which code, how much time."""

from __future__ import annotations

from corral.observe.trace_files import title

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from corral.observe.exit_trace import TracedExit

ROWS = 12  # of each table


class TraceSummary:
    """Add exits, then take the text."""

    def __init__(self) -> None:
        self._tables: dict[str, dict[str, list[int]]] = {}
        self._guest = self._host = self._count = 0

    def add(self, exit: TracedExit, symbol: str) -> None:
        self._count += 1
        self._guest += exit.guest_ns
        self._host += exit.host_ns
        self._add("exit", f"{title(exit)} ({exit.by})", exit)
        self._add("function", symbol.partition("+")[0] or "(no symbols)", exit)

    def text(self, lost: int = 0) -> str:
        lines = [f"{self._count} exits; {self._guest / 1e9:.3f} s in the guest, {self._host / 1e9:.3f} s outside of it"]
        if lost:
            lines.append(f"{lost} more found the ring full and are not counted here")
        for name, table in self._tables.items():
            lines += ["", f"{'count':>9}{'outside ms':>12}{'mean us':>12}{'guest ms':>12}  {name}"]
            order: Callable[[tuple[str, list[int]]], int] = lambda item: -item[1][1]  # noqa: E731
            for key, (count, host, guest) in sorted(table.items(), key=order)[:ROWS]:
                mean = host / count / 1e3
                lines.append(f"{count:9}{host / 1e6:12.2f}{mean:12.2f}{guest / 1e6:12.2f}  {key}")
            if len(table) > ROWS:
                lines.append(f"{'':45}  and {len(table) - ROWS} more")
        return "\n".join(lines)

    def _add(self, table: str, key: str, exit: TracedExit) -> None:
        row = self._tables.setdefault(table, {}).setdefault(key, [0, 0, 0])
        row[0] += 1
        row[1] += exit.host_ns
        row[2] += exit.guest_ns
