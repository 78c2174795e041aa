"""The area that a target shares, as honest and as hostile targets tell it."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from corral.errors import GuestError
from corral.fuzz import area
from corral.fuzz.area import FRAMES, LARGEST, MAGIC, Area, find
from corral.fuzz.port import PORTS, FuzzPort, Said
from corral.memory import GuestMemory
from corral.script.memory_access import Physical

HEADER = Path(__file__).parents[3] / "guests" / "fuzz" / "corral_fuzz.h"
AT = 0x10000


@pytest.fixture
def memory() -> Iterator[GuestMemory]:
    made = GuestMemory(1 << 20)
    yield made
    made.close()


def tell(memory: GuestMemory, magic: int = MAGIC, room: int = 8192, size: int = 4096, edges: int = 10) -> None:
    memory.write(AT, struct.pack("<4I", magic, room, size, edges))


def test_numbers_are_those_of_the_header() -> None:
    text = HEADER.read_text()
    numbers = {name: int(value, 0) for name, value in re.findall(r"#define (CORRAL_FUZZ_\w+)\s+(0x\w+|\d+)", text)}
    assert numbers["CORRAL_FUZZ_MAGIC"] == MAGIC
    assert numbers["CORRAL_FUZZ_FRAMES"] == FRAMES
    assert [numbers[f"CORRAL_FUZZ_{name}"] - PORTS.start for name in ("LOW", "HIGH", "COMMAND")] == [0, 4, 8]


def test_an_input_goes_in_and_counts_come_out(memory: GuestMemory) -> None:
    tell(memory)
    layout = find(Physical(memory), AT)
    shared = Area(layout, memory)
    shared.put(b"x" * 5000)
    assert memory.read(AT + 16, 4) == (5000).to_bytes(4, "little")
    assert memory.read(AT + 4096, 5001) == b"x" * 5000 + b"\0"
    memory.write(AT + 4096 + 8192, bytes(range(12)))
    assert shared.coverage() == bytes(range(10))
    shared.put(b"y")
    assert shared.coverage() == bytes(10)
    shared.put(b"z" * 9000)
    assert memory.read(AT + 16, 4) == (8192).to_bytes(4, "little")
    shared.close()


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"magic": 1}, "there is no area at 0x10000"),
        ({"room": 0}, "room for input has 0 bytes"),
        ({"room": 100}, "room for input has 100 bytes"),
        ({"room": LARGEST + 4096}, "room for input has 1052672 bytes"),
        ({"size": 1 << 31}, "map has 2147483648 bytes"),
        ({"room": LARGEST}, "not all in memory"),
    ],
)
def test_an_area_that_cannot_be_is_refused(memory: GuestMemory, told: dict[str, int], message: str) -> None:
    tell(memory, **told)
    with pytest.raises(GuestError, match=message):
        find(Physical(memory), AT)


@pytest.mark.parametrize("address", [AT + 1, 1 << 20, 1 << 40, (1 << 64) - 4096])
def test_an_address_that_is_no_memory_is_refused(memory: GuestMemory, address: int) -> None:
    with pytest.raises(GuestError, match="area"):
        find(Physical(memory), address)


def test_edges_beyond_the_map_are_none(memory: GuestMemory) -> None:
    tell(memory, edges=0xFFFFFFFF)
    assert sum(length for _, length in find(Physical(memory), AT).map) == 4096


def test_a_crash_is_told_as_the_program_was_linked(memory: GuestMemory) -> None:
    tell(memory)
    shared = Area(find(Physical(memory), AT), memory)
    memory.write(AT + 20, struct.pack("<I3Q2I2Q", 11, 0xBAD, 0x5500_1234, 0x5500_0000, 2, 0, 0x5500_0010, 5))
    told = shared.told()
    assert (told.reason, told.address, told.pc) == (11, 0xBAD, 0x1234)
    assert told.stack == (0x10, (5 - 0x5500_0000) % (1 << 64))
    memory.write(AT + 48, b"\xff" * 4)
    assert len(shared.told().stack) == FRAMES
    shared.close()


def test_the_area_has_its_places_as_the_header_has_them() -> None:
    assert (area._LENGTH_AT, area._TOLD_AT) == (16, 20)
    assert area._TOLD.size == 36 + 8 * FRAMES


def test_a_port_takes_an_address_in_two_halves_and_tells_commands() -> None:
    stopped: list[int] = []
    port = FuzzPort(lambda: stopped.append(1))
    port.write(4, 4, 0xFFFF8880)
    port.write(0, 4, 0x12345000)
    port.write(0, 1, 7)
    assert port.address == 0xFFFF888012345000
    assert port.read(8, 4) == MAGIC
    port.write(8, 4, 77)
    assert (port.said, stopped) == (None, [])
    port.write(8, 4, 1)
    assert (port.said, stopped) == (Said.WAITS, [1])
    port.begin()
    port.following = lambda: True
    port.write(8, 4, 1)
    assert (port.said, stopped) == (None, [1])
    port.write(8, 4, 2)
    assert (port.said, stopped) == (Said.CRASHED, [1, 1])
