"""The 8254 timer, made in the kernel when a guest first touches it.

Making one costs nothing, but each VM that has one waits 16 ms for an SRCU grace period of the host kernel when it is
closed, and many guests use their local APIC's timer alone. So these ports reach Python once: the timer is made, the
access that came first is carried out on its state, and from then on the kernel answers.
"""

from __future__ import annotations

from corral.threads import allocate_lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.kvm.vm import Vm
    from corral.native import CData

# Offsets from 0x40, where the counters 0 to 2 are.
CONTROL = 3
SPEAKER = 0x21
SPEAKER_GATE = 1  # of the speaker's port: counter 2 counts


class LatePit:
    """Ports 0x40 to 0x43, and 0x61 that gates counter 2 and the speaker, which nobody hears."""

    def __init__(self, vm: Vm) -> None:
        self._vm = vm
        self._made = False
        self._lock = allocate_lock()  # two vCPUs may come first

    def read(self, offset: int, size: int) -> int:
        self._make()
        return 0

    def write(self, offset: int, size: int, value: int) -> None:
        self._make()
        state = self._vm.get_pit()
        if offset == SPEAKER:
            state.channels[2].gate = value & SPEAKER_GATE
        elif offset == CONTROL:
            _control(state, value)
        else:
            return  # a count for a counter that has no mode yet: nothing to keep
        self._vm.set_pit(state)

    def _make(self) -> None:
        with self._lock:
            if not self._made:
                self._vm.create_pit()
                self._made = True


def _control(state: CData, word: int) -> None:
    """Intel 8254 datasheet, "Control Word Format"."""
    counter, access = word >> 6 & 3, word >> 4 & 3
    if counter == 3 or access == 0:
        return  # a request to latch what does not count yet
    channel = state.channels[counter]
    channel.rw_mode = channel.read_state = channel.write_state = access
    channel.mode = word >> 1 & 7
    if channel.mode > 5:  # the "don't care" bit of modes 2 and 3
        channel.mode -= 4
    channel.bcd = word & 1
