"""The 8254 timer, as a PC's BIOS leaves it, made in the kernel when a guest first touches it or may count on it.

Making one costs nothing, but each VM that has one waits 16 ms for an SRCU grace period of the host kernel when it is
closed, and many guests use their local APIC's timer alone. So these ports reach Python once: the timer is made, the
access that came first is carried out on its state, and from then on the kernel answers.
"""

from __future__ import annotations

from corral.native import ffi
from corral.startup.threads import allocate_lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.kvm.vm import Vm
    from corral.native import CData

# Offsets from 0x40, where the counters 0 to 2 are.
CONTROL = 3
SPEAKER = 0x21
SPEAKER_GATE = 1  # of the speaker's port: counter 2 counts

# Bytes of a counter that are read and written, as in a control word; then KVM's name for the second of two.
LOW, HIGH, BOTH, SECOND = 1, 2, 3, 4
RATE, SQUARE_WAVE = 2, 3  # modes
REFRESH = 18  # counts between two refreshes of a PC's memory

# What a BIOS leaves, by counter: bytes, mode, count. 0 stands for 65,536: counter 0 ticks 18.2 times a second, in mode
# 3 by a PC's; SeaBIOS takes mode 2, which ticks alike.
LEFT = ((BOTH, SQUARE_WAVE, 0), (LOW, RATE, REFRESH), (BOTH, SQUARE_WAVE, 0))


class LatePit:
    """Ports 0x40 to 0x43, and 0x61 that gates counter 2 and the speaker, which is not there."""

    def __init__(self, vm: Vm) -> None:
        self._vm = vm
        self._left: CData | None = None  # what it begins with when it is made, if not as a BIOS leaves it
        self.is_made = False
        self._lock = allocate_lock()  # two vCPUs may come first

    def make(self) -> None:
        """For a guest that may wait for its ticks without a look at it."""
        with self._lock:
            if not self.is_made:
                self._vm.create_pit()
                state = self._left or self._vm.get_pit()
                for channel, (access, mode, count) in zip(state.channels, () if self._left else LEFT, strict=False):
                    _set(channel, access, mode)
                    channel.count = count
                self._vm.set_pit(state)
                self.is_made = True

    def save(self) -> bytes | None:
        """struct kvm_pit_state2; None: the guest has not touched it."""
        state = self._vm.get_pit() if self.is_made else self._left
        return None if state is None else bytes(ffi.buffer(state))

    def restore(self, content: bytes, masked: bool) -> None:
        """`masked`: its interrupt goes nowhere at present. Then one that will not tick by itself is made when the guest
        touches it again. Raises ValueError for bytes of another length."""
        state = ffi.new("struct kvm_pit_state2 *")
        place = ffi.buffer(state)
        if len(content) != len(place):
            raise ValueError(f"a timer of {len(content)} bytes, not {len(place)}")
        place[:] = content
        self._left = state
        if not masked or state.channels[0].mode in (RATE, SQUARE_WAVE):
            self.make()

    def read(self, offset: int, size: int) -> int:
        self.make()
        if offset < CONTROL:  # the low byte of a count that has only begun
            state = self._vm.get_pit()
            if state.channels[offset].rw_mode == BOTH:
                state.channels[offset].read_state = SECOND
                self._vm.set_pit(state)
        return 0

    def write(self, offset: int, size: int, value: int) -> None:
        self.make()
        state = self._vm.get_pit()
        if offset == SPEAKER:
            state.channels[2].gate = value & SPEAKER_GATE
        elif offset == CONTROL:
            _control(state, value)
        else:
            _count(state.channels[offset], value & 0xFF)
        self._vm.set_pit(state)


def _set(channel: CData, access: int, mode: int) -> None:
    channel.rw_mode = channel.read_state = channel.write_state = access
    channel.mode = mode


def _count(channel: CData, byte: int) -> None:
    """The first byte of a count."""
    if channel.rw_mode == BOTH:
        channel.write_latch, channel.write_state = byte, SECOND
    else:
        channel.count = byte


def _control(state: CData, word: int) -> None:
    """Intel 8254 datasheet, "Control Word Format"."""
    counter, access = word >> 6 & 3, word >> 4 & 3
    if counter == 3 or access == 0:
        return  # a request to latch what has only begun to count
    mode = word >> 1 & 7
    _set(state.channels[counter], access, mode - 4 if mode > 5 else mode)  # modes 2 and 3 have a "don't care" bit
    state.channels[counter].bcd = word & 1
