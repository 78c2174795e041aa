"""A zygote from the side that asks: it is started, asked for guests, and ended with all of them."""

from __future__ import annotations

import asyncio
import itertools
import json
import subprocess
import sys

from corral.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

COMMAND = "corral.cli"  # whose main() runs a guest's words
_LIMIT = 16 << 20  # bytes of an answer: two streams of 1 MiB as JSON, six bytes a character at most


class ZygoteClient:
    """For asyncio. run() may be called any number of times at once; the zygote starts with the first."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()

    @property
    def running(self) -> int:
        """Guests."""
        return len(self._waiting)

    async def run(self, words: list[str], seconds: float | None = None, snapshot: str | None = None) -> dict[str, Any]:
        """One command of `corral` in a process of its own, to its end; `snapshot`: the file that it goes on from. The
        answer is as zygote.py has it. Raises HostError where the zygote cannot start, or ends."""
        async with self._starting:
            if self._writer is None:
                await self._start()
        assert self._writer is not None
        number = next(self._numbers)
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        try:
            self._writer.write(_line(id=number, words=words, seconds=seconds, snapshot=snapshot))
            await self._writer.drain()
            return await future
        except ConnectionError:
            raise HostError("the process that starts guests has ended; see its host's memory") from None
        finally:
            self._waiting.pop(number, None)

    async def _start(self) -> None:
        import socket

        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-P", "-m", "corral.fleet.zygote", COMMAND]
            try:
                self._process = subprocess.Popen(command, stdin=theirs.fileno(), stdout=subprocess.DEVNULL)
            except OSError as error:
                ours.close()
                raise HostError(f"cannot start the process that starts guests: {error.strerror}") from None
        reader, self._writer = await asyncio.open_connection(sock=ours, limit=_LIMIT)
        self._reading = asyncio.create_task(self._read(reader))

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while line := await reader.readline():
                answer = json.loads(line)
                future = self._waiting.get(answer["id"])
                if future is not None and not future.done():
                    future.set_result(answer)
        except (ConnectionError, ValueError):
            pass  # told below, to all that wait
        self._forget()

    def _forget(self) -> None:
        """It has ended: those that wait are told, and the next run() starts another."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(HostError("the process that starts guests has ended; see its host's memory"))
        if self._process is not None:
            self._process.wait()
            self._process = None

    def close(self) -> None:
        """Ends all guests at once."""
        if self._writer is not None:
            self._writer.transport.abort()
        if self._process is not None:
            try:
                self._process.wait(2)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None


def _line(**request: Any) -> bytes:
    return json.dumps(request).encode() + b"\n"
