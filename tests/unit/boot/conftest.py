"""Guest memory and files for the tests of booting."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from corral.memory import GuestMemory

MIB = 1 << 20


@pytest.fixture
def memory() -> Iterator[GuestMemory]:
    """64 MiB; closing it fails if a loader kept a view of it."""
    memory = GuestMemory(64 * MIB)
    yield memory
    memory.close()


@pytest.fixture
def save(tmp_path: Path) -> Callable[[bytes], Path]:
    """Writes bytes to a file of their own."""
    count = 0

    def save(data: bytes) -> Path:
        nonlocal count
        count += 1
        path = tmp_path / f"file{count}"
        path.write_bytes(data)
        return path

    return save
