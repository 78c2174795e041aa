"""corral drgn: a guest's kernel in drgn."""

from __future__ import annotations

import sys

from corral.cli import looked_into
from corral.cli.options import Command, Option, parse
from corral.cli.terminal import leave_on_signals
from corral.errors import ConfigError, CorralError, HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral.introspect.subject import Subject

COMMAND = Command(
    name="drgn",
    summary="""\
A Python prompt in which `prog` is the kernel of a guest that runs, or of one that is in a snapshot: drgn's Program,
with its helpers. With SCRIPT, runs that instead. Memory is only read. drgn is a package of its own: corral[introspect].
Types are known once corral kernel debuginfo has been there for the guest's kernel.""",
    operands=("NAME|SNAPSHOT", "SCRIPT"),
    rest="ARGUMENTS of SCRIPT",
    options=(
        Option("exec", "CODE", "run this, in place of a script", short="e"),
        Option("symbols", "VMLINUX", "the kernel's debug information, in place of what the cache has"),
        Option("pause", "", "have the guest stand still meanwhile"),
    ),
    epilog="""\
examples:
  corral drgn web
  corral drgn web -e 'print(prog["init_task"].comm)'
  corral drgn ready.snapshot -e 'for task in for_each_task(): print(task.pid.value_(), task.comm.string_().decode())'
  corral drgn web tasks.py -- --all""",
)


def run(words: list[str]) -> int:
    arguments = parse(COMMAND, words)
    if arguments is None:
        print(COMMAND.help())
        return 0
    source, *script = arguments.operands or [""]
    code = arguments.values.get("exec")
    if not source or len(script) > 1 or (script and code is not None):
        raise ConfigError("corral drgn wants a guest, or a snapshot, and one SCRIPT or --exec at most; see its --help")
    vmlinux = arguments.values.get("symbols")
    leave_on_signals()
    words = [*script, *(arguments.rest or [])]
    if looked_into.is_snapshot(source):
        from corral.introspect.subject import Saved

        if "pause" in arguments.values:
            raise ConfigError("the guest of a snapshot stands still; leave --pause out")
        with Saved(source) as saved:
            return _use(saved.subject, vmlinux, False, words, code)
    from corral.running import control, place, seen

    guest = place.running(source)
    path = guest.path(place.CONTROL)
    pauses = "pause" in arguments.values and control.ask(path, "state") != "paused"
    if pauses:
        control.ask(path, "pause")
    try:
        return _use(seen.of(guest), vmlinux, True, words, code)
    finally:
        if pauses:
            control.ask(path, "resume")


def _use(subject: Subject, vmlinux: str | None, live: bool, script: list[str], code: str | None) -> int:
    from corral.introspect import drgn_program, kernel

    prog = drgn_program.program(kernel.find(subject), vmlinux, live)
    import drgn
    from drgn.cli import default_globals, run_interactive

    drgn.set_default_prog(prog)
    try:
        if code is None and not script:
            run_interactive(prog)
        else:
            _run(prog, default_globals(prog), script, code)
    finally:
        drgn.set_default_prog(None)
    return 0


def _run(prog: Any, names: dict[str, Any], script: list[str], code: str | None) -> None:
    """As drgn itself runs them. An error of the script is told as Python tells it."""
    import traceback

    import drgn

    if code is not None:
        source, path = code, "<string>"
    else:
        path = script[0]
        try:
            with open(path, encoding="utf-8") as file:
                source = file.read()
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            raise ConfigError(f"the script {path!r} cannot be read: {why}") from None
    before, sys.argv = sys.argv, script or ["-c"]
    try:
        exec(compile(source, path, "exec"), names | {"__name__": "__main__", "__file__": path})
    except drgn.FaultError as error:
        raise HostError(f"the guest's memory has nothing there: {error}") from None
    except (SystemExit, KeyboardInterrupt, CorralError, BrokenPipeError):
        raise
    except BaseException as error:
        trace = error.__traceback__
        traceback.print_exception(type(error), error, trace.tb_next if trace else None)
        raise SystemExit(1) from None
    finally:
        sys.argv = before
