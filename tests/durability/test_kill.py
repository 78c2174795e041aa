"""kill -9 at random points: what was flushed is in the image, which opens at once, and nothing else is left.

A kill takes nothing from the host's page cache; what that could lose is test_power_cut.py's matter.
"""

from __future__ import annotations

import multiprocessing
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from corral.backends.disk_image import DiskImage
from corral.config import DiskConfig
from corral.guests import kernel
from tests.durability import files, linux, victim
from tests.durability.effort import EFFORT, dice
from tests.unit.blk.conftest import ENGINES

Tell = Callable[[str], None]
KILLS = 30 * EFFORT  # of each engine and cache
LONGEST_LIFE = 0.12  # seconds, its start included
GUESTS = 3 * EFFORT


# Each victim starts at once, with all imports done.
fork = multiprocessing.get_context("fork")


def opens_at_once(config: DiskConfig) -> float:
    """Seconds until the image, which is nobody's any more, was open and locked."""
    start = time.monotonic()
    DiskImage(config).close()
    return time.monotonic() - start


@pytest.mark.parametrize("cache", ["writeback", "direct", "writethrough", "snapshot"])
@pytest.mark.parametrize("engine", ENGINES)
def test_a_killed_vmm(tmp_path: Path, engine: str, cache: str, tell: Tell) -> None:
    image, layers = tmp_path / "image", tmp_path / "layers"
    image.write_bytes(bytes(victim.SIZE))
    layers.mkdir()
    snapshot = cache == "snapshot"
    config = DiskConfig(str(image), cache="writeback" if snapshot else cache, snapshot=snapshot)
    random, expected, first, flushed, slowest = dice("kill", engine, cache), victim.Expected(), 1, 0, 0.0
    for _ in range(KILLS):
        reader, writer = fork.Pipe(duplex=False)
        arguments = (config, str(layers), ENGINES[engine], first, str(random.random()), writer)
        process = fork.Process(target=victim.live, args=arguments)
        process.start()
        writer.close()
        time.sleep(random.uniform(0, LONGEST_LIFE))
        process.kill()
        process.join(linux.HANGS)
        assert process.exitcode == -signal.SIGKILL  # and did not end before, by what it had found
        last = first - 1
        while reader.poll():
            try:
                last = reader.recv()
            except EOFError:
                break
        reader.close()
        slowest = max(slowest, opens_at_once(config))
        if not snapshot:
            expected.flushed(first, last)
        assert not list(expected.losses(image.read_bytes()))
        assert sorted(tmp_path.iterdir()) == [image, layers]
        assert not list(layers.iterdir())
        flushed += last + 1 - first
        first = last + 1 + victim.BATCH
    assert flushed
    tell(f"{KILLS} kills, {flushed} writes flushed before them, open again within {slowest * 1000:.0f} ms")


STEPS = 10000  # that a guest has to do: more than it gets to


class Guest:
    """`corral boot` with a Linux guest, and how far it said it was."""

    def __init__(self, image: Path, cache: str) -> None:
        self.config = DiskConfig(str(image), cache=cache)
        command = [sys.executable, "-m", "corral", "boot", kernel.get("small").path]
        command += ["--initrd", str(linux.initrd()), "--memory", "64M", "--disk", f"{image},cache={cache}"]
        command += ["--append", " ".join(linux.words("files", STEPS))]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        self.said = b""

    def done(self) -> int:
        lines = [line.split() for line in self.said.split(b"\n")[:-1]]
        return max((int(words[1]) for words in lines if words[:1] == [b"done"]), default=0)

    def listen(self, until: int) -> None:
        """Until it has done so many steps, or has ended."""
        assert self.process.stdout
        end = time.monotonic() + linux.HANGS
        while self.done() < until:
            assert select.select([self.process.stdout], [], [], max(0.0, end - time.monotonic()))[0], self.said
            more = os.read(self.process.stdout.fileno(), 65536)
            if not more:
                return
            self.said += more


@pytest.mark.parametrize("cache", ["writeback"] if EFFORT == 1 else ["writeback", "direct", "writethrough"])
def test_a_killed_linux_guest(tmp_path: Path, cache: str, tell: Tell) -> None:
    random, steps = dice("guests", cache), 0
    guests = [Guest(linux.file_system(tmp_path / f"{index}.img"), cache) for index in range(GUESTS)]
    for guest in guests:
        guest.listen(random.randint(1, 6))
        time.sleep(random.uniform(0, 0.5))
        guest.process.kill()
        guest.listen(1 << 30)
        assert guest.process.wait(linux.HANGS) == -signal.SIGKILL
        opens_at_once(guest.config)
        assert files.losses(Path(guest.config.path).read_bytes(), guest.done(), tmp_path, ahead=STEPS) == []
        assert guest.process.stdout
        guest.process.stdout.close()
        steps += guest.done()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(f"{index}.img" for index in range(GUESTS))
    tell(f"{GUESTS} kills, {steps} steps synced before them")
