"""A machine with the fuzzer's ports, driven from one input to what came of it."""

from __future__ import annotations

import time

from corral.errors import ConfigError
from corral.fuzz.port import PORTS, FuzzPort
from corral.script.machine import ScriptedMachine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from corral.config import MachineConfig
    from corral.startup.undo import Undo


class FuzzedMachine(ScriptedMachine):
    """Methods are for one thread at a time, as those of a scripted machine."""

    def _build(self, config: MachineConfig, undo: Undo) -> None:
        super()._build(config, undo)
        self.port = FuzzPort(self._stop_at_port)
        try:
            self.ports.claim(PORTS.start, PORTS.stop - 1, self.port, owner="the fuzzer's ports")
        except ValueError as error:
            raise ConfigError(f"{error}; leave that device out") from None

    def _stop_at_port(self) -> None:
        for thread in self.threads:
            thread.request_pause()
        self._hit.signal()

    @property
    def has_ended(self) -> bool:
        return self._has_ended

    def _is_late(self, limit: float) -> bool:
        return time.monotonic() >= self.port.started + limit

    def work(self, until: float, limit: float, look: Callable[[], object] = bool) -> None:
        """Lets the target run until it says something at its port, it ends, `until` (time.monotonic()) has come, or it
        has worked on one input for `limit` seconds. It is paused then, or over. Raises what a device failed with.

        `look` is called now and then, while it runs."""
        self._hit.clear()
        try:
            while self.port.said is None and not self._has_ended:
                now = time.monotonic()
                if now >= until or self._is_late(limit):
                    self.pause()  # it may have been done with the input just then
                    if now >= until or self._is_late(limit):
                        return
                    continue
                if not self._free:
                    self.resume()
                self._serve(min(until, min(self.port.started, now) + limit), None)
                self.raise_failure()
                look()
            self.raise_failure()
        finally:
            self.pause()
            self.console.drain()
