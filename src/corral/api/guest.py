"""The guest of an API's process: a process of its own, forked when it is to start, that has the jail and the name.

This side holds a pipe; when that is closed, as when this process is killed, the guest ends. All else is said by the
guest's control socket (running/control.py), which takes the descriptor of a snapshot's file, for the guest's process
can open none.
"""

from __future__ import annotations

import os
import sys
import time

from corral.api.fault import Fault
from corral.api.messages import Answer
from corral.core import waiting
from corral.running import control, place
from corral.running.named import READY
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable
    from typing import NoReturn

    from corral.launch.request import BootRequest
else:
    import _signal as signal

PATIENCE = 5.0  # seconds for a word of its process
ENDING = 0.8  # seconds for it to end by itself
_MOST = 65536  # bytes of why it could not start


@record(frozen=True)
class GuestStart:
    """What the guest's process is to run. `ready` and `lifeline` are its descriptors: on the one it writes READY, at
    the end of the other it ends the guest. `paused`: its CPUs stand still at first. `console`: a file, "" for standard
    output."""

    name: str
    request: BootRequest
    ready: int
    lifeline: int
    paused: bool = False
    console: str = ""


class GuestProcess:
    """`run` is what its process does: it returns an exit status, and tells by `ready` why it could not start. `forget`
    closes there what is this process's alone. `stays`: what it said can be read after its end. Raises HostError,
    ConfigError."""

    def __init__(
        self,
        name: str,
        request: BootRequest,
        run: Callable[[GuestStart], int],
        forget: Callable[[], None],
        paused: bool = False,
        console: str = "",
        stays: bool = True,
    ) -> None:
        self.name, self.paused, self.status, self._stays = name, paused, 0, stays
        self._folder = place.folder(name)
        ready, theirs = os.pipe2(os.O_CLOEXEC)
        lifeline, self._lifeline = os.pipe2(os.O_CLOEXEC)
        self.pid = os.fork()
        if not self.pid:
            os.close(ready)
            os.close(self._lifeline)
            forget()
            _leave(run, GuestStart(name, request, theirs, lifeline, paused, console))
        os.close(theirs)
        os.close(lifeline)
        self._ready = ready
        self.ended = os.pidfd_open(self.pid)  # readable then

    def fileno(self) -> int:
        """Readable when it runs, or cannot."""
        return self._ready

    def started(self) -> None:
        """Once, when fileno() is readable. Raises Fault with why it could not; it is gone then."""
        said = os.read(self._ready, _MOST)
        os.close(self._ready)
        self._ready = -1
        if said != READY:
            self.close()
            raise Fault(said.decode("utf-8", "replace").strip() or f"The guest's process ended with {self.status}.")

    def ask(self, word: str, patience: float = PATIENCE) -> str:
        """Raises CorralError."""
        return control.ask(self.path(place.CONTROL), word, patience)

    def save(self, path: str, patience: float) -> None:
        """A snapshot of it at `path`. Raises CorralError."""
        from corral.snapshot.file import Publishing

        with Publishing(path) as fd:
            control.ask(self.path(place.CONTROL), "snapshot", patience, fd)

    def path(self, file: str) -> str:
        return os.path.join(self._folder, file)

    def close(self) -> None:
        """Ends it, by force after a moment; `status` is its exit status from then on."""
        if self.ended < 0:
            return
        for fd in (self._lifeline, self._ready):
            if fd >= 0:
                os.close(fd)
        self._lifeline = self._ready = -1
        if not waiting.wait_for({self.ended: waiting.READABLE}, time.monotonic() + ENDING):
            signal.pidfd_send_signal(self.ended, signal.SIGKILL)
        _, status = os.waitpid(self.pid, 0)
        self.status = os.waitstatus_to_exitcode(status)
        if self.status < 0:
            self.status = 128 - self.status
        os.close(self.ended)
        self.ended = -1
        if self._stays:
            place.forget(self.name)
        elif os.path.isdir(self._folder):
            place.remove(place.find(self.name))


class Starting:
    """The answer to what starts a guest."""

    def __init__(self, guest: GuestProcess, then: Callable[[GuestProcess | None], object]) -> None:
        """`then` is given the guest when it runs, None when it could not."""
        self._guest, self._then = guest, then

    def fileno(self) -> int:
        return self._guest.fileno()

    def finish(self) -> Answer:
        from corral.api.messages import refusal

        try:
            self._guest.started()
        except Fault as fault:
            self._then(None)
            return refusal(fault)
        self._then(self._guest)
        return Answer()


def _leave(run: Callable[[GuestStart], int], start: GuestStart) -> NoReturn:
    """All of the guest's process. What is above on the stack is the other's, and is not gone back to."""
    status = 1
    try:
        status = _ran(run, start)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except OSError:  # its reader is gone
                status = status or 141
        os._exit(status)


def _ran(run: Callable[[GuestStart], int], start: GuestStart) -> int:
    """The exit status."""
    try:
        return run(start)
    except SystemExit as left:
        return left.code if isinstance(left.code, int) else 1
    except KeyboardInterrupt:
        return 130
