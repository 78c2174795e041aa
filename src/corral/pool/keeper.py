"""The keeper of a pool: it has all loaded that a command needs, and forks a worker for each of the next commands."""

from __future__ import annotations

import fcntl
import gc
import json
import os
import signal
import socket
import sys
import time

from corral.core.shell import make_ahead
from corral.core.waiting import READABLE, wait_for
from corral.errors import ConfigError, HostError
from corral.native import lib
from corral.pool import likeness, worker
from corral.pool.place import PoolPlace
from corral.pool.worker import NEWS, WorkerTerms
from corral.voice import Voice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

MOST = 64  # workers that wait
LULL = 0.05  # seconds after a command was taken until a worker is forked in its place, while there are others
BACKLOG = 64


class _Over(Exception):
    """The keeper is asked to end."""


class Keeper:
    """A context manager around a pool at `at` of `size` workers that wait. `main` runs a command's words. Raises
    ConfigError where a pool is there already, HostError."""

    def __init__(self, at: PoolPlace, size: int, main: worker.Main) -> None:
        if not 1 <= size <= MOST:
            raise ConfigError(f"--size {size}: from 1 to {MOST} processes")
        self._at, self._size, self._main = at, size, main
        self._idle: set[int] = set()
        self._pids: dict[int, int] = {}  # of all workers, by a descriptor that tells the end
        self._served, self._left, self._why = 0, 0, ""
        self._due = 0.0

    def __enter__(self) -> Keeper:
        self._lock = os.open(self._at.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise ConfigError("there is a pool already; corral pool stop ends it") from None
        try:
            os.unlink(self._at.socket)  # of one that was killed
        except FileNotFoundError:
            pass
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o177)
        try:
            self._listener.bind(self._at.socket)
        except OSError as error:
            raise HostError(f"cannot make {self._at.socket!r}: {error.strerror}; set XDG_RUNTIME_DIR") from None
        finally:
            os.umask(before)
        self._listener.listen(BACKLOG)
        self._listener.setblocking(False)
        self._news, theirs = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._news, False)
        lifeline, self._life = os.pipe2(os.O_CLOEXEC)
        self._ours = self._news, self._life, self._lock
        like, environment = likeness.of_process(os.getpid()), likeness.of_environment(os.environ)
        parts = self._listener, lifeline, theirs, like, environment, likeness.of_program(), self._main
        self._terms = WorkerTerms(*parts)
        return self

    def __exit__(self, *exception: object) -> None:
        """Workers that wait end; those that have a command go on."""
        os.unlink(self._at.socket)
        os.close(self._life)
        os.close(self._lock)

    def run(self, ready: Callable[[], None]) -> None:
        """Until SIGTERM, SIGINT or SIGHUP. `ready` is called before the first worker is forked, so that none has what
        the caller gives up then; a client that connects from here on is served."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, _end)
        gc.collect()
        gc.freeze()  # what they share with this process stays shared
        self._own = _own_memory()
        try:
            ready()
            self._fill()
            while True:
                watched = dict.fromkeys((self._news, *self._pids), READABLE)
                came = wait_for(watched, self._due or None)
                self._hear()
                for ended in came.keys() - {self._news}:
                    self._reap(ended)
                if not self._idle or (self._due and time.monotonic() >= self._due) or came.keys() - {self._news}:
                    self._fill()
                self._write()
        except _Over:
            pass

    def _fill(self) -> None:
        self._due = 0.0
        while len(self._idle) < self._size:
            keeper = os.getpid()
            pid = os.fork()
            if not pid:
                self._be_worker(keeper)
            self._idle.add(pid)
            self._pids[os.pidfd_open(pid)] = pid
        self._write()

    def _be_worker(self, keeper: int) -> None:
        try:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            for fd in (*self._pids, *self._ours):
                os.close(fd)
            lib.corral_name_thread(b"corral")
            for start, length in self._own:  # now, and not page by page when a command waits for it
                lib.corral_memory_populate(start, length)
            make_ahead()
            worker.work(self._terms)
        finally:
            os._exit(worker.BUG)

    def _hear(self) -> None:
        """All that has come. Each piece of news is written at once, so none comes in parts."""
        while True:
            try:
                pid, why = NEWS.unpack(os.read(self._news, NEWS.size))
            except BlockingIOError:
                return
            if text := why.rstrip(b"\0").decode():
                self._left, self._why = self._left + 1, text
                continue
            self._served += 1
            self._idle.discard(pid)
            self._due = self._due or time.monotonic() + LULL

    def _reap(self, ended: int) -> None:
        pid = self._pids.pop(ended)
        os.close(ended)
        os.waitpid(pid, 0)
        if pid in self._idle:  # before its first command: not to be tried all the time
            self._idle.discard(pid)
            time.sleep(LULL)

    def _write(self) -> None:
        running = len(self._pids) - len(self._idle)
        counts = {"size": self._size, "waiting": len(self._idle), "running": running, "served": self._served}
        text = json.dumps({"pid": os.getpid(), **counts, "left": self._left, "why": self._why}).encode()
        os.pwrite(self._lock, text, 0)
        os.ftruncate(self._lock, len(text))


def _end(number: int, frame: FrameType | None) -> None:
    raise _Over


def _own_memory() -> list[tuple[int, int]]:
    """Address and length of what a child has of this process's memory until either writes there: mappings that are
    mostly in use."""
    found = []
    with open("/proc/self/smaps", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            words = line.split()
            if not words[0].endswith(":"):
                start, end = (int(one, 16) for one in words[0].split("-"))
                writable = words[1] == "rw-p"
            elif words[0] == "Anonymous:" and writable and int(words[1]) * 2048 > end - start:
                found.append((start, end - start))
    return found


def to_null() -> None:
    """Standard descriptors of a keeper in the background, which has said all."""
    for voice in (sys.stdout, sys.stderr):
        voice.flush()
        if isinstance(voice, Voice):
            voice.close()
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    os.close(nothing)
