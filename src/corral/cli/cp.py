"""corral cp: files into a guest and out of it."""

from __future__ import annotations

import os
import posixpath
import time

from corral.agent.connection import Refused
from corral.agent.files import GuestFiles
from corral.cli import terminal
from corral.cli.options import Command, parse
from corral.cli.reached import connected
from corral.errors import ConfigError
from corral.printable import printable
from corral.running import place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

COMMAND = Command(
    name="cp",
    summary="""\
Copies a file, or a folder with all that is in it, into a guest or out of it: modes, times, links and holes stay.
A DESTINATION that is a folder gets the copy in it. In the guest files belong to root; here to you, without set-id
bits.""",
    operands=("SOURCE", "DESTINATION"),
    epilog="""\
examples:
  corral cp ./site web:/srv
  corral cp web:/var/log/messages .""",
)
WAIT = 30.0  # seconds that a guest which still boots is waited for
FIRST, BETWEEN = 1.0, 0.2  # seconds until progress is shown, and between two showings


def run(words: list[str]) -> int:
    arguments = parse(COMMAND, words)
    if arguments is None:
        print(COMMAND.help())
        return 0
    if len(arguments.operands) != 2:
        raise ConfigError("corral cp needs a source and a destination: corral cp FILE NAME:PATH")
    terminal.leave_on_signals()
    source, target = map(_parse, arguments.operands)
    if (source[0] is None) == (target[0] is None):
        raise ConfigError(
            "corral cp copies between this host and a guest: one of both is NAME:PATH, and ./a:b is a file"
        )
    guest = place.running(source[0] or target[0] or "", time.monotonic() + WAIT)
    files = GuestFiles(lambda: connected(guest, time.monotonic() + WAIT))
    name = os.path.basename(source[1].rstrip("/"))
    try:
        with terminal.Progress() as progress:
            if target[0] is not None:
                shown = Shown(progress, name, _size_here(source[1]))
                files.upload(source[1], into_guest(files, source[1], target[1]), shown)
            else:
                about = files.stat(source[1])
                shown = Shown(progress, name, None if about.is_folder else about.size)
                files.download(source[1], into_host(source[1], target[1]), shown)
    except Refused as refused:
        raise ConfigError(f"{guest.name}: {source[1] if source[0] else target[1]}: {refused}") from None
    return 0


class Shown:
    """Tells of a copy of `total` bytes, None: not known, that takes over a second."""

    def __init__(
        self, tell: Callable[[str], object], name: str, total: int | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._tell, self._what, self._total, self._clock = tell, printable(f"copying {name}"), total, clock
        self._next = clock() + FIRST

    def __call__(self, size: int) -> None:
        now = self._clock()
        if now < self._next:
            return
        self._next = now + BETWEEN
        if self._total:
            self._tell(f"{self._what}, {min(100, 100 * size // self._total)} %")
        else:
            self._tell(f"{self._what}, {size >> 20} MiB")


def _size_here(path: str) -> int | None:
    """Of a file or a folder; None where that cannot be told."""
    try:
        if not os.path.isdir(path):
            return os.stat(path).st_size
        return sum(os.lstat(os.path.join(at, name)).st_size for at, _, names in os.walk(path) for name in names)
    except OSError:
        return None


def _parse(text: str) -> tuple[str | None, str]:
    """The guest's name, None: this host; and the path."""
    name, colon, path = text.partition(":")
    if not colon or "/" in name or not name:
        return None, text
    if not path:
        raise ConfigError(f"{text!r}: a path follows the colon")
    return name, path


def into_guest(files: GuestFiles, source: str, target: str) -> str:
    """Where the copy is: in `target` if that is a folder there."""
    try:
        is_folder = files.list(target) is not None
    except Refused:
        is_folder = False
    if target.endswith("/") and not is_folder:
        raise ConfigError(f"{target!r} is no folder of the guest")
    return posixpath.join(target, os.path.basename(os.path.abspath(source))) if is_folder else target


def into_host(source: str, target: str) -> str:
    name = posixpath.basename(source.rstrip("/"))
    if os.path.isdir(target):
        if name in ("", ".", ".."):
            raise ConfigError(f"{source!r} has no name; name the destination in full")
        return os.path.join(target, name)
    if target.endswith("/"):
        raise ConfigError(f"{target!r} is no folder")
    return target
