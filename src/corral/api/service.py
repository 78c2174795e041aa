"""One guest and its client's wishes: each route has one of these methods.

Methods return what is to be answered as JSON, None for nothing, or a Job; they raise Fault and other CorralErrors.
"""

from __future__ import annotations

import os
import time

from corral import __version__
from corral.api import fault
from corral.api.fault import Fault, lacks
from corral.api.jobs import Threaded
from corral.api.messages import Answer
from corral.api.settings import Settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from corral.api.guest import GuestProcess, GuestStart, Starting
    from corral.api.settings import Given
    from corral.launch.request import BootRequest

SPOKEN = "1.10.1"  # Firecracker's version whose API this is
ANONYMOUS = "anonymous-instance"
SAVING = 120.0  # seconds for a snapshot
MOST_LOG = 1 << 26  # bytes of a log or of metrics that are written


class Service:
    """`run` is what the guest's process does, and `forget` closes what is not that process's (guest.py). `exclusive`
    jobs are one at a time."""

    def __init__(self, id: str, run: Callable[[GuestStart], int], forget: Callable[[], None]) -> None:
        self.id, self._run, self._forget = id, run, forget
        self.settings = Settings()
        self.guest: GuestProcess | None = None  # that has started
        self._starting: GuestProcess | None = None
        self.is_busy = False  # with an exclusive job
        self.logger: Given | None = None
        self.metrics: Given | None = None
        self.requests = self.refused = self.executing = 0

    # What may be asked when.

    def require_before(self) -> None:
        if self.guest:
            raise Fault(fault.AFTER)

    def running(self) -> GuestProcess:
        """The guest that has started."""
        if self.guest is None:
            raise Fault(fault.BEFORE)
        return self.guest

    def close(self) -> int:
        """Ends the guest, also one that has not started yet; its exit status."""
        if self._starting:
            self._starting.close()
        if self.guest is None:
            return 0
        self.guest.close()
        return self.guest.status

    # Looking.

    def instance(self) -> Given:
        state = "Not started" if self.guest is None else "Paused" if self.guest.paused else "Running"
        return {"id": self.id or ANONYMOUS, "state": state, "vmm_version": __version__, "app_name": "Corral"}

    def version(self) -> Given:
        return {"firecracker_version": SPOKEN, "corral_version": __version__}

    def configuration(self) -> Given:
        found = self.settings.text
        for name, one in (("logger", self.logger), ("metrics", self.metrics)):
            if one is not None:
                found[name] = one
        return found

    def machine(self) -> Given:
        return self.settings.machine

    def balloon(self) -> Given:
        if self.settings.balloon is None:
            raise Fault("Balloon error: No balloon device found.")
        return self.settings.balloon

    # Before the start.

    def patch_machine(self, given: Given) -> None:
        self.settings.set_machine(self.settings.machine | given)

    def set_vsock(self, given: Given) -> None:
        self.settings.vsock = given

    def set_logger(self, given: Given) -> None:
        level = given.get("level", "Info").capitalize()
        if level not in ("Error", "Warning", "Info", "Debug", "Trace", "Off"):
            raise Fault(f"level {given['level']} is none of Error, Warning, Info, Debug, Trace, Off.")
        if "log_path" in given:
            _append(given["log_path"], "")
        self.logger = given

    def set_metrics(self, given: Given) -> None:
        if self.metrics is not None:
            raise Fault("The metrics are set already.")
        _append(given["metrics_path"], "")
        self.metrics = given

    # Starting, and what a guest that runs is told.

    def act(self, given: Given) -> Starting | Threaded | None:
        action = given["action_type"]
        if action == "FlushMetrics":
            self._flush()
            return None
        if action == "InstanceStart":
            self.require_before()
            return self._start(self.settings.request(), False)
        return self._ask("power-button", lambda: None)

    def _start(self, request: BootRequest, paused: bool) -> Starting:
        from corral.api import guest  # and what a named guest is made with

        name = self.id or f"api-{os.getpid()}"
        parts = name, request, self._run, self._forget, paused, self.settings.serial
        started = guest.GuestProcess(*parts, stays=bool(self.id))
        self.is_busy, self._starting = True, started

        def then(found: GuestProcess | None) -> None:
            self.guest, self.is_busy, self._starting = found, False, None

        return guest.Starting(started, then)

    def _ask(self, word: str, done: Callable[[], object]) -> Threaded:
        """`done` when its process has answered."""
        running = self.running()

        def work() -> Answer:
            running.ask(word)
            done()
            return Answer()

        return self._exclusive(work)

    def _exclusive(self, work: Callable[[], Answer]) -> Threaded:
        def after() -> None:
            self.is_busy = False

        job = Threaded(work, after)
        self.is_busy = True
        return job

    def set_state(self, given: Given) -> Threaded:
        running, paused = self.running(), given["state"] == "Paused"
        return self._ask("pause" if paused else "resume", lambda: setattr(running, "paused", paused))

    def patch_balloon(self, given: Given) -> None:
        balloon = self.balloon()
        if given["amount_mib"]:
            raise lacks("a balloon that takes memory", "amount_mib is 0; what the guest has freed the host gets back")
        self.settings.balloon = balloon | given

    def _flush(self) -> None:
        if self.metrics is None:
            raise Fault("The metrics have no metrics_path yet.")
        import json

        figures = {
            "utc_timestamp_ms": time.time_ns() // 1_000_000,
            "api_server": {"requests": self.requests, "refused": self.refused},
        }
        _append(self.metrics["metrics_path"], json.dumps(figures) + "\n")

    def log(self, method: str, path: str, status: int) -> None:
        """A line for a request, where a log is kept; `status` 0: its answer takes a while. A log that cannot be written
        any more is given up."""
        self.requests += 1
        self.refused += status >= 400
        told = self.logger
        if told is None or "log_path" not in told or told.get("level", "Info").capitalize() in ("Off", "Error"):
            return
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())
        level = " [INFO]" if told.get("show_level") else ""
        line = f"{moment} [{self.id or ANONYMOUS}]{level} {method} {path}: {status or 'begun'}\n"
        try:
            _append(told["log_path"], line)
        except Fault:
            self.logger = None

    # Snapshots.

    def save(self, given: Given) -> Threaded:
        from corral.api import pair

        running = self.running()
        if given.get("snapshot_type") == "Diff":
            raise lacks("snapshots of type Diff", "a whole one has holes where the guest's memory has zeros")
        if not running.paused:
            raise Fault("A snapshot is of a paused microVM: PATCH /vm with Paused comes first.")
        memory, path, settings = given["mem_file_path"], given["snapshot_path"], self.settings.text
        if os.path.realpath(memory) == os.path.realpath(path):
            raise Fault("mem_file_path and snapshot_path are the same.")
        pair.check_place(path)

        def work() -> Answer:
            running.save(memory, SAVING)
            pair.write(path, memory, settings)
            return Answer()

        return self._exclusive(work)

    def load(self, given: Given) -> Starting:
        from corral.api import loading

        self.require_before()
        settings, request = loading.request(given)
        starting = self._start(request, not given.get("resume_vm", False))
        self.settings = settings
        return starting


def _append(path: str, text: str) -> None:
    """Raises Fault. A pipe without a reader holds nothing up."""
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
        fd = os.open(path, flags, 0o600)
    except (OSError, ValueError) as error:
        raise Fault(f"It cannot be written: {getattr(error, 'strerror', error)}: {path}") from None
    try:
        if os.fstat(fd).st_size + len(text) <= MOST_LOG:
            os.write(fd, text.encode("utf-8", "backslashreplace"))
    except BlockingIOError:
        pass
    except OSError as error:
        raise Fault(f"It cannot be written: {error.strerror}: {path}") from None
    finally:
        os.close(fd)
