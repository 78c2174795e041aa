"""corral stat: all that is counted of a guest, in one table."""

from __future__ import annotations

import sys
import time

from corral import voice
from corral.cli import boot
from corral.cli.options import Command, Option, boot_words, parse, seconds
from corral.errors import ConfigError, HostError
from corral.jail import confine
from corral.observe.periodic import Periodic
from corral.observe.tally import Tally, TallyRow, table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

    from corral.machine import Machine

COMMAND = Command(
    name="stat",
    summary="""\
Boots a guest as `corral boot` does and tells at its end what was counted of it: exits by reason and who finished them,
what disks and console did, KVM's own statistics of the VM and each vCPU, and the host's performance counters of their
threads, as far as there are any. What is zero is left out.""",
    rest="boot ARGUMENTS...",
    options=(
        Option("interval", "S", "a table each S seconds too, on standard error", short="i"),
        Option("json", "FILE", "all of it at the end, as JSON"),
        Option("csv", "FILE", "or as CSV"),
    ),
    epilog="""\
examples:
  corral stat -- boot -- true
  corral stat -i 1 -- boot --cpus 4 --disk root.img
  corral stat --json stat.json -- boot -- 'dd if=/dev/zero of=/dev/null count=100000'""",
)

_STEP = 0.01  # seconds between looks whether to tell of it


def run(words: list[str]) -> int:
    confine.inherited()
    arguments = parse(COMMAND, words)
    if arguments is None:
        print(COMMAND.help())
        return 0
    guest = boot_words(arguments, "stat")
    values = arguments.values
    interval = seconds(values["interval"], "--interval") if "interval" in values else None
    files = {form: _open(path) for form, path in values.items() if form in ("json", "csv")}
    return boot.run(guest, lambda machine: _Watch(machine, interval, files), ("json.encoder", "csv"))


class _Watch:
    """Starts the machine paused: the host's counters are opened for threads that are there, before the jail."""

    def __init__(self, machine: Machine, interval: float | None, files: dict[str, TextIO]) -> None:
        self._machine, self._tally = machine, Tally(machine)
        self._interval, self._files = interval, files
        self._before: list[TallyRow] = []
        self._last = time.monotonic()
        self._periodic = Periodic(_STEP, self._step)

    def __enter__(self) -> None:
        for thread in self._machine.threads:
            thread.request_pause()
        self._machine.start()
        self._machine.pause()
        self._tally.step()
        self._periodic.start()

    def __exit__(self, *exception: object) -> None:
        with self._tally as tally:
            self._periodic.end()
            rows = tally.rows()
            print(table(rows, [], tally.seconds), file=sys.stderr)
            for what, why in sorted(tally.missing.items()):
                print(f"not counted: {what}: {why}", file=sys.stderr)
            for form, file in self._files.items():
                _write(rows, tally.seconds, form, file)

    def _step(self) -> None:
        now = time.monotonic()
        if self._interval is not None and now - self._last >= self._interval:
            rows = self._tally.rows()
            print(table(rows, self._before, now - self._last) + "\n", file=sys.stderr)
            self._before, self._last = rows, now


def _open(path: str) -> TextIO:
    """Now: from within the jail nothing can be opened. Raises ConfigError."""
    try:
        return open(path, "w", newline="", opener=voice.opener)
    except OSError as error:
        raise ConfigError(f"cannot write {path!r}: {error.strerror}; name another file") from None


def _write(rows: list[TallyRow], seconds: float, form: str, file: TextIO) -> None:
    try:
        with file:
            if form == "json":
                import json

                fields = ("group", "name", "unit", "total", "per_vcpu", "adds")
                told = [{field: getattr(row, field) for field in fields} for row in rows]
                json.dump({"seconds": seconds, "rows": told}, file, indent=1)
            else:
                import csv

                vcpus = max((len(row.per_vcpu) for row in rows), default=0)
                writer = csv.writer(file)
                writer.writerow(["group", "name", "unit", "total", *(f"vcpu{index}" for index in range(vcpus))])
                writer.writerows([row.group, row.name, row.unit, row.total, *row.per_vcpu] for row in rows)
    except OSError as error:
        raise HostError(f"cannot write {file.name!r}: {error.strerror}; make room for it") from None
