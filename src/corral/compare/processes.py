"""Processes under measurement: what they print and when, and that nothing of them is left."""

from __future__ import annotations

import ctypes
import os
import resource
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from corral.errors import HostError

MOST_OUTPUT = 4 << 20  # bytes of one process; a guest may print without end
PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
PANIC = b"Kernel panic"
FAREWELLS = ("] reboot: ", "corral-status ")
"""What a guest says after all that matters."""
GLANCE = 0.2  # seconds between two looks at what a process complains of


class Failed(Exception):
    """A process that did not do what it was started for; the text is one line for a report."""


Decode = Callable[[int, Sequence[bytes]], int]
"""From an exit status and the lines that were printed to the status of the program that is measured."""


def plain(status: int, lines: Sequence[bytes]) -> int:
    return status


class Measured:
    """A context manager: runs from making to leaving, in a session of its own, pinned to `cpus` from its first step.

    Its standard input is open and silent. `fatal`: words on its standard error with which it is given up, although it
    goes on. `decode` finds the exit status of the program. Times are seconds of CLOCK_MONOTONIC.
    """

    def __init__(
        self,
        argv: Sequence[str],
        cpus: Iterable[int] = (),
        environment: dict[str, str] | None = None,
        fatal: bytes = b"",
        decode: Decode = plain,
    ) -> None:
        self.lines: list[tuple[float, bytes]] = []
        self.status: int | None = None
        self.first_byte: float | None = None
        self.ended: float | None = None
        self._partial = b""
        self._taken = 0
        self._fatal, self._decode = fatal, decode
        self._telling = [fatal, PANIC] if fatal else [PANIC]
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115  (closed with the process)
        before = os.sched_getaffinity(0)
        try:
            os.sched_setaffinity(0, set(cpus) or before)
            self.begun = time.monotonic()
            self._process = subprocess.Popen(
                argv,
                bufsize=0,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._complaints,
                start_new_session=True,
            )
        except OSError as error:
            self._complaints.close()
            raise Failed(f"cannot run {argv[0]}: {error.strerror}") from error
        finally:
            os.sched_setaffinity(0, before)
        self.pid = self._process.pid
        self._pidfd = os.pidfd_open(self.pid)
        assert self._process.stdout is not None
        self._output: int | None = self._process.stdout.fileno()
        os.set_blocking(self._output, False)

    def __enter__(self) -> Measured:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._process.returncode is None:
            for kill in (os.killpg, os.kill):
                try:
                    kill(self.pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream:
                stream.close()
        self._complaints.close()
        os.close(self._pidfd)

    def until(self, wanted: Callable[[bytes], bool], timeout: float) -> float:
        """When the first line came that is `wanted`. Raises Failed: it ended before, or time is over."""
        looked = 0
        deadline = time.monotonic() + timeout
        while True:
            for moment, line in self.lines[looked:]:
                if wanted(line):
                    return moment
            looked = len(self.lines)
            if self.status is not None:
                raise Failed(f"it ended with status {self.status}{self.last_words()}")
            if time.monotonic() > deadline:
                raise Failed(f"it said nothing that was expected for {timeout:.3g} s{self.last_words()}")
            serve([self], GLANCE)

    def finish(self, timeout: float) -> int:
        """Waits for its end, and returns the exit status. Raises Failed when `timeout` seconds are over."""
        deadline = time.monotonic() + timeout
        while self.status is None:
            if time.monotonic() > deadline:
                raise Failed(f"it did not end within {timeout:.3g} s{self.last_words()}")
            serve([self], min(GLANCE, timeout))
        return self.status

    def succeed(self, timeout: float) -> float:
        """Waits for its end and returns the moment. Raises Failed when it was not a success too."""
        if self.finish(timeout) != 0:
            raise Failed(f"it ended with status {self.status}{self.last_words()}")
        assert self.ended is not None
        return self.ended

    def last_words(self) -> str:
        """The last thing that it said, to be put after a sentence; "" when it said nothing."""
        for text in (self._complained(), b"".join(line for _, line in self.lines[-20:])):
            lines = [line.strip() for line in text.decode(errors="replace").splitlines()]
            words = [line for line in lines if line and not any(farewell in line for farewell in FAREWELLS)]
            telling = [line for line in words if any(word in line.encode() for word in self._telling)] or words[-1:]
            if telling:
                return ": " + "".join(character for character in telling[0] if character.isprintable())[:300]
        return ""

    def watch(self, poll: select.poll) -> dict[int, Callable[[], None]]:
        """Registers what tells of this process; returns what is to be called for each descriptor."""
        handlers: dict[int, Callable[[], None]] = {}
        if self._output is not None:
            handlers[self._output] = self._read
        if self.status is None:
            handlers[self._pidfd] = self._reap
        for descriptor in handlers:
            poll.register(descriptor, select.POLLIN)
        return handlers

    def check(self) -> None:
        if self._fatal and self._fatal in self._complained():
            raise Failed(f"it gave up{self.last_words()}")

    def _complained(self) -> bytes:
        size = os.fstat(self._complaints.fileno()).st_size
        return os.pread(self._complaints.fileno(), 1 << 16, max(0, size - (1 << 16)))

    def _read(self) -> None:
        assert self._output is not None
        try:
            data = os.read(self._output, 1 << 16)
        except BlockingIOError:
            return
        moment = time.monotonic()
        self.first_byte = self.first_byte or moment
        self._taken += len(data)
        if not data:
            self._output = None
        elif self._taken <= MOST_OUTPUT:
            *whole, self._partial = (self._partial + data).split(b"\n")
            self.lines += [(moment, line + b"\n") for line in whole]

    def _reap(self) -> None:
        status = self._process.wait()
        self.ended = time.monotonic()
        while self._output is not None and self._readable():
            self._read()
        self.status = self._decode(status, [line for _, line in self.lines])

    def _readable(self) -> bool:
        assert self._output is not None
        return bool(select.select([self._output], [], [], 0)[0])


def serve(processes: Sequence[Measured], timeout: float) -> None:
    """Takes what has come from any of them, or waits for it, at most `timeout` seconds. Raises Failed: see `fatal`."""
    poll = select.poll()
    handlers: dict[int, Callable[[], None]] = {}
    for process in processes:
        handlers |= process.watch(poll)
    ready = poll.poll(timeout * 1000)
    for descriptor, _ in ready:
        handlers[descriptor]()
    if not ready:
        for process in processes:
            process.check()


def descendants(pid: int) -> list[int]:
    """All processes below `pid`, itself not."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:  # it has ended meanwhile
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found, queue = [], [pid]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += below
    return found


class Household:
    """A context manager: whatever was started inside of it, by whomever, has ended when it is left.

    A process whose parent ends becomes ours (a "subreaper"), so none gets away by forking twice. None that crashes
    leaves a core file.
    """

    def __enter__(self) -> Household:
        self._before = set(descendants(os.getpid()))
        self._set(1)
        self._core = resource.getrlimit(resource.RLIMIT_CORE)
        resource.setrlimit(resource.RLIMIT_CORE, (0, self._core[1]))
        return self

    def __exit__(self, *exception: object) -> None:
        while left := set(descendants(os.getpid())) - self._before:
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            for pid in left:
                try:
                    os.waitpid(pid, 0)
                except ChildProcessError:  # its parent is another of them
                    pass
        resource.setrlimit(resource.RLIMIT_CORE, self._core)
        self._set(0)

    def _set(self, value: int) -> None:
        if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, value, 0, 0, 0):
            raise HostError(f"prctl(PR_SET_CHILD_SUBREAPER): {os.strerror(ctypes.get_errno())}")
