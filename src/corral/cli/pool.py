"""corral pool: processes that have Corral loaded, so that a command starts in milliseconds."""

from __future__ import annotations

import os
import sys

from corral import spelling
from corral.cli.options import Command, Option, parse
from corral.config import parse_number
from corral.errors import ConfigError, CorralError, HostError
from corral.pool import place

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal

    from corral.pool.place import PoolPlace
else:
    import _signal as signal  # see cli/terminal.py

SIZE = 2
PATIENCE = 5.0  # seconds that a keeper has to end
REHEARSED = ["boot", "--jail", "off", "--timeout", "60", "--", "true"]
READY = b"r"

COMMAND = Command(
    name="pool",
    summary="""\
  corral pool start      processes of this user's that have Corral loaded, and wait for a command
  corral pool status     whether there are, how many wait, and what they have done
  corral pool stop       ends those that wait; commands that run go on

`corral-client` is `corral`, by a process of the pool: corral-client boot -- true. Where there is none, or
it could not do the same as corral, it is corral. It serves boot, run and exec.""",
    operands=("ACTION",),
    words=("start", "status", "stop"),
    options=(
        Option("size", "N", f"with start: how many wait for a command, 1 to 64 (default: {SIZE})"),
        Option("foreground", "", "with start: in this process, until SIGTERM; for a service manager"),
        Option("json", "", "with status: for programs"),
    ),
    epilog="""\
examples:
  corral pool start --size 4
  corral pool status
  corral pool stop

exit status: 0 done; status: 1 where there is no pool; 2 bad usage; 3 the host lacks something

docs/pool.md has what a command of the pool shares with its client, and when it is left to corral.""",
)


def run(words: list[str]) -> int:
    arguments = parse(COMMAND, words)
    if arguments is None or not arguments.operands:
        print(COMMAND.help())
        return 0 if arguments is None else 2
    action, values = arguments.operands[0], arguments.values
    if action not in COMMAND.words:
        raise ConfigError(f"{spelling.unknown('action of corral pool', action, COMMAND.words)}; see corral pool --help")
    at = place.find()
    if action == "stop":
        return _stop(at)
    if action == "status":
        return _status(at, "json" in values)
    size = parse_number(values.get("size", str(SIZE)), "--size")
    if "foreground" in values:
        return _keep(at, size, None)
    return _start(at, size)


def _status(at: PoolPlace, as_json: bool) -> int:
    facts = place.facts(at)
    if as_json:
        import json

        print(json.dumps(facts))
    elif not facts:
        print("there is no pool; corral pool start makes one")
    else:
        print(f"{facts['waiting']} of {facts['size']} wait, {facts['running']} run a command; {facts['served']} served")
        if facts["left"]:
            print(f"{facts['left']} left to corral, the last for: {facts['why']}")
    return 0 if facts else 1


def _stop(at: PoolPlace) -> int:
    import time

    from corral.core.waiting import READABLE, wait_for

    facts = place.facts(at)
    if not facts:
        print("there is no pool")
        return 0
    try:
        process = os.pidfd_open(facts["pid"])
    except ProcessLookupError:
        return 0
    try:
        if place.facts(at).get("pid") == facts["pid"]:  # its number is still its own
            signal.pidfd_send_signal(process, signal.SIGTERM)
        if not wait_for({process: READABLE}, time.monotonic() + PATIENCE):
            raise HostError(f"the pool's keeper, process {facts['pid']}, does not end; kill it")
    finally:
        os.close(process)
    return 0


def _start(at: PoolPlace, size: int) -> int:
    """In the background."""
    import subprocess

    if place.facts(at):
        raise ConfigError("there is a pool already; corral pool status tells of it, corral pool stop ends it")
    ready, theirs = os.pipe()
    words = [sys.executable, "-P", "-c", f"from corral.cli import pool; pool.begin({size}, {theirs})", at.client]
    try:
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True, pass_fds=[theirs]
        )
    except OSError as error:
        raise HostError(f"cannot start the pool's keeper: {error.strerror}") from None
    finally:
        os.close(theirs)
    if os.read(ready, 1) != READY:
        status = process.wait()  # it has said why
        return status if status > 0 else HostError.exit_status
    return 0


def begin(size: int, ready: int) -> None:
    """The process of a keeper in the background. `ready`: a descriptor that is told when it serves."""
    import gc

    from corral import voice
    from corral.startup import bundle

    gc.set_threshold(20_000)
    bundle.use()
    os.set_inheritable(ready, False)
    try:
        with voice.Speaking():
            status = _keep(place.at(sys.argv[1]), size, ready)
    except CorralError as error:
        print(f"corral: {error}", file=sys.stderr)
        status = error.exit_status
    sys.stderr.flush()
    os._exit(status)


def _keep(at: PoolPlace, size: int, ready: int | None) -> int:
    from corral import cli
    from corral.pool import keeper
    from corral.startup import bundle

    def main(words: list[str]) -> int:
        return cli.main(words, own_process=True)

    def tell() -> None:
        if ready is not None:
            keeper.to_null()
            os.write(ready, READY)
            os.close(ready)

    with keeper.Keeper(at, size, main) as kept:
        if status := _load():
            return status
        bundle.hold()
        os.chdir("/")
        kept.run(tell)
    return 0


def _load() -> int:
    """All that a command of the pool needs, by running one; the second goes on from the boot cache where there is one.
    What the first has to say is said: it may build a kernel. Returns the exit status of one that failed."""
    from corral import cli
    from corral.cli import jail, run, session  # noqa: F401
    from corral.jail import clerk, confine, message  # noqa: F401

    for name in (*jail.AT_THE_END, "corral.cli.forwarded", "corral.cli.run_words", "corral.cli.exec", "traceback"):
        __import__(name)
    mine, nothing = os.dup(0), os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    os.dup2(nothing, 0)
    os.close(nothing)
    try:
        return cli.main(REHEARSED) or cli.main(REHEARSED)
    finally:
        os.dup2(mine, 0)
        os.close(mine)
