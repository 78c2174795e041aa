"""virtio-blk at native speed: the bare guest of the benchmark, which looks at what it reads (guests/bare/blk.c)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from corral.backends.console import Console
from corral.config import DiskConfig, MachineConfig
from corral.core.exits import Cause
from corral.guests import parameters
from corral.machine import Machine
from tests.support.bare_guests import SECTOR, blk_guest, make_image, sector, written_sector

SIZE = 1 << 20
BLOCK = 8  # sectors
BLOCKS = SIZE // SECTOR // BLOCK


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return make_image(tmp_path / "disk.img", SIZE)


def run(words: str, *images: Path, read_only: bool = False) -> tuple[list[str], Any]:
    """The lines that the guest says, and the QueueStats of its disk."""
    reader, writer = os.pipe()
    config = MachineConfig(
        kernel=str(blk_guest()),
        memory=32 << 20,
        cmdline=f"{parameters.for_devices(len(images))} {words}",
        disks=tuple(DiskConfig(str(image), read_only=read_only) for image in images),
    )
    try:
        with Machine(config) as machine:
            outcome = machine.run(Console(writer), timeout=60)
            counters = machine.disks[0].stats()[0] if machine.disks else None
        assert outcome.cause is Cause.RESET
        return os.read(reader, 65536).decode().splitlines(), counters
    finally:
        os.close(reader)
        os.close(writer)


@pytest.mark.parametrize("order", ["random", "sequential"])
@pytest.mark.parametrize("depth", [1, 16, 256])
def test_what_it_reads_is_right(image: Path, order: str, depth: int) -> None:
    said, counters = run(f"op=read order={order} depth={depth} requests=2000 verify={BLOCKS}", image)
    assert said[0] == "ready"
    assert re.fullmatch(r"ran 2000 requests in \d+ cycles with \d+ doorbells", said[1])
    assert said[2:] == [f"right: {BLOCKS} blocks"]
    assert (counters.reads, counters.errors, counters.interrupts) == (2000 + BLOCKS, 0, 0)


def test_what_it_writes_is_on_the_image_and_nothing_else(image: Path) -> None:
    said, counters = run(f"op=write depth=32 requests=100 verify={BLOCKS}", image)
    content = image.read_bytes()
    written = 0
    for block in range(BLOCKS):
        numbers = range(block * BLOCK, (block + 1) * BLOCK)
        has = content[numbers[0] * SECTOR :][: BLOCK * SECTOR]
        written += has == b"".join(map(written_sector, numbers))
        assert has in (b"".join(map(sector, numbers)), b"".join(map(written_sector, numbers)))
    assert 0 < written <= 100
    assert said[2:] == [f"right: {written} blocks"]
    assert counters.writes == 100


@pytest.mark.parametrize("number", [0, 1001, SIZE // SECTOR - 1])
def test_a_sector_that_is_wrong_is_found(image: Path, number: int) -> None:
    with open(image, "r+b") as file:
        file.seek(number * SECTOR + SECTOR - 8)
        file.write(b"\1" + bytes(7))
    said, _ = run(f"op=read depth=4 requests=10 verify={BLOCKS}", image)
    should_be = int.from_bytes(sector(number)[:8], "little")
    assert said[-1] == f"wrong: sector {number} has 1 instead of {should_be}"


def test_a_request_that_fails_is_told(image: Path) -> None:
    assert run("op=write", image, read_only=True)[0] == ["ready", "wrong: a request failed"]


def test_a_layer_that_is_full_is_told(image: Path) -> None:
    before = image.read_bytes()
    words = ["--memory", "64M", "--root", "none", "--append", "op=write requests=1000", "--timeout", "60"]
    words += ["--disk", f"{image},snapshot=on,layer=512K"]
    done = subprocess.run(
        [sys.executable, "-m", "corral", "boot", str(blk_guest()), *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "wrong: a request failed" in done.stdout
    assert "disk 0: its layer is full with 512 KiB, and writes failed; snapshot=on,layer=SIZE gives" in done.stderr
    assert image.read_bytes() == before


def test_without_a_disk_it_says_so() -> None:
    assert run("op=read")[0] == ["wrong: no such device of version 2"]
