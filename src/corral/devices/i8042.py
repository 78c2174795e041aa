"""The keyboard controller of a machine without keyboard: its reset line, and answers that let a driver's probe end.

A driver that gets none waits seconds for each. Commands as in the IBM PS/2 technical reference, "Keyboard and
Auxiliary Device Controller".
"""

from __future__ import annotations

from corral.core.exits import Cause, GuestEnded
from corral.startup.record import record

DATA, COMMAND = 0, 4  # offsets of the ports 0x60 and 0x64
OUTPUT_FULL, SYSTEM_FLAG, NOT_LOCKED = 1 << 0, 1 << 2, 1 << 4  # of the status, which 0x64 reads as

READ_CONFIGURATION, WRITE_CONFIGURATION = 0x20, 0x60
TEST_AUXILIARY, SELF_TEST, TEST_KEYBOARD = 0xA9, 0xAA, 0xAB
PULSE_RESET = 0xFE
ANSWERS = {SELF_TEST: 0x55, TEST_KEYBOARD: 0x01, TEST_AUXILIARY: 0x01}  # 1: a clock line is stuck, nothing is there


@record(frozen=True)
class I8042State:
    """`output` is the byte that waits to be read, None when there is none."""

    configuration: int
    output: int | None
    awaits_configuration: bool


class I8042:
    """Ports 0x60 and 0x64. Raises GuestEnded when the guest pulses the reset line."""

    def __init__(self) -> None:
        self._configuration = 0x30  # both ports disabled
        self._output: int | None = None
        self._awaits_configuration = False

    def save(self) -> I8042State:
        return I8042State(self._configuration, self._output, self._awaits_configuration)

    def restore(self, state: I8042State) -> None:
        self._configuration, self._awaits_configuration = state.configuration & 0xFF, state.awaits_configuration
        self._output = None if state.output is None else state.output & 0xFF

    def read(self, offset: int, size: int) -> int:
        if offset == COMMAND:
            return SYSTEM_FLAG | NOT_LOCKED | (OUTPUT_FULL if self._output is not None else 0)
        value, self._output = self._output or 0, None
        return value

    def write(self, offset: int, size: int, value: int) -> None:
        value &= 0xFF
        if offset == DATA:
            if self._awaits_configuration:
                self._configuration = value
            self._awaits_configuration = False
        elif offset == COMMAND:
            self._command(value)

    def _command(self, command: int) -> None:
        self._awaits_configuration = command == WRITE_CONFIGURATION
        if command == PULSE_RESET:
            raise GuestEnded(Cause.RESET)
        if command == READ_CONFIGURATION:
            self._output = self._configuration
        elif command in ANSWERS:
            self._output = ANSWERS[command]
