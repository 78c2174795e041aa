"""corral.aio.Sandbox: the sandbox for asyncio. Each call works in a thread, so that none holds up the loop."""

from __future__ import annotations

import asyncio

from corral.script.process import Process, Result
from corral.script.sandbox import Sandbox as Blocking

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import Any, Self

    from corral.script.process import Words

__all__ = ["Process", "Result", "Sandbox"]


class Sandbox:
    """`async with corral.aio.Sandbox(...) as box:` with the arguments of corral.Sandbox; `box.files` works as there,
    to be called by asyncio.to_thread()."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._arguments = arguments, options
        self._box: Blocking | None = None

    @property
    def box(self) -> Blocking:
        """The sandbox itself, once it is there."""
        assert self._box, "async with corral.aio.Sandbox() as box"
        return self._box

    async def __aenter__(self) -> Self:
        arguments, options = self._arguments
        self._box = await asyncio.to_thread(Blocking, *arguments, **options)
        return self

    async def __aexit__(self, *exception: object) -> None:
        await asyncio.to_thread(self.box.close)

    async def run(self, command: Words, **options: Any) -> Result:
        """As corral.Sandbox.run. A task that is cancelled goes on in its thread until the command ends: give it a
        timeout."""
        return await asyncio.to_thread(lambda: self.box.run(command, **options))

    async def popen(self, command: Words, **options: Any) -> Process:
        return await asyncio.to_thread(self.box.popen, command, **options)

    async def stream(self, command: Words, **options: Any) -> AsyncIterator[str]:
        """Lines as they come."""
        lines, over = self.box.run(command, stream=True, **options), object()
        while (line := await asyncio.to_thread(next, lines, over)) is not over:
            yield str(line)

    async def port(self, inside: int) -> str:
        return await asyncio.to_thread(self.box.port, inside)

    async def snapshot(self, path: str, **options: Any) -> int:
        return await asyncio.to_thread(self.box.snapshot, path, **options)

    async def fork(self, count: int = 1, **options: Any) -> list[Blocking]:
        """As corral.Sandbox.fork: what it gives works without the loop, and is the caller's to close."""
        return await asyncio.to_thread(self.box.fork, count, **options)
