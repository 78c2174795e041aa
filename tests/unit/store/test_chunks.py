"""Chunks: packed and unpacked, and what hostile ones cost."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.store import chunks
from corral.store.chunks import Damaged


@pytest.mark.parametrize("data", [os.urandom(chunks.SIZE), b"text" * 4096, b"x"])
def test_a_chunk_comes_back(data: bytes) -> None:
    stored = chunks.pack(data)
    assert len(stored) <= chunks.MOST
    assert chunks.unpack(stored, chunks.digest(data), len(data)) == data


def test_what_does_not_become_shorter_is_stored_as_it_is() -> None:
    data = os.urandom(chunks.SIZE)
    assert chunks.pack(data) == b"\0" + data
    assert len(chunks.pack(bytes(range(256)) * 256)) < 2000


@pytest.mark.parametrize(
    "harm",
    [
        lambda stored: stored[:-1],
        lambda stored: b"",
        lambda stored: b"\2" + stored[1:],
        lambda stored: stored[:12] + bytes([stored[12] ^ 1]) + stored[13:],
        lambda stored: stored + b"\0" * chunks.SIZE,
    ],
)
@pytest.mark.parametrize("data", [b"text" * 4096, os.urandom(chunks.SIZE)])
def test_a_damaged_one_is_found(data: bytes, harm: object) -> None:
    assert callable(harm)
    with pytest.raises(Damaged):
        chunks.unpack(harm(chunks.pack(data)), chunks.digest(data), len(data))


def test_a_bomb_is_not_unpacked() -> None:
    """256 MiB in 24 KiB of zstd."""
    bomb = b"\1" + chunks._compress(bytes(256 << 20))
    assert len(bomb) < chunks.SIZE
    with pytest.raises(Damaged):
        chunks.unpack(bomb, chunks.digest(b""), chunks.SIZE)


@given(st.lists(st.sampled_from([0, 1]), min_size=1, max_size=16))
def test_runs_of_pages_have_all_that_is_not_zero(kinds: list[int]) -> None:
    data = b"".join(bytes([kind]) * 4096 for kind in kinds)
    found = bytearray(len(data))
    for begin, end in chunks.pages(data):
        assert not begin % 4096
        assert data[begin:end] == b"\1" * (end - begin)
        found[begin:end] = data[begin:end]
    assert found == data
