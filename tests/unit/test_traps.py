"""Instructions that stop a guest: which, where, and that nothing of them is left."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.debug.traps import Traps
from corral.memory import PAGE, GuestMemory
from corral.native import ffi, lib

CODE = 0x1000  # guest physical
LINEAR = 0xFFFFFFFF81000000
INT3, OUT, OUT_TO_DX = 0xCC, 0xE7, 0xEF


@pytest.fixture
def memory() -> Iterator[GuestMemory]:
    memory = GuestMemory(1 << 20)
    yield memory
    memory.close()


def port_write(size: int = 4, count: int = 1, direction: int = lib.KVM_EXIT_IO_IN + 1) -> object:
    run = ffi.new("struct kvm_run *")
    run.io.direction, run.io.size, run.io.count = direction, size, count
    return run


def locate(address: int) -> int | None:
    return address - LINEAR + CODE if LINEAR <= address < LINEAR + PAGE else None


def trapped(memory: GuestMemory, code: str, behind: bool = True) -> tuple[str, list[int]]:
    """The code with a trap at its first instruction, and which RIP tell of it."""
    data = bytes.fromhex(code)
    memory.write(CODE, data)
    traps = Traps(memory, True, behind)
    traps.put(CODE)
    shown = memory.read(CODE, len(data)).hex()
    found = [rip - LINEAR for rip in range(LINEAR - 2, LINEAR + 4) if met(traps, rip) == LINEAR]
    traps.take_out()
    assert memory.read(CODE, len(data)) == data
    assert met(traps, LINEAR + found[0]) is None
    return shown, found


def met(traps: Traps, rip: int, run: object = None) -> int | None:
    found = traps.met((run or port_write()).io, lambda: rip, locate)  # type: ignore[attr-defined]
    return found[0] if found else None


@pytest.mark.parametrize(
    ("code", "shown", "rip"),
    [
        ("5548 89e5", "e74889e5", 2),  # PUSH RBP: the port is what follows
        ("488b4018", "e78b4018", 2),
        ("8b4018", "e78018", 2),  # MOV EAX, [RAX + 0x18]: its second byte is a port of the 8254's
        ("0f61c1", "e780c1", 2),
        ("5540 0fb6f6", "ef400fb6f6", 1),  # and here it is the next instruction's
        ("06 61", "ef61", 1),  # no instruction
    ],
)
def test_the_port_is_none_that_kvm_answers(memory: GuestMemory, code: str, shown: str, rip: int) -> None:
    assert trapped(memory, code) == (shown, [rip])


def test_where_rip_is_at_the_instruction(memory: GuestMemory) -> None:
    assert trapped(memory, "554889e5", behind=False) == ("e74889e5", [0])


def test_the_last_byte_of_a_page_has_no_other_behind_it(memory: GuestMemory) -> None:
    """The next page of linear addresses is another one."""
    traps = Traps(memory, True, True)
    traps.put(CODE + PAGE - 1)
    assert memory.read(CODE + PAGE - 1, 2) == bytes([OUT_TO_DX, 0])
    traps.put(memory.size - 1)
    assert memory.read(memory.size - 1, 1)[0] == OUT_TO_DX


def test_where_kvm_tells_of_int3(memory: GuestMemory) -> None:
    traps = Traps(memory, False, True)
    traps.put(CODE)
    assert memory.read(CODE, 2) == bytes([INT3, 0])
    traps.take_out()
    assert memory.read(CODE, 2) == bytes(2)


@pytest.mark.parametrize(
    "run", [port_write(size=1), port_write(count=2), port_write(direction=lib.KVM_EXIT_IO_IN), port_write(size=0)]
)
def test_the_guests_own_accesses_are_no_traps(memory: GuestMemory, run: object) -> None:
    traps = Traps(memory, True, True)
    traps.put(CODE)
    assert met(traps, LINEAR + 2) == LINEAR
    assert met(traps, LINEAR + 2, run) is None
    assert met(traps, LINEAR + 3) is None


def test_what_the_guest_has_written_over_stays(memory: GuestMemory) -> None:
    traps = Traps(memory, True, True)
    traps.put(CODE)
    memory.write(CODE, b"\x90")
    traps.take_out()
    assert memory.read(CODE, 1) == b"\x90"


@given(code=st.binary(min_size=64, max_size=64), places=st.lists(st.integers(0, 63), max_size=20))
def test_memory_is_as_it_was_whatever_was_trapped(code: bytes, places: list[int]) -> None:
    memory = GuestMemory(1 << 20)
    memory.write(CODE, code)
    traps = Traps(memory, True, True)
    for place in places:
        traps.put(CODE + place)
        assert memory.read(CODE + place, 1)[0] in (OUT, OUT_TO_DX)
        assert memory.read(CODE + place, 2)[1] not in (0x40, 0x61) or memory.read(CODE + place, 1)[0] == OUT_TO_DX
    traps.take_out()
    assert memory.read(CODE, len(code)) == code
    memory.close()
