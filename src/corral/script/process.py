"""A command in a sandbox (sandbox.py): while it runs, and what is left of it."""

from __future__ import annotations

import time

from corral.agent import command as commands
from corral.agent.connection import AgentError
from corral.errors import CorralError, GuestTimeout
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Self

    from corral.agent.command import End, Wanted
    from corral.agent.connection import Connection

    Words = str | Sequence[str]

MOST_OUTPUT = 1 << 28  # bytes that run() keeps; a command that writes more is killed


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
