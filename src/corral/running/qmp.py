"""A part of QEMU's machine protocol (QMP) for a guest that has a name, so that tools which know QEMU look into it.

A session has one client's bytes in and out, and no descriptor of the client: cli/qmp.py moves them. What a client says
is hostile: a command is at most LONGEST bytes, an answer at most some hundred KiB, and one follows the other.
"""

from __future__ import annotations

import json
import os
import time

from corral import __version__, os_errors
from corral.arch.x86_64 import page_walk
from corral.errors import ConfigError, CorralError
from corral.introspect import core_dump, core_file
from corral.introspect.subject import Subject, tables
from corral.memory import GuestMemoryError
from corral.running import control, monitor, place, seen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from corral.running.place import RunningGuest

LONGEST = 1 << 16  # bytes of a command
_PIECE = 1 << 20  # bytes of memory that are written to a file at a time
_VERSION = (7, 2, 0)  # QEMU's whose answers these are like
_MOST_FILES = 8  # descriptors that a client hands over and that are not used yet
_LOCATION = "file:", "fd:"

Arguments = dict[str, "Any"]


class _Refused(Exception):
    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class QmpSession:
    """Of one client with `guest`. `power_down` asks it to shut down; `quit` ends it."""

    def __init__(self, guest: RunningGuest, power_down: Callable[[], None], quit: Callable[[], None]) -> None:
        self._guest, self._path = guest, guest.path(place.CONTROL)
        self._came = b""
        self._ready = False
        self._files: dict[str, int] = {}
        self._handed: list[int] = []
        self.over = False  # it is to be closed when all is sent
        self._commands: dict[str, Callable[[Arguments], Any]] = {
            "qmp_capabilities": self._capabilities,
            "query-commands": lambda _: [{"name": name} for name in sorted(self._commands)],
            "query-version": lambda _: _version(),
            "query-status": lambda _: self._status(),
            "query-name": lambda _: {"name": guest.name},
            "query-target": lambda _: {"arch": "x86_64"},
            "query-kvm": lambda _: {"enabled": True, "present": True},
            "query-cpus-fast": lambda _: self._cpus(),
            "query-memory-size-summary": lambda _: {"base-memory": self._memory_size(), "plugged-memory": 0},
            "stop": lambda _: self._told("pause"),
            "cont": lambda _: self._told("resume"),
            "system_powerdown": lambda _: power_down(),
            "quit": lambda _: self._quit(quit),
            "human-monitor-command": self._monitor,
            "dump-guest-memory": self._dump,
            "pmemsave": self._save_physical,
            "memsave": self._save_linear,
            "getfd": self._take_file,
            "closefd": self._close_file,
        }

    def close(self) -> None:
        for fd in (*self._files.values(), *self._handed):
            os.close(fd)
        self._files, self._handed = {}, []

    def greeting(self) -> bytes:
        return _line({"QMP": {"version": _version(), "capabilities": []}})

    def take(self, data: bytes, files: list[int]) -> None:
        """What a client has said, and descriptors that came with it, which are the session's from here on."""
        self._handed += files
        self._came += data
        while len(self._handed) > _MOST_FILES:
            os.close(self._handed.pop(0))

    def answer(self) -> bytes:
        """To the next command; b"" when there is none. One at a time, so that a client has to take what it asks for."""
        command = None if self.over else self._next()
        return b"" if command is None else self._answer(command)

    def _next(self) -> bytes | None:
        """A command that is whole: a line, or an object that ends with what has come."""
        line, newline, rest = self._came.partition(b"\n")
        if newline:
            self._came = rest
            return line if line.strip() else self._next_line()
        if self._came.rstrip().endswith(b"}") and _is_json(self._came):
            line, self._came = self._came, b""
            return line
        if len(self._came) > LONGEST:
            self.over = True
            return self._came
        return None

    def _next_line(self) -> bytes | None:
        while self._came[:1].isspace():
            self._came = self._came.lstrip()
        return self._next() if self._came else None

    def _answer(self, command: bytes) -> bytes:
        identity: Arguments = {}
        try:
            if len(command) > LONGEST:
                self.over = True
                raise _Refused("GenericError", f"a command has at most {LONGEST} bytes")
            name, arguments, identity = _parsed(command)
            done = self._execute(name, arguments)
            return _line({"return": {} if done is None else done} | identity) + self._event(name)
        except _Refused as refused:
            kind, text = refused.kind, str(refused)
        except (CorralError, OSError) as error:
            kind, text = "GenericError", os_errors.text(error, "") if isinstance(error, OSError) else str(error)
        return _line({"error": {"class": kind, "desc": text}} | identity)

    def _execute(self, name: str, arguments: Arguments) -> Any:
        if not self._ready and name != "qmp_capabilities":
            raise _Refused("CommandNotFound", "Expecting capabilities negotiation with 'qmp_capabilities'")
        if name not in self._commands or (self._ready and name == "qmp_capabilities"):
            raise _Refused("CommandNotFound", f"The command {name} has not been found")
        return self._commands[name](arguments)

    def _event(self, name: str) -> bytes:
        event = {"stop": "STOP", "cont": "RESUME", "system_powerdown": "POWERDOWN", "quit": "SHUTDOWN"}.get(name)
        if event is None:
            return b""
        seconds, rest = divmod(time.time_ns(), 1_000_000_000)
        data = {"data": {"guest": False, "reason": "host-qmp-quit"}} if name == "quit" else {}
        return _line({"timestamp": {"seconds": seconds, "microseconds": rest // 1000}, "event": event} | data)

    # Commands.

    def _capabilities(self, _: Arguments) -> None:
        self._ready = True

    def _told(self, word: str) -> None:
        control.ask(self._path, word)

    def _quit(self, quit: Callable[[], None]) -> None:
        self.over = True
        quit()

    def _status(self) -> Arguments:
        paused = control.ask(self._path, "state") == "paused"
        return {"status": "paused" if paused else "running", "running": not paused, "singlestep": False}

    def _seen(self) -> Subject:
        return seen.of(self._guest)

    def _cpus(self) -> list[Arguments]:
        return [
            {"cpu-index": number, "thread-id": self._guest.pid, "target": "x86_64", "qom-path": f"/machine/cpu{number}"}
            for number in range(len(self._seen().vcpus))
        ]

    def _memory_size(self) -> int:
        return sum(size for _, size in self._seen().memory.regions)

    def _monitor(self, arguments: Arguments) -> str:
        number = _number(arguments, "cpu-index", 0)
        return monitor.answer(self._seen(), _text(arguments, "command-line"), number, self._status()["status"])

    def _dump(self, arguments: Arguments) -> None:
        """All of RAM, or with `begin` and `length` some of it."""
        if arguments.get("format", "elf") != "elf":
            raise _Refused("GenericError", "only the format elf is written")
        if arguments.get("paging"):
            raise _Refused("GenericError", "paging is not done; leave it false")
        where = _text(arguments, "protocol")
        some = None
        if "begin" in arguments or "length" in arguments:
            some = _number(arguments, "begin"), _number(arguments, "length")
        if where.startswith(_LOCATION[0]):
            with core_dump.publishing(where.removeprefix(_LOCATION[0])) as fd:
                self._dump_into(fd, some)
        elif where.startswith(_LOCATION[1]):
            fd = self._file(where.removeprefix(_LOCATION[1]))
            try:
                self._dump_into(fd, some)
            finally:
                os.close(fd)
        else:
            raise _Refused("GenericError", "the protocol is file:PATH or fd:NAME")

    def _dump_into(self, fd: int, some: tuple[int, int] | None) -> None:
        if some is None:
            seen.write_core(self._guest, fd)
            return
        now = self._seen()
        now.memory.offset(*some)
        head = core_file.head(now.vcpus, now.memory.regions, core_dump.kernel_of(now), some)
        _write(fd, head)
        self._copy(fd, now, some[0], some[1])

    def _copy(self, fd: int, now: Subject, gpa: int, length: int) -> None:
        for at in range(gpa, gpa + length, _PIECE):
            _write(fd, now.memory.read(at, min(_PIECE, gpa + length - at)))

    def _save_physical(self, arguments: Arguments) -> None:
        gpa, length, path = (_number(arguments, "val"), _number(arguments, "size"), _text(arguments, "filename"))
        now = self._seen()
        now.memory.offset(gpa, length)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY, 0o600)
        try:
            self._copy(fd, now, gpa, length)
        finally:
            os.close(fd)

    def _save_linear(self, arguments: Arguments) -> None:
        """By the page tables of a vCPU."""
        address, length, path = (_number(arguments, "val"), _number(arguments, "size"), _text(arguments, "filename"))
        now, number = self._seen(), _number(arguments, "cpu-index", 0)
        if number >= len(now.vcpus):
            raise _Refused("GenericError", f"the guest has {len(now.vcpus)} vCPUs, numbered from 0")
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY, 0o600)
        try:
            for at in range(address, address + length, _PIECE):
                size = min(_PIECE, address + length - at)
                data = page_walk.read(now.memory, tables(now.vcpus[number]), at, size)
                if len(data) < size:
                    raise GuestMemoryError(f"Invalid addr {at + len(data):#018x}/size {length} specified")
                _write(fd, data)
        finally:
            os.close(fd)

    def _take_file(self, arguments: Arguments) -> None:
        name = _text(arguments, "fdname")
        if not self._handed:
            raise _Refused("GenericError", "No file descriptor supplied via SCM_RIGHTS")
        if len(self._files) >= _MOST_FILES and name not in self._files:
            raise _Refused("GenericError", f"at most {_MOST_FILES} descriptors are kept; closefd gives one back")
        if name in self._files:
            os.close(self._files.pop(name))
        self._files[name] = self._handed.pop(0)

    def _close_file(self, arguments: Arguments) -> None:
        os.close(self._file(_text(arguments, "fdname")))

    def _file(self, name: str) -> int:
        if name not in self._files:
            raise _Refused("GenericError", f"File descriptor named {name!r} not found")
        return self._files.pop(name)


def _version() -> Arguments:
    major, minor, micro = _VERSION
    return {"qemu": {"major": major, "minor": minor, "micro": micro}, "package": f"Corral {__version__}"}


def _line(value: Arguments) -> bytes:
    return json.dumps(value).encode() + b"\r\n"


def _is_json(text: bytes) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _parsed(text: bytes) -> tuple[str, Arguments, Arguments]:
    """Its name, arguments, and the `id` to be told with the answer. Raises _Refused."""
    try:
        command = json.loads(text)
    except (ValueError, RecursionError):
        raise _Refused("GenericError", "JSON parse error; a command is a JSON object on a line") from None
    if not isinstance(command, dict) or not isinstance(command.get("execute"), str):
        raise _Refused("GenericError", "QMP input must be a JSON object with a member 'execute' that is a string")
    arguments = command.get("arguments", {})
    if not isinstance(arguments, dict):
        raise _Refused("GenericError", "QMP input member 'arguments' must be an object")
    return command["execute"], arguments, {"id": command["id"]} if "id" in command else {}


def _text(arguments: Arguments, name: str) -> str:
    value = arguments.get(name)
    if not isinstance(value, str) or "\0" in value:
        raise _Refused("GenericError", f"Parameter '{name}' is missing, or no string")
    return value


def _number(arguments: Arguments, name: str, default: int | None = None) -> int:
    value = arguments.get(name, default)
    if type(value) is not int or not 0 <= value < 1 << 64:
        raise _Refused("GenericError", f"Parameter '{name}' is missing, or no number from 0 to 2^64-1")
    return value


def _write(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(fd, rest) :]
        except BlockingIOError:
            raise ConfigError("the file is a pipe that is full; name a file of a disk") from None
