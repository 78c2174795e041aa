"""The jail of a guest that a program in Python drives: corral.Machine(config, jail=True, allow=("files:/srv/x",)).

The process is the program's. What it gives up when the machine starts it never has again: it opens the files that
`allow` names and no others, connects to nothing, starts no program, and imports no module that it has not by then,
unless `allow` has "imports". Another machine needs another process.
"""

from __future__ import annotations

import os
import sys

from corral.errors import ConfigError, HostError
from corral.jail import confine
from corral.native import lib
from corral.startup import bundle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

READ, WRITE, IMPORTS = "files:", "files-rw:", "imports"
REPORT = "report"
# What a machine's methods import when they are called.
MODULES = (
    "corral.debug.breakpoints",
    "corral.debug.debugger",
    "corral.debug.disassembly",
    "corral.debug.next_instruction",
    "corral.debug.report.full",
    "corral.debug.traps",
    "corral.observe.profiler",
    "corral.observe.tally",
    "corral.os_errors",
    "corral.snapshot.resumed",
    "corral.symbols.table",
    "difflib",
    "encodings.idna",
    "heapq",
    "json",
    "linecache",
    "traceback",
)

_entered = False  # by this process, for good


def wanted(word: bool | str, allow: Sequence[str]) -> ScriptJail | None:
    """For a machine that is to be made; None: without. Raises ConfigError, and HostError in a process whose jail is
    closed."""
    if _entered:
        raise HostError("this process is in the jail of an earlier machine and can make no other; start a new process")
    if allow and not word:
        raise ConfigError("allow= is of a jail; add jail=True")
    return ScriptJail(word, allow) if word else None


class ScriptJail:
    """`word`: True, or "report", which tells on standard error what would be refused, and refuses nothing. Raises
    ConfigError."""

    def __init__(self, word: bool | str, allow: Sequence[str]) -> None:
        if word not in (True, REPORT):
            raise ConfigError(f"jail={word!r} is none of True, False, {REPORT!r}")
        self._reports = word == REPORT
        self._paths: list[tuple[str, bool]] = []  # and whether what is there may be changed
        self.allow(allow)

    def allow(self, words: Sequence[str]) -> None:
        """Before the machine starts. Raises ConfigError."""
        if isinstance(words, str):
            raise ConfigError(f"allow={words!r}: write it as a tuple, like allow=({words!r},)")
        if words and _entered:
            raise ConfigError(f"allow={words!r}: the jail is closed; a device that needs it comes before the start")
        for word in words:
            self._paths += _paths(word)

    def enter(self, read: Callable[[], object]) -> None:
        """When the machine has been built and has not started; `read` is done before. Raises ConfigError, HostError."""
        global _entered
        read()
        for name in MODULES:
            __import__(name)
        bundle.hold()
        kind: int = lib.CORRAL_JAIL_FILES if self._paths else lib.CORRAL_JAIL_SCRIPT
        if self._reports:
            confine.report(kind)
            return
        opened = []
        try:
            for path, writes in self._paths:
                opened.append((_open(path), writes))
            confine.prepare_network()
            confine.leave_namespaces()
            _entered = True
            confine.enter((), kind, opened)
        finally:
            for fd, _ in opened:
                os.close(fd)


def _paths(word: str) -> list[tuple[str, bool]]:
    if word == IMPORTS:
        return [(path, False) for path in dict.fromkeys(map(os.path.abspath, sys.path)) if os.path.exists(path)]
    for begin, writes in ((WRITE, True), (READ, False)):
        if word.startswith(begin) and len(word) > len(begin):
            return [(word.removeprefix(begin), writes)]
    raise ConfigError(f"allow={word!r}: write {READ}/PATH, {WRITE}/PATH or {IMPORTS}")


def _open(path: str) -> int:
    try:
        return os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", error)
        raise ConfigError(f"allow: {path!r}: {why}; what is allowed is there before the machine starts") from None
