"""Every engine, and an image for it."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from corral.native import lib
from tests.support.virtio_driver import Disk

SIZE = 1 << 20
ENGINES = {"threads": lib.CORRAL_BLK_THREADS}
if lib.corral_blk_has_uring():
    ENGINES["uring"] = lib.CORRAL_BLK_URING


@pytest.fixture(params=ENGINES.values(), ids=ENGINES)
def engine(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def content() -> bytes:
    return random.Random(7).randbytes(SIZE)


@pytest.fixture
def image(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "image"
    path.write_bytes(content)
    return path


@pytest.fixture
def open_disk(image: Path, engine: int) -> Iterator[Callable[..., Disk]]:
    """Makes started disks on the image, and closes them at the end."""
    disks: list[Disk] = []
    fds: list[int] = []

    def make(**options: Any) -> Disk:
        fds.append(os.open(image, options.pop("flags", os.O_RDWR) | os.O_CLOEXEC))
        disk = Disk(fds[-1], options.pop("size", SIZE), **{"engine": engine, **options})
        disks.append(disk)
        disk.start()
        return disk

    yield make
    for disk in disks:
        disk.close()
    for fd in fds:
        os.close(fd)


@pytest.fixture
def disk(open_disk: Callable[..., Disk]) -> Disk:
    return open_disk()
