"""What a small device saves is all of it: another one goes on from there as the first does, whatever a guest did.

Those with more to them have such a test of their own: uart, timers, IOAPIC, virtio."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.devices.cmos import Cmos
from corral.devices.crt_controller import CrtController
from corral.devices.i8042 import ANSWERS, I8042
from corral.devices.pci_address import PciAddress

MOMENT = 1_900_000_000
DEVICES: dict[str, Callable[[], Any]] = {
    "cmos": lambda: Cmos(MOMENT),
    "crt": CrtController,
    "i8042": I8042,
    "pci_address": PciAddress,
}
PORTS = 8  # more than any has
COMMANDS = sorted(ANSWERS)  # after which the keyboard controller has something to say

# (is_write, offset, size, value): any access of a guest.
values = st.sampled_from(COMMANDS) | st.integers(0, 255) | st.integers(0, 2**32 - 1)
accesses = st.lists(
    st.tuples(st.booleans(), st.integers(0, PORTS - 1), st.sampled_from([1, 2, 4]), values), max_size=40
)
Accesses = list[tuple[bool, int, int, int]]


def _answers(device: Any, some: Accesses) -> list[object]:
    found: list[object] = []
    for is_write, offset, size, value in some:
        try:
            if is_write:
                found.append(device.write(offset, size, value & (1 << 8 * size) - 1))
            else:
                found.append(device.read(offset, size))
        except Exception as error:  # a reset that the guest asks for
            found.append((type(error), str(error)))
    return found


@pytest.mark.parametrize("name", DEVICES)
@given(before=accesses, after=accesses)
def test_another_goes_on_from_its_state(name: str, before: Accesses, after: Accesses) -> None:
    first, second = DEVICES[name](), DEVICES[name]()
    _answers(first, before)
    second.restore(first.save())
    assert second.save() == first.save()
    assert _answers(second, after) == _answers(first, after)
