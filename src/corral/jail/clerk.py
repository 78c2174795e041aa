"""The clerk: a process that makes the report of a guest whose VMM is in the jail, and can open no file any more.

It is there before there is a guest, as a small program that waits (csrc/clerk), starts Python when it is asked for the
first time, and ends with the VMM. Which kernel it was, and where a report goes, it is told before the jail closes. What
comes later may come from a guest that has broken out: registers and memory are only looked at, as the guest's always
are. Its own jail: no program, no socket, no other process; it may open files, for symbols, for a report, and for
Python's own modules.
"""

from __future__ import annotations

import os
import sys

from corral import os_errors
from corral.errors import HostError
from corral.jail import message
from corral.jail.message import BadMessage
from corral.native import SHIM, check, ffi, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    # What was told before the jail, what is told of the death, and the descriptors to ask and to answer by.
    Work = Callable[[list[bytes], list[bytes], int, int], None]

PROGRAM = os.path.join(os.path.dirname(SHIM), "_corral_clerk")
QUESTIONS, ANSWERS, TOLD, TO_REMOVE = 3, 4, 5, 6  # its descriptors (csrc/clerk/main.c)
READ, OFFSET, DONE = b"read", b"offset", b"done"


class Clerk:
    """The VMM's side. Begins to start the process, and a network namespace beside (corral_jail_prepare); nothing waits
    for its end, which comes with this one's."""

    def __init__(self, module: str) -> None:
        """`module` has main(), which makes the report there, by serve(). Raises HostError."""
        questions, self._to = os.pipe()
        self._from, answers = os.pipe()
        told, self._before = os.pipe()
        to_remove, self._list = os.pipe()
        code = f"import sys; sys.path[:] = {sys.path!r}; from {module} import main; main()"
        words = [PROGRAM, sys.executable, "-P", "-c", code]
        self._given = (questions, answers, told, to_remove)  # in the order of their numbers there
        self._kept = [ffi.new("char[]", os.fsencode(word)) for word in words]
        self._words = ffi.new("char *[]", [*self._kept, ffi.NULL])
        self._pid = 0
        check("thread", lib.corral_jail_prepare(self._words, self._given, len(self._given)), "see ulimit -u")

    @property
    def pid(self) -> int:
        """When it has been started. Raises HostError."""
        self.settle()
        if self._pid < 0:
            why = os_errors.of_c(-self._pid)
            raise HostError(f"cannot start {PROGRAM}, which makes reports: {why}; --jail off runs without a jail")
        return self._pid

    def settle(self) -> None:
        """Until it has been started, or could not be: no descriptor of this process is in it but those given to it,
        so the lock on a name or an image goes with this process."""
        if not self._pid:
            prepared = ffi.new("struct corral_jail_prepared *")
            lib.corral_jail_await(prepared)
            for fd in self._given:
                os.close(fd)
            self._pid = int(prepared.pid)

    def removes(self, path: str) -> None:
        """Before the jail: what it is to remove when the VMM has ended, a file or an empty folder."""
        os.write(self._list, os.fsencode(os.path.abspath(path)) + b"\0")

    def tell(self, kernel: str, cmdline: str, report: str) -> None:
        """Before the jail, once and last: the kernel's path and command line, and the path of a report in full; "":
        none. Raises HostError."""
        assert self.pid
        message.send(self._before, os.fsencode(kernel), os.fsencode(cmdline), os.fsencode(report))
        os.close(self._before)
        os.close(self._list)

    def ask(self, *fields: bytes) -> list[bytes]:
        """A message to it, and what it says next. Raises BadMessage."""
        message.send(self._to, *fields)
        return message.receive(self._from)


def serve(work: Work) -> NoReturn:
    """The clerk's life, from the first question on."""
    from corral.jail import confine

    try:
        sys.dont_write_bytecode = True  # of what it loads; that would make files
        confine.enter_clerk()
        told = message.receive(TOLD)
        work(told, message.receive(QUESTIONS), QUESTIONS, ANSWERS)
    except BadMessage:  # the VMM has ended
        pass
    except Exception:
        import traceback

        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(0)
