"""What takes a while, on a thread of its own: the sockets are served meanwhile."""

from __future__ import annotations

import os

from corral.api import messages
from corral.api.fault import Fault
from corral.api.messages import Answer
from corral.errors import CorralError
from corral.startup.threads import start_new_thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Threaded:
    """Calls `work` there; finish() has what it returned, or a refusal with what it raised. `after` is called last, by
    the caller of finish(). Raises Fault where the host gives no thread."""

    def __init__(self, work: Callable[[], Answer], after: Callable[[], object] = bool) -> None:
        self._work, self._after = work, after
        self._answer: Answer | None = None
        self._failure: BaseException | None = None
        self._ready, self._waker = os.pipe2(os.O_CLOEXEC)
        try:
            start_new_thread(self._run, ())
        except RuntimeError:
            os.close(self._ready)
            os.close(self._waker)
            raise Fault("The host gives no thread; see ulimit -u and pids.max.") from None

    def _run(self) -> None:
        try:
            self._answer = self._work()
        except CorralError as error:
            self._answer = messages.refusal(error if isinstance(error, Fault) else Fault(str(error)))
        except BaseException as error:
            self._failure = error
        os.close(self._waker)

    def fileno(self) -> int:
        return self._ready

    def finish(self) -> Answer:
        os.close(self._ready)
        self._after()
        if self._failure:
            raise self._failure
        assert self._answer
        return self._answer
