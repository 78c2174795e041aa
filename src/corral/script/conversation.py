"""What a script and a guest say to each other over the serial line."""

from __future__ import annotations

import re

from corral.errors import ClosedError
from corral.startup.threads import allocate_lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from corral.machine import Machine

    Text = str | bytes | re.Pattern[bytes]

MOST = 16 << 20  # bytes of output that are kept; of more, the last
_SHOWN = 200


class Conversation:
    """`vm.console`. What the guest sends is read while run_until(), wait() or expect() are at work. `output` and `last`
    stay when the machine is closed; all else raises ClosedError then. `run_until` is the machine's, for a text."""

    def __init__(self, vm: Machine, run_until: Callable[[Text, float | None], re.Match[bytes]]) -> None:
        self._vm = vm
        self._run_until = run_until
        self._lock = allocate_lock()
        self._said = bytearray()
        self._found = 0  # what is before this has been found already
        self._unsent = bytearray()

    def __repr__(self) -> str:
        return f"<Conversation of {len(self._said)} bytes; {self.last}>"

    @property
    def output(self) -> bytes:
        """All that the guest has sent, the last 16 MiB of it at most."""
        self.drain()
        with self._lock:
            return bytes(self._said)

    @property
    def last(self) -> str:
        """The end of it, for an error: one printable line."""
        text = self._said[-_SHOWN:].decode("ascii", "replace").strip()
        return f"the last it said: {text!r}" if text else "it said nothing"

    def send(self, text: str | bytes) -> None:
        """Types this; as much as the guest does not take yet is kept and typed later."""
        self._vm.require_open()
        self._unsent += text.encode() if isinstance(text, str) else text
        self.offer()

    def expect(self, text: Text, timeout: float | None = None) -> re.Match[bytes]:
        """Runs the guest until it says this: run_until() with a text."""
        return self._run_until(text, timeout)

    def find(self, pattern: re.Pattern[bytes]) -> re.Match[bytes] | None:
        """In what is there; the next search begins after it."""
        with self._lock:
            if not pattern.search(self._said, self._found):
                return None
            match = pattern.search(bytes(self._said), self._found)  # a match looks into its text later, too
            assert match
            self._found = match.end()
            return match

    def drain(self) -> bool:
        """Takes what the guest has sent. False: nothing, as of a machine that is closed, of which all was taken."""
        with self._lock:
            try:
                data = self._vm.serial.drain()
            except ClosedError:
                return False
            self._said += data
            over = max(0, len(self._said) - MOST)
            del self._said[:over]
            self._found = max(0, self._found - over)
            return bool(data)

    def offer(self) -> bool:
        """Types what waits. True: some of it waits still."""
        if self._unsent:
            del self._unsent[: self._vm.serial.offer(bytes(self._unsent))]
        return bool(self._unsent)


def pattern_of(text: Text) -> re.Pattern[bytes]:
    if isinstance(text, re.Pattern):
        return text
    return re.compile(re.escape(text.encode() if isinstance(text, str) else text))
