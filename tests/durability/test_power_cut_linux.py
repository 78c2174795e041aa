"""A Linux guest with a journalling file system: at every point of its run a power cut leaves one that mounts, with
everything in it that the guest has synced."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from corral.config import DiskConfig
from tests.durability import files, linux
from tests.durability.effort import EFFORT, dice
from tests.durability.replay import cuts
from tests.support.blk_record import IMAGE, MARK, SYNC, Record, Recorder

STEPS = 60 * min(EFFORT, 4)
# What the disk tells the guest is written at once, its physical block. ext4 believes it: its superblock, which it
# writes in place, is two sectors with one checksum.
BLOCK = 4096
IMAGES = 2 * EFFORT  # at each cut
MOUNTS = min(2 * EFFORT, 8)
CACHES = ["writeback"] if EFFORT == 1 else ["writeback", "direct", "writethrough"]
Tell = Callable[[str], None]


@dataclass
class Run:
    before: bytes  # the image
    records: list[Record]


@pytest.fixture(scope="module", params=CACHES)
def recorded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    image = linux.file_system(tmp_path_factory.mktemp("linux") / "image")
    before, recorder = image.read_bytes(), Recorder()
    with linux.seams(record_fd=recorder.append):
        said = linux.run(DiskConfig(str(image), cache=request.param), "files", STEPS, recorder.mark)
    assert said.count("done") == STEPS
    records = recorder.take()
    recorder.close()
    return Run(before, records)


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder for images that are checked and thrown away: in memory where the host has such a file system."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as name:
        yield Path(name)


def images_of(run: Run, records: list[Record], every: int = 1) -> Iterator[tuple[int, int, bytes]]:
    """(cut, steps that were done, image), each pair of the latter once."""
    random, done, seen = dice("linux"), 0, set()
    for cut in cuts(records, run.before, BLOCK):
        if cut.at and records[cut.at - 1].op == MARK:
            done = records[cut.at - 1].result
        if cut.at % every:
            continue
        for image in cut.images(random, IMAGES):
            key = done, hash(bytes(image))
            if key not in seen:
                seen.add(key)
                yield cut.at, done, bytes(image)


def losses_of(images: Iterable[tuple[int, int, bytes]], folder: Path) -> tuple[int, list[str]]:
    """How many images there were, and what was lost in them."""

    def check(what: tuple[int, int, bytes]) -> list[str]:
        at, done, image = what
        return [f"cut before {at}, {done} steps: {loss}" for loss in files.losses(image, done, folder)]

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(check, images))
    return len(found), [loss for losses in found for loss in losses]


def test_what_was_synced_is_there_and_the_file_system_is_whole(recorded: Run, memory: Path, tell: Tell) -> None:
    checked, losses = losses_of(images_of(recorded, recorded.records), memory)
    assert not losses
    tell(f"{len(recorded.records) + 1} cuts, {checked} different images checked, {STEPS} steps")


def test_a_flush_that_does_nothing_is_found_out(recorded: Run, memory: Path) -> None:
    if not any(record.op == SYNC and record.file == IMAGE for record in recorded.records):
        pytest.skip("write-through: there is no FLUSH")
    lame = [record for record in recorded.records if record.op != SYNC]
    _, losses = losses_of(images_of(recorded, lame, every=40), memory)
    assert any("e2fsck" in loss for loss in losses)
    assert any("step" in loss or "log" in loss for loss in losses)


def test_the_guests_own_kernel_mounts_it(recorded: Run, tmp_path: Path) -> None:
    """Some of the images, drawn; of those from before the first step was synced, none has to have a log."""
    random = dice("mounts")
    images = images_of(recorded, recorded.records, every=20)
    chosen = random.sample([image for image in images if image[1]], MOUNTS)
    disks, lines = [], ["mkdir -p /m"]
    for index, (_, _, image) in enumerate(chosen):
        path = tmp_path / f"{index}.img"
        path.write_bytes(image)
        disks += ["--disk", str(path)]
        name = f"/dev/vd{chr(ord('a') + index)}"
        lines.append(f"mount -t ext4 {name} /m && cat /m/log > /dev/null && umount /m && echo whole")
    command = [sys.executable, "-m", "corral", "boot", *disks, "--", "; ".join(lines)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=linux.HANGS, stdin=subprocess.DEVNULL)
    assert done.stdout.count("whole") == len(chosen), done.stdout + done.stderr
