"""A zygote: a process that has Corral loaded, and forks a process for each guest it is asked for.

It is told what to run by lines of JSON at standard input, a Unix socket, and tells there how each guest ended. A guest
is one command of `corral`, in a process and a jail of its own, so nothing of the guest runs in the process that asks.
When that process ends, or closes the socket, the zygote kills its guests and ends.

A request is {"id": N, "words": ["boot", ...], "seconds": S or null, "snapshot": FILE or null}, or {"kill": N}. A
snapshot that is named is read once, for all guests that go on from it. The answer to the first is {"id": N, "status":
the exit status as a shell has it, "out": TEXT, "err": TEXT, "cut": whether some output was dropped, "seconds": S}.
"""

from __future__ import annotations

import gc
import json
import os
import selectors
import signal
import sys
import time

from corral.errors import CorralError
from corral.native import lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, NoReturn

MOST_OUTPUT = 1 << 20  # bytes of each stream that are kept
MOST_REQUEST = 1 << 20  # bytes of a line
_PIECE = 1 << 16
_BUG = 70  # exit status of a process that ends by what it did not expect
_LATE = 5.0  # seconds after its time that a guest's process has to end by itself
# What any guest may need: what a guest's process would import, each would import again.
_LOADED = [
    *("arch", "backends", "boot", "cli", "core", "devices", "files", "guests", "injection", "jail", "kvm", "launch"),
    *("native", "numa", "running", "snapshot"),
]


class _Stream:
    """One output of a guest, as far as it is kept."""

    def __init__(self) -> None:
        self.source, self.theirs = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        os.set_blocking(self.theirs, True)
        self.kept = bytearray()
        self.cut = False

    def take(self) -> bool:
        """A piece of what is there; False at its end, and where there is nothing."""
        try:
            piece = os.read(self.source, _PIECE)
        except BlockingIOError:
            return False
        room = MOST_OUTPUT - len(self.kept)
        self.cut |= len(piece) > room
        self.kept += piece[:room]
        return bool(piece)


class _Child:
    """A guest's process."""

    def __init__(self, number: int, pid: int, streams: tuple[_Stream, _Stream], limit: float | None) -> None:
        self.number, self.pid, self.streams = number, pid, streams
        self.ended = os.pidfd_open(pid)
        self.began = time.monotonic()
        self.until = None if limit is None else self.began + limit + _LATE


class _Server:
    """Requests in, guests, answers out. `main` runs a command of corral's and returns its exit status."""

    def __init__(self, asked: int, main: Any) -> None:
        self._asked, self._main = asked, main
        self._selector = selectors.DefaultSelector()
        self._selector.register(asked, selectors.EVENT_READ)
        self._children: dict[int, _Child] = {}
        self._line = bytearray()
        self._snapshots: set[str] = set()

    def serve(self) -> None:
        """Until the other end of the socket is closed."""
        try:
            while True:
                for key, _ in self._selector.select(self._patience()):
                    if key.fd == self._asked:
                        if not self._read():
                            return
                    elif isinstance(key.data, _Child):
                        self._reap(key.data)
                    elif key.data.source >= 0 and not key.data.take():
                        self._forget(key.data)
                self._kill_late()
        except ConnectionError:
            return  # the process that asks has ended
        finally:
            for child in list(self._children.values()):
                _kill(child.pid)
            for child in self._children.values():
                os.waitpid(child.pid, 0)

    def _patience(self) -> float | None:
        times = [child.until for child in self._children.values() if child.until is not None]
        return max(0.0, min(times) - time.monotonic()) if times else None

    def _kill_late(self) -> None:
        now = time.monotonic()
        for child in self._children.values():
            if child.until is not None and now >= child.until:
                child.until = None
                _kill(child.pid)

    def _read(self) -> bool:
        piece = os.read(self._asked, _PIECE)
        self._line += piece
        *lines, rest = self._line.split(b"\n")
        self._line = bytearray(rest)
        for line in lines:
            self._answer(json.loads(line))
        return bool(piece) and len(self._line) <= MOST_REQUEST

    def _answer(self, request: dict[str, Any]) -> None:
        if "kill" in request:
            if request["kill"] in self._children:
                _kill(self._children[request["kill"]].pid)
            return
        number, seconds = request["id"], request.get("seconds")
        streams: list[_Stream] = []
        self._read_snapshot(request.get("snapshot"))
        try:
            streams += [_Stream(), _Stream()]
            pid = self._fork(request["words"], streams)
            child = _Child(number, pid, (streams[0], streams[1]), seconds)
        except OSError as error:
            for stream in streams:
                os.close(stream.source)
                os.close(stream.theirs)
            self._send({"id": number, "status": 3, "out": "", "err": f"cannot start a process: {error.strerror}"})
            return
        self._children[number] = child
        self._selector.register(child.ended, selectors.EVENT_READ, child)
        for stream in streams:
            os.close(stream.theirs)
            self._selector.register(stream.source, selectors.EVENT_READ, stream)

    def _read_snapshot(self, path: str | None) -> None:
        """What is in it besides memory stays in this process (resumed.py), where forked ones find it."""
        if path is None or path in self._snapshots:
            return
        from corral.snapshot.resumed import Resumed

        self._snapshots.add(path)
        try:
            with Resumed(path) as saved:
                _ = saved.content
        except (CorralError, OSError):
            pass  # the guest's own process tells what is wrong with it

    def _fork(self, words: list[str], streams: Iterable[_Stream]) -> int:
        parent, (output, errors) = os.getpid(), streams
        pid = os.fork()
        if not pid:
            self._be_guest(words, parent, output.theirs, errors.theirs)
        return pid

    def _be_guest(self, words: list[str], parent: int, output: int, errors: int) -> NoReturn:
        """In the child. Whatever happens, nothing of its parent's life goes on here."""
        status = _BUG
        try:
            os.setpgid(0, 0)
            lib.corral_end_with_parent(parent)
            for number in (signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            nothing = os.open(os.devnull, os.O_RDONLY)
            os.dup2(nothing, 0)
            os.dup2(output, 1)
            os.dup2(errors, 2)
            os.closerange(3, os.sysconf("SC_OPEN_MAX"))
            sys.stdin = open(0, closefd=False)  # noqa: SIM115  (for good)
            sys.stdout = open(1, "w", errors="backslashreplace", closefd=False)  # noqa: SIM115
            sys.stderr = open(2, "w", 1, errors="backslashreplace", closefd=False)  # noqa: SIM115
            status = self._main(words, own_process=True)
            sys.stdout.flush()
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(status)

    def _forget(self, stream: _Stream) -> None:
        self._selector.unregister(stream.source)
        os.close(stream.source)
        stream.source = -1

    def _reap(self, child: _Child) -> None:
        self._selector.unregister(child.ended)
        os.close(child.ended)
        _kill(child.pid)  # what it has started, and left
        _, status = os.waitpid(child.pid, 0)
        for stream in child.streams:
            if stream.source >= 0:
                while stream.take():
                    pass
                self._forget(stream)
        del self._children[child.number]
        code = os.waitstatus_to_exitcode(status)
        out, err = (stream.kept.decode("utf-8", "replace") for stream in child.streams)
        self._send(
            {
                "id": child.number,
                "status": 128 - code if code < 0 else code,
                "out": out,
                "err": err,
                "cut": any(stream.cut for stream in child.streams),
                "seconds": round(time.monotonic() - child.began, 6),
            }
        )

    def _send(self, answer: dict[str, Any]) -> None:
        view = memoryview(json.dumps(answer).encode() + b"\n")
        while view:
            view = view[os.write(self._asked, view) :]


def _kill(pid: int) -> None:
    """A guest's process and what it has started: its process group, whose number is not given again before the process
    is waited for."""
    for kill in (os.killpg, os.kill):
        try:
            kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def _load_all() -> None:
    import pkgutil
    from importlib import import_module

    for folder in _LOADED:
        package = import_module(f"corral.{folder}")
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__"):
                import_module(module.name)
    for name in ("corral.machine", "json", "traceback", "subprocess", "tempfile"):
        import_module(name)


def main(command: str) -> None:
    """`command`: the module whose main() runs words, corral.cli."""
    run = __import__(command, fromlist=["main"]).main
    _load_all()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's: for the process that asks
    gc.collect()
    gc.freeze()
    _Server(os.dup(0), run).serve()


if __name__ == "__main__":
    main(sys.argv[1])
