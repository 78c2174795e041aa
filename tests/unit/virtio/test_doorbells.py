"""QueueNotify as exits, and from when on KVM is to take it."""

from __future__ import annotations

import select
from collections.abc import Iterator

import pytest

from corral.native import CData, Event, ffi, lib

LATE = lib.CORRAL_DOORBELLS_LATE


@pytest.fixture
def events() -> Iterator[list[Event]]:
    made = [Event() for _ in range(3)]
    yield made
    for event in made:
        event.close()


def doorbells(events: list[Event], any_value: bool = False) -> CData:
    """Without a VM: KVM cannot take them."""
    fds = [event.value for event in events]
    return ffi.new("struct corral_doorbells *", {"vm_fd": -1, "n": len(fds), "any": any_value, "fd": fds})


def ring(bells: CData, value: int, size: int = 4, offset: int = 0, write: bool = True) -> bool:
    return bool(lib.corral_doorbells_ring(bells, write, offset, size, ffi.new("uint32_t *", value)))


def rung(events: list[Event]) -> list[bool]:
    found = [bool(select.select([event.value], [], [], 0)[0]) for event in events]
    for event in events:
        event.clear()
    return found


def test_a_value_rings_its_queue(events: list[Event]) -> None:
    bells = doorbells(events)
    assert ring(bells, 2)
    assert rung(events) == [False, False, True]


def test_any_value_rings_the_doorbell_of_all_queues(events: list[Event]) -> None:
    bells = doorbells(events[:1], any_value=True)
    for value in (0, 7, 0xFFFFFFFF):
        assert ring(bells, value)
        assert rung(events) == [True, False, False]


@pytest.mark.parametrize(
    "wrong", [{"value": 3}, {"value": 0xFFFFFFFF}, {"size": 2}, {"size": 1}, {"offset": 2}, {"write": False}]
)
def test_what_rings_nothing_is_left_to_python(events: list[Event], wrong: dict[str, int]) -> None:
    bells = doorbells(events)
    assert not ring(bells, **{"value": 0, **wrong})  # type: ignore[arg-type]
    assert rung(events) == [False] * 3
    assert bells.rings == 0


def test_where_kvm_cannot_take_them_exits_go_on_to_ring(events: list[Event]) -> None:
    bells = doorbells(events)
    for _ in range(2 * LATE):
        assert ring(bells, 1)
        assert rung(events) == [False, True, False]
    assert bells.rings == 2 * LATE
