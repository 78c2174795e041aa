"""corral boot --gdb: a guest that waits for gdb."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager

from corral.toolkit.gdb_server import GdbServer, listen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from corral.machine import Machine

    Watch = Callable[[Machine], AbstractContextManager[object]]


def watch(where: str, outer: Watch | None, notices: list[str]) -> Watch:
    """Listens at `where`, and gives what boot.run() attaches to the machine, `outer` included."""
    listener = listen(where)
    target = where.removeprefix("unix:")
    notices.append(f"the guest waits for gdb: target remote {target}")

    @contextmanager
    def attach(machine: Machine) -> Iterator[None]:
        import os

        with ExitStack() as stack:
            stack.callback(listener.close)
            if where.startswith("unix:"):
                stack.callback(os.unlink, target)
            if outer:
                stack.enter_context(outer(machine))
            stack.enter_context(GdbServer(machine, listener))
            yield

    return attach
