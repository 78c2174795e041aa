"""python -m tests.nested [--cpus N] [--nodes N] -- COMMAND...: runs a command in a nested host."""

from __future__ import annotations

import argparse
import sys

from tests.nested.host import NestedHost


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.nested", description="Run a command in a nested host.")
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--memory", type=int, default=3072, help="MiB")
    parser.add_argument("--nodes", type=int, default=1, help="NUMA nodes")
    parser.add_argument("--timeout", type=float, default=600, help="seconds")
    parser.add_argument("command", nargs="+", metavar="COMMAND")
    options = parser.parse_args()
    with NestedHost(options.cpus, options.memory, options.nodes) as host:
        return host.run(options.command, options.timeout, live=True).status


if __name__ == "__main__":
    sys.exit(main())
