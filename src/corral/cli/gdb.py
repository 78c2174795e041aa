"""corral boot --gdb: a guest that waits for gdb."""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager

from corral.debug.gdb.server import GdbServer, listen, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from corral.cli.jail import Jail
    from corral.machine import Machine

    Watch = Callable[[Machine], AbstractContextManager[object]]


def watch(where: str, outer: Watch | None, notices: list[str], jail: Jail | None) -> Watch:
    """What boot.run() attaches to the machine, `outer` included; from within the `jail` the clerk removes the socket.
    Raises ConfigError for what is no address."""
    address = parse(where)
    target = address if isinstance(address, str) else "{}:{}".format(*address)
    notices.append(f"the guest waits for gdb: target remote {target}")

    @contextmanager
    def attach(machine: Machine) -> Iterator[None]:
        with ExitStack() as stack:
            listener = stack.enter_context(listen(where))
            if isinstance(address, str):
                if jail and jail.clerk:
                    jail.clerk.removes(target)
                else:
                    stack.callback(_remove, target)
            if outer:
                stack.enter_context(outer(machine))
            stack.enter_context(GdbServer(machine, listener))
            yield

    return attach


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:  # its owner was faster
        pass
