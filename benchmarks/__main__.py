"""python -m benchmarks [NAME...] [--json]: all of them, or those named. Exit status 1: a figure was not met."""

from __future__ import annotations

import importlib
import sys

NAMES = [
    "startup",
    "api",
    "exits",
    "native_probe",
    "serial",
    "channel",
    "inside",
    "dataplane",
    "blk",
    "net",
    "footprint",
    "boot",
    "native",
    "restore",
    "reset",
    "fuzzing",
    "store",
    "run",
    "introspect",
    "disk_boot",
    "fio",
    "fio_share",
    "copies",
    "share",
    "smp",
    "traced",
    "probes",
    "login",
    "compute",
    "numa",
]
APART = ["fleet"]  # by name only: it wants Ray


def main() -> int:
    if {"-h", "--help"} & set(sys.argv):
        print(f"{__doc__}\n\n{' '.join(NAMES)}\nby name only: {' '.join(APART)}")
        return 0
    chosen = [word for word in sys.argv[1:] if not word.startswith("--")] or NAMES
    for name in chosen:
        if name not in NAMES + APART:
            print(f"there is no benchmark {name!r}; there are {', '.join(NAMES + APART)}", file=sys.stderr)
            return 2
    met = [importlib.import_module(f"benchmarks.{name}").main() for name in chosen]
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
