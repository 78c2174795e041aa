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

from corral.errors import HostError
from corral.jail import message
from corral.jail.message import BadMessage
from corral.native import SHIM

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
    """The VMM's side. Starts the process; nothing waits for its end, which comes with this one's."""

    def __init__(self, module: str) -> None:
        """`module` has main(), which makes the report there, by serve(). Raises HostError."""
        questions, self._to = os.pipe()
        self._from, answers = os.pipe()
        told, self._before = os.pipe()
        to_remove, self._list = os.pipe()
        code = f"import sys; sys.path[:] = {sys.path!r}; from {module} import main; main()"
        given = (questions, answers, told, to_remove)
        try:
            self.pid = _spawn([PROGRAM, sys.executable, "-P", "-c", code], *given)
        except OSError as error:
            raise HostError(f"cannot start {PROGRAM}, which makes reports: {error.strerror}; --jail off") from error
        finally:
            for fd in given:
                os.close(fd)

    def removes(self, path: str) -> None:
        """Before the jail: what it is to remove when the VMM has ended, a file or an empty folder."""
        os.write(self._list, os.fsencode(os.path.abspath(path)) + b"\0")

    def tell(self, kernel: str, cmdline: str, report: str) -> None:
        """Before the jail, once and last: the kernel's path and command line, and the path of a report in full; "":
        none."""
        message.send(self._before, os.fsencode(kernel), os.fsencode(cmdline), os.fsencode(report))
        os.close(self._before)
        os.close(self._list)

    def ask(self, *fields: bytes) -> list[bytes]:
        """A message to it, and what it says next. Raises BadMessage."""
        message.send(self._to, *fields)
        return message.receive(self._from)


def _spawn(words: list[str], *given: int) -> int:
    from fcntl import F_DUPFD_CLOEXEC, fcntl

    high = [fcntl(fd, F_DUPFD_CLOEXEC, TO_REMOVE + 1) for fd in given]  # none where another is to be
    try:
        places = zip(high, (QUESTIONS, ANSWERS, TOLD, TO_REMOVE), strict=True)
        actions = [(os.POSIX_SPAWN_DUP2, fd, place) for fd, place in places]
        return os.posix_spawn(words[0], words, os.environ, file_actions=actions)
    finally:
        for fd in high:
            os.close(fd)


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
