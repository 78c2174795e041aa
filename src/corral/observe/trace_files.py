"""Traces as files: CSV, the JSON of Chrome's trace viewer and Perfetto, Parquet."""

from __future__ import annotations

from corral.errors import BootError, ConfigError, HostError
from corral.observe.exit_trace import TracedExit
from corral.startup.record import record
from corral.voice import opener

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Protocol, TextIO

    class Writer(Protocol):
        """Takes exits as they come. close() completes the file."""

        def write(self, exit: TracedExit, symbol: str) -> None: ...

        def close(self) -> None: ...


FIELDS = tuple(TracedExit.__annotations__)


def open_writer(path: str) -> Writer:
    """By the name's ending: .csv, .json, .parquet, .svg or .folded. Raises ConfigError, HostError."""
    ending = path.rpartition(".")[2]
    writers: dict[str, Callable[[TextIO], Writer]] = {
        "csv": CsvWriter,
        "json": JsonWriter,
        "svg": lambda file: FlameWriter(file, "svg"),
        "folded": lambda file: FlameWriter(file, "folded"),
    }
    if ending == "parquet":
        return ParquetWriter(path)
    if ending not in writers:
        raise ConfigError(
            f"{path!r}: a trace is a .csv, .json (for Perfetto and chrome://tracing) or .parquet file; "
            "a flame graph of it .svg or .folded"
        )
    try:
        file = open(path, "w", newline="", opener=opener)  # noqa: SIM115  (the writer's, which closes it)
    except OSError as error:
        raise ConfigError(f"cannot write {path!r}: {error.strerror}; name another file") from None
    return writers[ending](file)


class CsvWriter:
    """By hand: no value has a comma or a quote, and the csv module takes 5 ms to import."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        file.write(",".join((*FIELDS, "symbol")) + "\n")

    def write(self, exit: TracedExit, symbol: str) -> None:
        cpl = "" if exit.cpl is None else exit.cpl
        values = [cpl if name == "cpl" else getattr(exit, name) for name in FIELDS]
        self._file.write(",".join(map(str, (*values, symbol))) + "\n")

    def close(self) -> None:
        self._file.close()


class JsonWriter:
    """The Trace Event Format: a row a vCPU, with the time in the guest and each exit after it."""

    def __init__(self, file: TextIO) -> None:
        from json import dumps

        self._dumps = dumps
        self._file = file
        self._start: int | None = None
        file.write('{"displayTimeUnit": "ns", "traceEvents": [')

    def write(self, exit: TracedExit, symbol: str) -> None:
        entered = exit.time - exit.guest_ns
        comma = "" if self._start is None else ","
        self._start = entered if self._start is None else self._start
        arguments = {name: getattr(exit, name) for name in ("by", "size", "count", "cpl")}
        arguments |= {name: f"{getattr(exit, name):#x}" for name in ("rip", "address", "value")} | {"symbol": symbol}
        at = {"ph": "X", "pid": 1, "tid": exit.vcpu}
        guest = {"name": "guest", "cat": "guest", "ts": self._microseconds(entered), "dur": exit.guest_ns / 1e3, **at}
        host = {
            "name": title(exit),
            "cat": exit.reason,
            "ts": self._microseconds(exit.time),
            "dur": exit.host_ns / 1e3,
            **at,
        }
        self._file.write(f"{comma}\n{self._dumps(guest)},\n{self._dumps(host | {'args': arguments})}")

    def close(self) -> None:
        self._file.write("\n]}\n")
        self._file.close()

    def _microseconds(self, ns: int) -> float:
        return (ns - (self._start or 0)) / 1e3


class FlameWriter:
    """A flame graph: which functions left the guest, by which exits, how often."""

    def __init__(self, file: TextIO, form: str) -> None:
        self._file, self._form = file, form
        self._stacks: dict[tuple[str, ...], int] = {}

    def write(self, exit: TracedExit, symbol: str) -> None:
        stack = (symbol.partition("+")[0] or f"{exit.rip:#x}", title(exit))
        self._stacks[stack] = self._stacks.get(stack, 0) + 1

    def close(self) -> None:
        from corral.observe import flame

        with self._file as file:
            if self._form == "svg":
                count = sum(self._stacks.values())
                file.write(flame.svg(self._stacks, f"corral trace: {count} exits", "exits"))
            else:
                file.write(flame.folded(self._stacks))


class ParquetWriter:
    """Through pyarrow, in groups of ROWS rows."""

    ROWS = 65536

    def __init__(self, path: str) -> None:
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError:
            raise HostError("Parquet files need pyarrow; get it: pip install 'corral[trace]'") from None
        types = {int: pyarrow.uint64(), str: pyarrow.string(), bool: pyarrow.bool_()}
        kinds = {"reason": str, "by": str, "symbol": str, "write": bool}
        self._schema = pyarrow.schema([(name, types[kinds.get(name, int)]) for name in (*FIELDS, "symbol")])
        self._table = pyarrow.Table
        try:
            self._file = pyarrow.parquet.ParquetWriter(path, self._schema)
        except OSError as error:
            raise ConfigError(f"cannot write {path!r}: {error}; name another file") from None
        self._rows: list[dict[str, object]] = []

    def write(self, exit: TracedExit, symbol: str) -> None:
        self._rows.append({name: getattr(exit, name) for name in FIELDS} | {"symbol": symbol})
        if len(self._rows) >= self.ROWS:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._file.close()

    def _flush(self) -> None:
        self._file.write_table(self._table.from_pylist(self._rows, schema=self._schema))
        self._rows.clear()


@record(frozen=True)
class Row:
    """An exit with the function that it came from, as a file has it."""

    exit: TracedExit
    symbol: str


def read_csv(path: str) -> Iterator[Row]:
    """What CsvWriter wrote. Raises BootError."""
    import csv

    texts = {"reason", "by", "symbol"}
    try:
        with open(path, newline="") as file:
            for row in csv.DictReader(file):
                values: dict[str, object] = {name: row[name] if name in texts else _value(row[name]) for name in FIELDS}
                yield Row(TracedExit(**values), row["symbol"])  # type: ignore[arg-type]
    except OSError as error:
        raise BootError(f"cannot read {path!r}: {error.strerror}; check the path") from None
    except (KeyError, ValueError, TypeError, csv.Error, UnicodeDecodeError):
        raise BootError(f"{path!r} is no trace; make one: corral trace --out FILE.csv -- boot ...") from None


def _value(text: str) -> int | bool | None:
    if text in ("True", "False"):
        return text == "True"
    return int(text) if text else None


def title(exit: TracedExit) -> str:
    """An exit in a few words: `IO out 0x3f8`."""
    if exit.reason not in ("IO", "MMIO"):
        return exit.reason
    ways = ("in", "out") if exit.reason == "IO" else ("load", "store")
    return f"{exit.reason} {ways[exit.write]} {exit.address:#x}"
