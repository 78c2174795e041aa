"""The clerk: a process that makes the report of a guest whose VMM is in the jail, and can open no file any more.

It is forked before there is a guest, and ends with the VMM. Which kernel it was, and where a report goes, it is told
before the jail closes. What comes later may come from a guest that has broken out: registers and memory are only
looked at, as the guest's always are. Its own jail: no program, no socket, no other process; it may open files, for
symbols, for a report, and for Python's own modules, most of which it loads when it is asked for the first time.
"""

from __future__ import annotations

import os
import sys

from corral.jail import confine, message
from corral.jail.message import BadMessage
from corral.native import lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable
    from typing import NoReturn

    # What was told before the jail, what is told of the death, and the descriptors to ask and to answer by.
    Work = Callable[[list[bytes], list[bytes], int, int], None]
else:
    import _signal as signal  # see cli/terminal.py

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGTSTP)
READ, OFFSET, DONE = b"read", b"offset", b"done"


class Clerk:
    """The VMM's side. Starts the process; nothing waits for its end, which comes with this one's."""

    def __init__(self, work: Work) -> None:
        """`work` makes the report, there."""
        questions, self._to = os.pipe()
        self._from, answers = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            _be_clerk(work, questions, answers)
        os.close(questions)
        os.close(answers)

    def tell(self, kernel: str, cmdline: str, report: str) -> None:
        """Before the jail: the kernel's path and command line, and the path of a report in full; "": none."""
        message.send(self._to, os.fsencode(kernel), os.fsencode(cmdline), os.fsencode(report))

    def ask(self, *fields: bytes) -> list[bytes]:
        """A message to it, and what it says next. Raises BadMessage."""
        message.send(self._to, *fields)
        return message.receive(self._from)


def _be_clerk(work: Work, questions: int, answers: int) -> NoReturn:
    """Whatever happens, nothing of this process's other life goes on here."""
    try:
        for number in _SIGNALS:  # its end is the VMM's
            signal.signal(number, signal.SIG_IGN)
        keep = sorted((questions, answers))
        os.closerange(3, keep[0])
        os.closerange(keep[0] + 1, keep[1])
        os.closerange(keep[1] + 1, 1 << 16)
        lib.corral_name_thread(b"corral-clerk")
        sys.dont_write_bytecode = True  # of what it loads; that would make files
        confine.enter_clerk()
        told = message.receive(questions)
        work(told, message.receive(questions), questions, answers)
    except BadMessage:  # the VMM has ended, as it does without a report
        pass
    except Exception:
        import traceback

        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(0)
