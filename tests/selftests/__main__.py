"""Linux's own selftests in guests, and on the host: the verdict of each, and a table of them all. One more is ours:
`forbidden` tries what a kernel keeps its programs from (tests/kvm/test_isolation.py says what each attempt must give).

A guest runs one after the other; where one ends the guest, the next begin in another guest.
"""

from __future__ import annotations

import argparse
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from corral.guests import kernel
from tests.kvm import test_isolation
from tests.nested.host import HostDied, NestedHost
from tests.selftests import build
from tests.support.guest_tools import initramfs_with

# A command and its limit in seconds; what it prints, and what has ended before the last test did.
Run = Callable[[list[str], float], tuple[str, str]]
START = 120.0  # seconds for a guest's own start, and its end
SKIPPED = 4  # kselftest.h: KSFT_SKIP
BOOT = (sys.executable, "-m", "corral", "boot", "--fresh")
MARK = "verdict-of"
OURS = "forbidden"


def with_programs(paths: list[Path], cpus: int) -> list[str]:
    """The command that boots the small kernel with them; "--" and a script can follow."""
    initrd = initramfs_with([str(path) for path in paths])
    return [*BOOT, "--cpus", str(cpus), "--initrd", initrd, kernel.get("small").path]


def script(names: list[str], limit: int) -> str:
    """For a shell: each test, and a line with its status."""
    run = f"timeout -s KILL {limit} $*"
    function = f"t() {{ case $1 in {OURS}) {run};; *) {run} >o 2>&1;; esac; echo {MARK} $1 $?; }}"
    return "; ".join(
        ("cd /tmp", function, *(shlex.join(("t", name, *build.ARGUMENTS.get(name, ()))) for name in names))
    )


def verdict(status: int) -> str:
    if status == 0:
        return "passes"
    if status == SKIPPED:
        return "skipped"
    if status == 128 + signal.SIGKILL:
        return "not finished"
    return signal.Signals(status - 128).name if status > 128 else "fails"


def heard(said: str) -> dict[str, str]:
    found = re.findall(rf"^{MARK} (\S+) (\d+)\r?$", said, re.MULTILINE)
    verdicts = {name: verdict(int(status)) for name, status in found}
    if verdicts.get(OURS) == "passes":
        try:
            test_isolation.check(said)
        except AssertionError as error:
            verdicts[OURS] = f"fails: {str(error).splitlines()[0]}"
    return verdicts


def in_guests(names: list[str], run: Run, command: list[str], limit: int, progress: str) -> dict[str, str]:
    """Verdicts, where `run` runs `command` and a script."""
    verdicts: dict[str, str] = {}
    while left := [name for name in names if name not in verdicts]:
        said, ended = run([*command, script(left, limit)], START + limit * len(left))
        verdicts |= heard(said)
        died = next((name for name in left if name not in verdicts), None)
        if died:
            verdicts[died] = ended
        print(f"{progress}: {len(verdicts)} of {len(names)}", file=sys.stderr, flush=True)
    return verdicts


def here(command: list[str], limit: float) -> tuple[str, str]:
    pipes = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True, "errors": "replace"}
    try:
        done = subprocess.run(command, timeout=limit, check=False, **pipes)  # type: ignore[call-overload]
        return str(done.stdout), "the guest ends"
    except subprocess.TimeoutExpired as over:
        return (over.stdout or b"").decode(errors="replace"), "the guest hangs"


def in_a_nested_host(command: list[str], limit: float) -> tuple[str, str]:
    try:
        with NestedHost() as host:
            return host.run(command, limit).stdout, "the guest ends"
    except HostDied as error:
        print(error, file=sys.stderr)
        return str(error), "the emulated host ends"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.selftests", description=__doc__.splitlines()[0])
    wheres = ("host", "natively", "interpreted", "nested")
    parser.add_argument("--where", default=",".join(wheres), help="of these, with commas (default: %(default)s)")
    parser.add_argument("--limit", type=int, default=60, help="seconds for each test (default: %(default)s)")
    parser.add_argument("--cpus", type=int, default=1, help="of the guests")
    parser.add_argument("names", nargs="*", metavar="TEST", help="these only")
    options = parser.parse_args()

    programs = build.programs()
    names = options.names or list(programs)
    if missing := [name for name in names if name not in programs]:
        parser.error(f"no {', '.join(missing)}; there are {' '.join(programs)}")
    guest = with_programs([programs[name] for name in names], options.cpus)
    path = f"PATH={Path(next(iter(programs.values()))).parent}:$PATH"
    ways: dict[str, tuple[Run, list[str]]] = {
        "host": (here, ["sh", "-c", f'{path}; eval "$1"', "sh"]),
        "natively": (here, [*guest, "--"]),
        "interpreted": (here, [*guest, "--append", "nonative", "--"]),
        "nested": (in_a_nested_host, [*guest, "--"]),
    }
    chosen = options.where.split(",")
    if unknown := set(chosen) - set(ways):
        parser.error(f"no {', '.join(unknown)}; there are {', '.join(ways)}")
    table = {where: in_guests(names, *ways[where], options.limit, where) for where in chosen}
    print("| selftest | " + " | ".join(chosen) + " |")
    print("|---" * (len(chosen) + 1) + "|")
    for name in names:
        print(f"| `{name}` | " + " | ".join(table[where][name] for where in chosen) + " |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
