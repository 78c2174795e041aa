"""corral.Sandbox: a guest to run things in, from Python. It is a process of its own (docs/background.md), which ends
with this one."""

from __future__ import annotations

import os
import time
from typing import overload

from corral.agent import command as commands
from corral.agent.connection import AgentError, Connection
from corral.agent.files import Files
from corral.agent.forward import Forward
from corral.errors import ClosedError, CorralError, GuestTimeout
from corral.running import place
from corral.running import start as starting
from corral.script.sandbox_network import Network
from corral.script.sandbox_network import words as network_words
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Literal, Self

    from corral.agent.command import End, Wanted

    Words = str | Sequence[str]

READY = 120.0  # seconds until the agent answers: an interpreted kernel takes that long
MOST_OUTPUT = 1 << 28  # bytes that run() keeps; a command that writes more is killed
_ENDS = 5.0  # seconds that a killed process takes at most
_made = 0


class CommandFailed(CorralError):
    """run(check=True) of a command whose exit status was not 0. `result` has all of it."""

    def __init__(self, result: Result) -> None:
        self.result = result
        said = (result.stderr or result.stdout).strip().splitlines()
        super().__init__(f"{result.args!r} ended with {result.returncode}" + (f": {said[-1]}" if said else ""))


@record(frozen=True)
class Result:
    """Of a command that has ended. `returncode` is its exit status, or minus the signal that ended it; `duration` in
    seconds, from start to end as seen from here. Texts are UTF-8; what is not is replaced."""

    args: str | tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str
    duration: float

    @property
    def ok(self) -> bool:
        return self.returncode == 0


class Process:
    """A command that runs in a sandbox. Its output is taken when it is asked for: iteration gives lines of standard
    output, communicate() all; one that is not taken holds the command up. Ends with close(), killed if it still
    runs."""

    def __init__(self, connection: Connection, wanted: Wanted, args: Words) -> None:
        self.args = args if isinstance(args, str) else tuple(args)
        self._output = {1: bytearray(), 2: bytearray()}
        self._limit = wanted.timeout
        try:
            self._command = commands.Command(connection, wanted, self._take)
        except BaseException:
            connection.close()
            raise
        self.pid = self._command.pid  # in the guest

    def _take(self, stream: int, data: bytes) -> None:
        self._output[stream] += data

    @property
    def returncode(self) -> int | None:
        """As it was when it was last looked: poll() looks."""
        return self._command.end.status if self._command.end else None

    def poll(self) -> int | None:
        """The exit status, minus the signal that ended it, or None: it runs."""
        while self._command.end is None and commands.ready_to_read(self._command, time.monotonic()):
            self._command.serve()
        return self.returncode

    def write(self, data: bytes | str) -> None:
        """To its standard input; waits in this process when the command does not read."""
        self._command.give(data.encode() if isinstance(data, str) else data)

    def close_stdin(self) -> None:
        self._command.give(b"")

    def wait(self, timeout: float | None = None) -> int:
        """The exit status. Raises GuestTimeout after so many seconds, and the command goes on."""
        return self._wait(timeout).status

    def _wait(self, timeout: float | None) -> End:
        end = self._command.wait(None if timeout is None else time.monotonic() + timeout)
        if end.out_of_time:
            raise GuestTimeout(f"{self.args!r} did not end within {self._limit:g} s and was killed")
        if end.too_much:
            raise AgentError(f"{self.args!r} wrote more than {MOST_OUTPUT} bytes and was killed")
        return end

    def communicate(self, input: bytes | str = b"", timeout: float | None = None) -> tuple[bytes, bytes]:
        """Gives it `input` and its end; returns its standard output and error from here on, when it has ended."""
        if input:
            self.write(input)
        self.close_stdin()
        self._wait(timeout)
        return self._rest(1), self._rest(2)

    def _rest(self, stream: int) -> bytes:
        rest = bytes(self._output[stream])
        self._output[stream].clear()
        return rest

    def __iter__(self) -> Iterator[str]:
        """Lines of standard output, without their ends, as they come."""
        output = self._output[1]
        while True:
            line, newline, _ = output.partition(b"\n")
            if newline:
                del output[: len(line) + 1]
                yield line.decode("utf-8", "replace")
            elif self._command.end is None:
                commands.ready_to_read(self._command, None)
                self._command.serve()
            else:
                if output:
                    yield self._rest(1).decode("utf-8", "replace")
                return

    def send_signal(self, number: int) -> None:
        """To the command and what it has started in its group."""
        self._command.signal(number)

    def terminate(self) -> None:
        self.send_signal(15)

    def kill(self) -> None:
        self.send_signal(9)

    def close(self) -> None:
        """What of it still runs is killed."""
        self._command.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "running" if self.returncode is None else f"ended with {self.returncode}"
        return f"<Process {self.args!r}, {self.pid} in the guest, {state}>"


class Sandbox:
    """A guest, which runs when this returns. A context manager; it ends with close(), and with this process.

    `system` is what `corral boot` takes: None for Corral's small Linux, "debian", "ubuntu:noble", a kernel's path.
    `memory` is like "1G" or a number of MiB. `options` are further words of `corral boot`, like ["--disk", "data.img"].
    `name`: by which `corral exec` and others find it; without one it gets its own. `nets`, `publish`, `allow` and
    `deny` are what follows --net and so on, one each or many; without them it has no network, and with a network and no
    rule it may connect nowhere until `network` allows it. Raises ConfigError, BootError,
    HostError, GuestError, GuestTimeout.
    """

    def __init__(
        self,
        system: str | None = None,
        *,
        memory: str | int | None = None,
        cpus: int | None = None,
        options: Sequence[str] = (),
        name: str | None = None,
        timeout: float = READY,
        nets: Words = (),
        publish: Words = (),
        allow: Words = (),
        deny: Words = (),
    ) -> None:
        self.system, self.name = system, place.check_name(name) if name else _new_name()
        self._temporary = name is None
        self._ports: dict[int, Forward] = {}
        words = [system] if system is not None else []
        words += ["--name", self.name]
        words += ["--memory", str(memory)] if memory is not None else []
        words += ["--cpus", str(cpus)] if cpus is not None else []
        words += network_words(nets, publish, allow, deny, options)
        self.notices: list[str] = []  # what `corral boot` said
        lifeline, self._lifeline = os.pipe()
        self.closed = False
        try:
            self._process = starting.start(self.name, [*words, *options], lifeline, self.notices.append)
        except BaseException:
            os.close(self._lifeline)
            self._forget()
            raise
        finally:
            os.close(lifeline)
        self._path = os.path.join(place.folder(self.name), place.VSOCK)
        self.files = Files(self._connect)
        self.network = Network(self.name)
        try:
            self._await_agent(timeout)
        except BaseException:
            self.close()
            raise

    def _await_agent(self, timeout: float) -> None:
        until = time.monotonic() + timeout
        while True:
            try:
                Connection(self._path, min(until, time.monotonic() + 1.0)).close()
                return
            except (AgentError, GuestTimeout) as error:
                ended = _has_ended(self._process, _ENDS if isinstance(error, AgentError) else 0.0)
                if ended:
                    raise AgentError(f"the guest ended before its agent answered; {self._said()}") from None
                if isinstance(error, AgentError):
                    raise
                if time.monotonic() >= until:
                    raise GuestTimeout(f"the guest's agent did not answer within {timeout:g} s") from None

    def _said(self) -> str:
        try:
            with open(os.path.join(place.folder(self.name), place.SAID), encoding="utf-8", errors="replace") as file:
                return (file.read().strip().splitlines() or ["it said nothing"])[-1]
        except OSError:
            return "it said nothing"

    def _connect(self) -> Connection:
        if self.closed:
            raise ClosedError("this sandbox is closed")
        return Connection(self._path, time.monotonic() + 30)

    def popen(
        self,
        command: Words,
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        user: str = "",
        timeout: float | None = None,
    ) -> Process:
        """Starts a command: a text is a line for the guest's shell, a list a program and its arguments. After `timeout`
        seconds it is killed with all that it has started. Raises agent.connection.Refused where it cannot start."""
        wanted = commands.wanted(command, env, cwd, user, None, timeout)
        return Process(self._connect(), wanted, command)

    @overload
    def run(
        self,
        command: Words,
        *,
        input: bytes | str = ...,
        env: Mapping[str, str] | None = ...,
        cwd: str | None = ...,
        user: str = ...,
        timeout: float | None = ...,
        check: bool = ...,
        stream: Literal[False] = ...,
    ) -> Result: ...

    @overload
    def run(
        self,
        command: Words,
        *,
        input: bytes | str = ...,
        env: Mapping[str, str] | None = ...,
        cwd: str | None = ...,
        user: str = ...,
        timeout: float | None = ...,
        check: bool = ...,
        stream: Literal[True],
    ) -> Iterator[str]: ...

    def run(
        self,
        command: Words,
        *,
        input: bytes | str = b"",
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        user: str = "",
        timeout: float | None = None,
        check: bool = False,
        stream: bool = False,
    ) -> Result | Iterator[str]:
        """Runs a command to its end, as popen() does; with `stream` it gives lines of standard output as they come.
        Raises GuestTimeout when it was killed after `timeout` seconds, AgentError when it wrote more than 256 MiB,
        CommandFailed with `check` when its status was not 0."""
        if stream:
            return self._lines(self.popen(command, env=env, cwd=cwd, user=user, timeout=timeout), input, check)
        wanted = commands.wanted(command, env, cwd, user, None, timeout, MOST_OUTPUT)
        began = time.monotonic()
        with Process(self._connect(), wanted, command) as process:
            output, errors = process.communicate(input)
            status = process.returncode
        assert status is not None
        took = time.monotonic() - began
        texts = output.decode("utf-8", "replace"), errors.decode("utf-8", "replace")
        result = Result(process.args, status, *texts, took)
        if check and status:
            raise CommandFailed(result)
        return result

    def _lines(self, process: Process, input: bytes | str, check: bool) -> Iterator[str]:
        began = time.monotonic()
        with process:
            if input:
                process.write(input)
            process.close_stdin()
            yield from process
            status = process.wait()
            if check and status:
                errors = process.communicate()[1].decode("utf-8", "replace")
                raise CommandFailed(Result(process.args, status, "", errors, time.monotonic() - began))

    def port(self, inside: int) -> str:
        """The URL of an address of this host that leads to TCP port `inside` of the guest, as long as the sandbox is
        open."""
        if inside not in self._ports:
            self._ports[inside] = Forward(self._connect, inside)
        return self._ports[inside].url

    def close(self) -> None:
        """Ends the guest at once. Does nothing the second time."""
        if self.closed:
            return
        self.closed = True
        for forward in self._ports.values():
            forward.close()
        os.close(self._lifeline)
        if not _has_ended(self._process, _ENDS):
            self._process.kill()
            self._process.wait()
        self._forget()

    def _forget(self) -> None:
        """Removes what is left of one whose name was not given."""
        if self._temporary and os.path.isdir(place.folder(self.name)):
            place.remove(place.find(self.name))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self.closed else "running"
        return f"<Sandbox {self.name}, {self.system or 'the small Linux'}, {state}>"


def _has_ended(process: subprocess.Popen[bytes], patience: float) -> bool:
    import subprocess

    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        return False
    return True


def _new_name() -> str:
    global _made
    _made += 1
    return f"sandbox-{os.getpid()}-{_made}"
