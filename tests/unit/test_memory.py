"""Guest RAM: what is inside, what is not, and the hole."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.errors import ConfigError
from corral.memory import GuestMemory, GuestMemoryError

GIB = 1 << 30
SIZE = 6 * GIB


@pytest.fixture(scope="module")
def memory() -> Iterator[GuestMemory]:
    memory = GuestMemory(SIZE)  # untouched pages cost nothing
    yield memory
    memory.close()


def test_ram_goes_around_the_hole(memory: GuestMemory) -> None:
    assert memory.regions == [(0, 3 * GIB), (4 * GIB, 3 * GIB)]
    assert sum(length for _, length in memory.regions) == memory.size


def test_both_ends_of_each_region_hold_what_was_written(memory: GuestMemory) -> None:
    for gpa, length in memory.regions:
        memory.write(gpa, b"first")
        memory.write(gpa + length - 4, b"last")
    for gpa, length in memory.regions:
        assert memory.read(gpa, 5) == b"first"
        assert memory.read(gpa + length - 4, 4) == b"last"


def test_the_regions_do_not_share_pages(memory: GuestMemory) -> None:
    memory.write(3 * GIB - 1, b"\x11")
    memory.write(4 * GIB, b"\x22")
    assert memory.read(3 * GIB - 1, 1) == b"\x11"


EDGES = [0, 1, 3 * GIB, 4 * GIB, 7 * GIB, 1 << 63, 1 << 64, -1]
ADDRESSES = st.one_of(
    st.integers(-(1 << 65), 1 << 65),
    st.builds(lambda edge, by: edge + by, st.sampled_from(EDGES), st.integers(-8200, 8200)),
)


@given(ADDRESSES, st.one_of(st.integers(-10, 10000), ADDRESSES))
def test_an_access_is_ram_exactly_when_every_byte_is(memory: GuestMemory, gpa: int, length: int) -> None:
    inside = length >= 0 and any(
        start <= gpa < start + size and gpa + length <= start + size for start, size in memory.regions
    )
    if inside:
        memory.view(gpa, length).release()
    else:
        with pytest.raises(GuestMemoryError):
            memory.view(gpa, length)


@pytest.mark.parametrize("size", [0, -1, 4095, (1 << 20) + 1, 1 << 62])
def test_absurd_sizes(size: int) -> None:
    with pytest.raises(ConfigError):
        GuestMemory(size)
