"""corral trace: a boot, with every exit told."""

from __future__ import annotations

import sys
import time

from corral.cli import boot
from corral.cli.options import Command, Option, boot_words, parse, seconds
from corral.config import parse_number
from corral.errors import ConfigError, HostError
from corral.jail import confine
from corral.observe.exit_trace import ExitTrace
from corral.observe.periodic import Periodic
from corral.observe.trace_files import open_writer, read_csv, title

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from corral.machine import Machine
    from corral.observe.exit_trace import TracedExit
    from corral.observe.trace_files import Writer
    from corral.observe.trace_summary import TraceSummary
    from corral.symbols.table import Symbols

COMMAND = Command(
    name="trace",
    summary="""\
Boots a guest as `corral boot` does and records its exits: when, why, which port or address and value, from which
code, how long the guest had run and how long it stayed outside, and who finished it: C, the assist, or Python.
Without --out and --summary it prints them as they come, on standard error.
`corral trace summary FILE.csv` sums up a trace that was kept.""",
    operands=("summary", "FILE"),
    words=("summary",),
    rest="boot ARGUMENTS...",
    options=(
        Option("exit", "REASON", "only these exits: IO, MMIO, HLT, INTERNAL_ERROR ...; may be repeated", short="e"),
        Option("for", "S", "only the first S seconds; the guest goes on"),
        Option(
            "out", "FILE", "a .csv, a .json for Perfetto and chrome://tracing, a .parquet; a flame graph: .svg, .folded"
        ),
        Option("summary", "", "at the end: which exits, which code, how much time"),
        Option("cpl", "", "the privilege level too; it costs as much as all the rest"),
        Option("symbols", "FILE", "a System.map (default: the one beside the kernel, if there is one)"),
        Option("ring", "N", "records a vCPU that wait to be read, a power of two (default: 65536)"),
    ),
    epilog="""\
examples:
  corral trace --summary -- boot -- true                 what a boot to init does
  corral trace -e MMIO -- boot --disk root.img           a disk's registers, live
  corral trace --out boot.json -- boot -- true           then open boot.json in ui.perfetto.dev
  corral trace --out boot.csv -- boot -- true && corral trace summary boot.csv""",
)

_MODULES = ("heapq", "corral.observe.flame")  # that its end needs
_INTERVAL = 0.02  # seconds between looks at the rings: 65,536 records fill in half a second at least


def run(words: list[str]) -> int:
    confine.inherited()
    arguments = parse(COMMAND, words)
    if arguments is None:
        print(COMMAND.help())
        return 0
    if arguments.operands:
        return _summarize(arguments.operands)
    guest = boot_words(arguments, "trace")
    values = arguments.values
    limit = seconds(values["for"], "--for") if "for" in values else None
    size = parse_number(values.get("ring", str(1 << 16)), "--ring")
    reasons = [reason.upper() for reason in arguments.every.get("exit", [])]
    out = values.get("out", "")
    writer = open_writer(out) if out else None
    report = _Report(writer, _summary() if "summary" in values else None, _symbols(values.get("symbols")))

    def watch(machine: Machine) -> _Recorder:
        report.read_symbols(machine.config.kernel)
        return _Recorder(ExitTrace(machine, reasons, size, "cpl" in values), report, limit)

    try:
        return boot.run(guest, watch, _MODULES, "--out FILE.parquet" if out.endswith(".parquet") else "")
    finally:
        if writer:
            _writing(writer.close)


def _summarize(operands: list[str]) -> int:
    if len(operands) != 2 or operands[0] != "summary":
        raise ConfigError("corral trace knows one word: corral trace summary FILE.csv; see its --help")
    summary = _summary()
    for row in read_csv(operands[1]):
        summary.add(row.exit, row.symbol)
    print(summary.text())
    return 0


def _summary() -> TraceSummary:
    from corral.observe.trace_summary import TraceSummary

    return TraceSummary()


def _symbols(path: str | None) -> Symbols | None:
    if path is None:
        return None
    from corral.symbols import table

    return table.read(path)


def _writing(step: Callable[..., object], *arguments: object) -> None:
    try:
        step(*arguments)
    except OSError as error:  # no room, or a pipe whose reader does not read
        raise HostError(f"cannot write the trace: {error.strerror}; make room for it, or name another file") from None


class _Report:
    """Where exits go: a file, a summary, or standard error. Symbols are those given, or the kernel's."""

    def __init__(self, writer: Writer | None, summary: TraceSummary | None, symbols: Symbols | None) -> None:
        self._symbols = symbols
        self._writer, self._summary = writer, summary
        self._start: int | None = None

    def read_symbols(self, kernel: str) -> None:
        """Before the guest runs: from within the jail nothing can be opened."""
        if not self._symbols:
            from corral.symbols.table import of_guest

            self._symbols = of_guest(kernel)

    def tell(self, exit: TracedExit) -> None:
        symbol = self._symbols.text(exit.rip) if self._symbols else ""
        if self._writer:
            _writing(self._writer.write, exit, symbol)
        if self._summary:
            self._summary.add(exit, symbol)
        if not self._writer and not self._summary:
            print(self._line(exit, symbol), file=sys.stderr)

    def end(self, lost: int) -> None:
        if self._summary:
            print(self._summary.text(lost), file=sys.stderr)
        elif lost:
            print(f"corral: {lost} exits found the ring full and were lost; see --ring", file=sys.stderr)

    def _line(self, exit: TracedExit, symbol: str) -> str:
        if self._start is None:
            self._start = exit.time
        cpl = "" if exit.cpl is None else f" cpl {exit.cpl}"
        value = f" = {exit.value:#x}" if exit.size else ""
        count = f" x {exit.count}" if exit.count > 1 else ""
        times = f"guest {exit.guest_ns / 1e3:.1f} us, outside {exit.host_ns / 1e3:.1f} us"
        where = symbol or f"{exit.rip:#x}"
        at = (exit.time - self._start) / 1e9
        return f"{at:11.6f} vcpu{exit.vcpu} {title(exit)}{value}{count} at {where}{cpl}, by {exit.by}; {times}"


class _Recorder:
    """A trace, and a thread that empties its rings from before the guest starts until it has stopped."""

    def __init__(self, trace: ExitTrace, report: _Report, seconds: float | None) -> None:
        self._trace, self._report = trace, report
        self._deadline = None if seconds is None else time.monotonic() + seconds
        self._periodic = Periodic(_INTERVAL, self._step)

    def __enter__(self) -> None:
        self._periodic.start()

    def __exit__(self, *exception: object) -> None:
        with self._trace:
            self._periodic.end()
            self._trace.flush()
            self._read()
            self._report.end(self._trace.lost)

    def _step(self) -> None:
        if self._deadline is not None and time.monotonic() >= self._deadline:
            self._trace.select(())
        self._read()

    def _read(self) -> None:
        for exit in self._trace:
            self._report.tell(exit)
