"""corral trace: a boot, with every exit told."""

from __future__ import annotations

import sys
import threading
import time
from contextlib import contextmanager

from corral.cli import boot
from corral.cli.options import Command, Option, parse
from corral.errors import ConfigError
from corral.toolkit import symbols as symbol_files
from corral.toolkit.exit_trace import ExitTrace
from corral.toolkit.trace_files import open_writer, read_csv, title
from corral.toolkit.trace_summary import Summary

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from corral.machine import Machine
    from corral.toolkit.exit_trace import Exit
    from corral.toolkit.symbols import Symbols
    from corral.toolkit.trace_files import Writer

COMMAND = Command(
    name="trace",
    summary="""\
Boots a guest as `corral boot` does and records its exits: when, why, which port or address and value, from which
code, how long the guest had run and how long it stayed outside, and who finished it: C, the assist, or Python.
Without --out and --summary it prints them as they come, on standard error.
`corral trace summary FILE.csv` sums up a trace that was kept.""",
    operands=("summary", "FILE"),
    rest="boot ARGUMENTS...",
    options=(
        Option("exit", "REASON", "only these exits: IO, MMIO, HLT, INTERNAL_ERROR ...; may be repeated", short="e"),
        Option("for", "S", "only the first S seconds; the guest goes on"),
        Option("out", "FILE", "a .csv, a .json for Perfetto and chrome://tracing, or a .parquet file"),
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

_INTERVAL = 0.02  # seconds between looks at the rings: 65,536 records fill in half a second at least


def run(words: list[str]) -> int:
    arguments = parse(COMMAND, words)
    if arguments is None:
        print(COMMAND.help())
        return 0
    if arguments.operands:
        return _summarize(arguments.operands)
    if not arguments.rest or arguments.rest[0] != "boot":
        raise ConfigError("corral trace wants what to boot: corral trace [OPTIONS] -- boot ...; see its --help")
    values = arguments.values
    seconds = boot.seconds(values["for"], "--for") if "for" in values else None
    size = boot.number(values.get("ring", str(1 << 16)), "--ring")
    reasons = [reason.upper() for reason in arguments.every.get("exit", [])]
    writer = open_writer(values["out"]) if "out" in values else None
    summary = Summary() if "summary" in values else None
    report = _Report(writer, summary, symbol_files.Symbols(values["symbols"]) if "symbols" in values else None)

    @contextmanager
    def watch(machine: Machine) -> Iterator[None]:
        report.symbols = report.symbols or symbol_files.of_kernel(machine.config.kernel)
        with ExitTrace(machine, reasons, size, "cpl" in values) as trace:
            reader = _Reader(trace, report, seconds)
            reader.start()
            try:
                yield
            finally:
                reader.end()
                if summary:
                    print(summary.text(trace.lost), file=sys.stderr)
                elif trace.lost:
                    print(f"corral: {trace.lost} exits found the ring full and were lost; see --ring", file=sys.stderr)

    try:
        return boot.run(arguments.rest[1:], watch)
    finally:
        if writer:
            writer.close()


def _summarize(operands: list[str]) -> int:
    if len(operands) != 2 or operands[0] != "summary":
        raise ConfigError("corral trace knows one word: corral trace summary FILE.csv; see its --help")
    summary = Summary()
    for row in read_csv(operands[1]):
        summary.add(row.exit, row.symbol)
    print(summary.text())
    return 0


class _Report:
    """Where exits go: a file, a summary, or standard error."""

    def __init__(self, writer: Writer | None, summary: Summary | None, symbols: Symbols | None) -> None:
        self.symbols = symbols
        self._writer, self._summary = writer, summary
        self._start: int | None = None

    def tell(self, exit: Exit) -> None:
        symbol = self.symbols.text(exit.rip) if self.symbols else ""
        if self._writer:
            self._writer.write(exit, symbol)
        if self._summary:
            self._summary.add(exit, symbol)
        if not self._writer and not self._summary:
            print(self._line(exit, symbol), file=sys.stderr)

    def _line(self, exit: Exit, symbol: str) -> str:
        if self._start is None:
            self._start = exit.time
        cpl = "" if exit.cpl is None else f" cpl {exit.cpl}"
        value = f" = {exit.value:#x}" if exit.size else ""
        count = f" x {exit.count}" if exit.count > 1 else ""
        times = f"guest {exit.guest_ns / 1e3:.1f} us, outside {exit.host_ns / 1e3:.1f} us"
        where = symbol or f"{exit.rip:#x}"
        at = (exit.time - self._start) / 1e9
        return f"{at:11.6f} vcpu{exit.vcpu} {title(exit)}{value}{count} at {where}{cpl}, by {exit.by}; {times}"


class _Reader(threading.Thread):
    """Empties the rings until end()."""

    def __init__(self, trace: ExitTrace, report: _Report, seconds: float | None) -> None:
        super().__init__(name="trace", daemon=True)
        self._trace, self._report = trace, report
        self._deadline = None if seconds is None else time.monotonic() + seconds
        self._over = threading.Event()
        self._failure: BaseException | None = None

    def run(self) -> None:
        try:
            while not self._over.wait(_INTERVAL):
                if self._deadline is not None and time.monotonic() >= self._deadline:
                    self._trace.select(())
                self._read()
        except BaseException as error:
            self._failure = error

    def end(self) -> None:
        """The machine has stopped. Raises what reading failed with."""
        self._over.set()
        self.join()
        if self._failure:
            raise self._failure
        self._trace.flush()
        self._read()

    def _read(self) -> None:
        for exit in self._trace:
            self._report.tell(exit)
