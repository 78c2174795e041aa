"""The side of a guest's own process: its name is taken, and what it says is kept, until it ends."""

from __future__ import annotations

import fcntl
import json
import mmap
import os
import select
import time

from corral.errors import ConfigError, CorralError
from corral.running import place
from corral.running.control import Control
from corral.running.ring import Ring

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral.backends.console import Console
    from corral.machine import Machine
    from corral.running.control import Streams

READY = b"ready\n"
_PIECE = 65536  # bytes of a command's output that are taken at a time
VARIABLE = "CORRAL_BACKGROUND"  # of the environment: the descriptor that is told of readiness, and that of a lifeline


class Background:
    """What a process that was started for a guest alone was given by who started it."""

    def __init__(self, ready: int, lifeline: int | None) -> None:
        # New numbers: those that were there at the start are closed when the jail is, and not before, for then others
        # would have them.
        for fd in (ready, lifeline):
            if fd is not None:
                os.set_inheritable(fd, False)
        self._ready = os.dup(ready)
        self.lifeline = None if lifeline is None else os.dup(lifeline)

    def tell(self) -> None:
        """The guest begins."""
        os.write(self._ready, READY)
        os.close(self._ready)


def background() -> Background | None:
    """None: a person or a script started it."""
    given = os.environ.pop(VARIABLE, "")
    if not given:
        return None
    numbers = [int(number) for number in given.split(",")]
    return Background(numbers[0], numbers[1] if len(numbers) > 1 else None)


def _mapped(path: str) -> mmap.mmap:
    """A small file of zeros to write to by memory: in the jail no file may grow."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(fd, place.STATUS_SIZE)
        return mmap.mmap(fd, place.STATUS_SIZE)
    finally:
        os.close(fd)


class Named:
    """A context manager around a guest's life. Raises ConfigError where another guest has the name."""

    def __init__(self, name: str, words: list[str], lifeline: int | None = None) -> None:
        self.name = name
        self.folder = place.folder(name)
        self._lock = self._take(name)
        self.status = 1
        for left in os.listdir(self.folder):  # of one that has ended
            if left != place.LOCK and not left.startswith(place.SAID):
                os.unlink(os.path.join(self.folder, left))
        self._status = _mapped(self._path(place.STATUS))
        self._ring = Ring(self._path(place.CONSOLE))
        self._control = Control(self._path(place.CONTROL), lifeline)
        self._control.tail = lambda: self._last
        self._last = b""
        self._log = -1  # what a command writes that has no console
        self._about: dict[str, Any] = {"pid": os.getpid(), "began": time.time(), "words": words}

    def _take(self, name: str) -> int:
        try:
            os.mkdir(self.folder, 0o700)
        except FileExistsError:
            pass
        path = os.path.join(self.folder, place.LOCK)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.stat(path).st_ino != os.fstat(fd).st_ino:
                raise BlockingIOError
        except (BlockingIOError, FileNotFoundError):
            os.close(fd)
            raise ConfigError(
                f"there is a guest {name!r} already; give this one another name, or corral stop {name}"
            ) from None
        return fd

    def _path(self, name: str) -> str:
        return os.path.join(self.folder, name)

    @property
    def vsock(self) -> str:
        return self._path(place.VSOCK)

    def open_log(self) -> int:
        """A descriptor to write to, the caller's, for what is to be kept as the console's words are."""
        self._log, end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        return end

    def attach(
        self,
        machine: Machine,
        console: Console,
        streams: dict[bytes, Streams] | None = None,
        *,
        paused: bool = False,
    ) -> None:
        """Before the machine runs. `streams`: what its clients may have told, as control.Control has it. `paused`: its
        vCPUs stand still until a client says `resume`."""
        self._about |= {"memory": machine.config.memory, "cpus": machine.config.cpus, "kernel": machine.config.kernel}
        with open(self._path(place.ABOUT), "w", encoding="utf-8") as file:
            json.dump(self._about, file)
        if any(one.module == "net" for one in machine.config.others):
            from corral.running.cards import Cards  # now, since in the jail it cannot be

            self._control.words |= Cards(machine).words
        else:
            self._control.words[b"net"] = lambda _: '{"changes": 0, "cards": []}'
        from corral.running.looking import Looked
        from corral.snapshot import resumed

        looked = Looked(machine, self._control)
        self._control.words |= looked.words
        self._control.file_words |= looked.file_words
        resumed.prepare(machine)
        self._control.streams = streams or {}
        if paused:
            machine.pause()
        self._control.machine, self._control.paused = machine, paused
        console.beside = self

    # What a console has of it (backends/console.py).

    def watched(self) -> dict[int, int]:
        watched = self._control.watched()
        if self._log >= 0:
            watched[self._log] = select.POLLIN
        return watched

    def serve(self, ready: dict[int, int]) -> bytes:
        if self._log in ready:
            self._take_log()
        return self._control.serve(ready)

    def _take_log(self) -> bool:
        """False: there is nothing at present."""
        try:
            data = os.read(self._log, _PIECE)
        except BlockingIOError:
            return False
        if not data:  # its other end is closed
            os.close(self._log)
            self._log = -1
        self.show(data)
        return bool(data)

    def show(self, data: bytes) -> None:
        self._ring.write(data)
        self._last = (self._last + data)[-4096:]
        self._control.show(data)

    def __enter__(self) -> Named:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        status = self.status
        if isinstance(error, SystemExit):
            status = error.code if isinstance(error.code, int) else 1
        elif isinstance(error, CorralError):
            status = error.exit_status
        elif isinstance(error, KeyboardInterrupt):
            status = 130
        elif error is not None:
            status = 1
        while self._log >= 0 and self._take_log():
            pass
        if self._log >= 0:
            os.close(self._log)
        self._control.close()
        text = b"%d\n" % status
        self._status[: len(text)] = text
        self._status.close()
        self._ring.close()
        os.close(self._lock)
