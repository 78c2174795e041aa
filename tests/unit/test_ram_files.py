"""Guest RAM in files and over others: what comes back is what was there."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from corral.memory import PAGE, GuestMemory
from corral.snapshot.ram import Beside, Chain, Layer, RamJob, map_size

PAGES = 1003  # the last word of bits is not full
SIZE = PAGES * PAGE
OWN_AT, RAM_AT = 0, 16 * PAGE


@contextmanager
def ram(size: int = SIZE) -> Iterator[GuestMemory]:
    memory = GuestMemory(size)
    try:
        yield memory
    finally:
        memory.mapped = None
        memory.close()


def content(memory: GuestMemory) -> bytes:
    return memory.read(0, memory.size)


def change(memory: GuestMemory, chance: random.Random, pages: int) -> None:
    for _ in range(pages):
        page = chance.randrange(PAGES)
        memory.write(page * PAGE, chance.choice([bytes(PAGE), chance.randbytes(PAGE), b"\1" + bytes(PAGE - 1)]))


def saved(path: Path, memory: GuestMemory, parent: Chain | None = None) -> tuple[int, int, bytes | None]:
    """As a layer; the descriptor is open."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    os.ftruncate(fd, RAM_AT + memory.size)
    with Beside(RamJob(fd, RAM_AT, memory, parent, OWN_AT)) as other:
        other.wait()
    return fd, RAM_AT, os.pread(fd, map_size(memory.size), OWN_AT) if parent else None


@pytest.mark.parametrize("seed", range(8))
def test_each_generation_comes_back(seed: int, tmp_path: Path) -> None:
    """Saved from RAM of its own, and from RAM that goes on from an earlier generation."""
    chance = random.Random(seed)
    layers: list[Layer] = []
    try:
        with ram() as first:
            change(first, chance, chance.randrange(300))
            layers.insert(0, saved(tmp_path / "0", first))
            for number in range(1, 5):
                with ram() as other:
                    Chain(layers).map(other)
                    assert content(other) == content(first)
                    changing = first if chance.random() < 0.5 else other
                    change(changing, chance, chance.choice([0, 1, 40, 2000]))
                    if changing is first:
                        layers.insert(0, saved(tmp_path / str(number), first, Chain(layers)))
                    else:
                        layers.insert(0, saved(tmp_path / str(number), other, Chain(layers)))
                        first.write(0, content(other))
            with ram() as last:
                Chain(layers).map(last)
                assert content(last) == content(first)
    finally:
        for fd, _, _ in layers:
            os.close(fd)


def test_only_what_differs_is_written(tmp_path: Path) -> None:
    with ram() as memory:
        memory.write(0, b"\1" * SIZE)
        layer = saved(tmp_path / "parent", memory)
        memory.write(7 * PAGE, b"\2")
        memory.write(9 * PAGE, bytes(PAGE))
        child = saved(tmp_path / "child", memory, Chain([layer]))
    assert child[2]
    assert int.from_bytes(child[2], "little") == 1 << 7 | 1 << 9
    assert (tmp_path / "child").read_bytes().strip(b"\0").endswith(b"\2" + b"\1" * (PAGE - 1))
    os.close(layer[0])
    os.close(child[0])


def test_more_runs_than_are_mapped(tmp_path: Path) -> None:
    pages, run = 96_000, 4  # 12,000 runs, of which 10,000 are
    with ram(pages * PAGE) as memory:
        layer = saved(tmp_path / "parent", memory)
        for page in range(0, pages, 2 * run):
            memory.write(page * PAGE, (b"%08d" % page).ljust(PAGE) * run)
        child = saved(tmp_path / "child", memory, Chain([layer]))
        with ram(pages * PAGE) as other:
            Chain([child, layer]).map(other)
            for page in range(0, pages, 2 * run):
                text = (b"%08d" % page).ljust(PAGE) * run + bytes(run * PAGE)
                assert other.read(page * PAGE, 2 * run * PAGE) == text
    os.close(layer[0])
    os.close(child[0])


def test_a_failure_is_told(tmp_path: Path) -> None:
    with ram() as memory, (tmp_path / "x").open("wb") as file:
        memory.write(0, b"\1")
        with Beside(RamJob(file.fileno(), 1 << 62, memory)) as other, pytest.raises(OSError, match=r"large|Invalid"):
            other.wait()
        with pytest.raises(OSError, match=r"large|Invalid"):
            RamJob(file.fileno(), 1 << 62, memory).save()


def test_a_killed_writer_is_told_of() -> None:
    fd = os.memfd_create("ram")
    with ram(1 << 28) as memory:
        memory.write(0, b"\1" * memory.size)
        with Beside(RamJob(fd, 0, memory)) as other:
            os.kill(other._pid, signal.SIGKILL)
            with pytest.raises(OSError, match="was killed"):
                other.wait()
    os.close(fd)
