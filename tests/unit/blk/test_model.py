"""The device in C against a model in Python, on the same sequences of requests."""

from __future__ import annotations

import errno
import os
import random
import tempfile
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.virtio_driver import DISCARD, FLUSH, GET_ID, IN, OK, OUT, UNMAP, WRITE_ZEROES, Disk, ranges
from tests.unit.blk.conftest import ENGINES
from tests.unit.blk.model import Model

SECTORS = 61  # the last granule of an overlay is a part of one
CONTENT = random.Random(1).randbytes(SECTORS * 512)
SIZES = st.lists(st.sampled_from([1, 7, 15, 16, 100, 511, 512, 513, 4096]), max_size=8)
SECTOR = st.one_of(st.integers(0, SECTORS + 1), st.sampled_from([2**32, 2**55, 2**64 - 1]))
COUNT = st.integers(0, 24)


def bytes_of(count: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(count)


RANGE = st.tuples(st.integers(0, SECTORS), st.integers(0, 40), st.sampled_from([0, 0, 0, UNMAP, UNMAP, 2]))
GOOD_RANGE = st.integers(0, SECTORS - 1).flatmap(
    lambda sector: st.tuples(st.just(sector), st.integers(0, SECTORS - sector), st.just(0))
)
RANGES = st.one_of(st.lists(GOOD_RANGE, min_size=1, max_size=4), st.lists(RANGE, max_size=18))
REQUEST = st.one_of(
    st.tuples(st.just(IN), SECTOR, st.just(b""), COUNT.map(lambda n: 512 * n)),
    st.tuples(st.just(OUT), SECTOR, st.builds(lambda n, s: bytes_of(512 * n, s), COUNT, st.integers()), st.just(0)),
    st.tuples(st.just(FLUSH), st.just(0), st.just(b""), st.just(0)),
    st.tuples(st.just(GET_ID), st.just(0), st.just(b""), st.sampled_from([0, 19, 20, 21, 64])),
    st.tuples(st.sampled_from([DISCARD, WRITE_ZEROES]), st.just(0), RANGES.map(lambda r: ranges(*r)), st.just(0)),
    # Anything.
    st.tuples(st.integers(0, 20), SECTOR, st.integers(0, 1200).map(lambda n: bytes_of(n, n)), st.integers(0, 1200)),
)
STEP = st.tuples(REQUEST, SIZES, st.booleans(), st.sampled_from(["usual", "joined"]))


def make(folder: str, engine: int, overlay: bool, **options: Any) -> tuple[Disk, list[int]]:
    path = os.path.join(folder, "image")
    with open(path, "wb") as file:
        file.write(CONTENT)
    fds = [os.open(path, os.O_RDONLY if overlay else os.O_RDWR)]
    if overlay:
        layer = os.open(folder, os.O_TMPFILE | os.O_RDWR)
        fds.append(layer)
        options["overlay_fd"] = layer
    return Disk(fds[0], len(CONTENT), engine=engine, id=b"id of it", memory=4 << 20, **options), fds


def check(disk: Disk, model: Model, step: Any) -> None:
    (kind, sector, data, room), sizes, indirect, framing = step
    request = disk.add(kind, sector, data, room, sizes=sizes, indirect=indirect, framing=framing)
    disk.wait(request)
    expected = model.answer(kind, sector, data, room)
    assert (disk.status(request), request.written) == (expected.status, expected.written)
    found = disk.data(request)[: len(expected.data)]
    if kind == IN and expected.status == OK:
        assert model.agrees(sector * 512, found)
    else:
        assert found == expected.data


@pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)
@pytest.mark.parametrize("overlay", [False, True], ids=["plain", "overlay"])
@pytest.mark.parametrize("faults", [0, 3], ids=["healthy", "short"])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(steps=st.lists(STEP, max_size=25))
def test_the_device_does_what_the_model_does(engine: int, overlay: bool, faults: int, steps: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        disk, fds = make(folder, engine, overlay, fault_every=faults)
        model = Model(CONTENT, b"id of it")
        try:
            with disk:
                for step in steps:
                    check(disk, model, step)
                assert model.agrees(0, disk.read(0, len(CONTENT)))
                assert not disk.failed
            stored = os.pread(fds[0], len(CONTENT) + 1, 0)
            assert stored == CONTENT if overlay else len(stored) == len(CONTENT) and model.agrees(0, stored)
        finally:
            for fd in fds:
                os.close(fd)


@pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    number=st.sampled_from(["EIO", "ENOSPC", "EINTR", "EAGAIN"]),
    every=st.integers(2, 9),
    overlay=st.booleans(),
    steps=st.lists(STEP, max_size=25),
)
def test_a_failing_backend_gives_an_error_or_the_right_data(
    engine: int, number: str, every: int, overlay: bool, steps: list[Any]
) -> None:
    """A request that succeeded did what the model did. What a failed one has touched is unknown."""
    with tempfile.TemporaryDirectory() as folder:
        disk, fds = make(folder, engine, overlay, fault_every=every, fault_errno=getattr(errno, number))
        model = Model(CONTENT, b"id of it")
        harmless = number in ("EINTR", "EAGAIN")
        try:
            with disk:
                for (kind, sector, data, room), sizes, indirect, _ in steps:
                    request = disk.add(kind, sector, data, room, sizes=sizes, indirect=indirect)
                    disk.wait(request)
                    expected = model.answer(kind, sector, data, room)
                    status = disk.status(request)
                    if status == expected.status == OK and kind == IN:
                        assert model.agrees(sector * 512, disk.data(request))
                    if status != expected.status:
                        assert (status, harmless) == (1, False)
                        if kind == OUT:
                            model.known[sector : sector + len(data) // 512] = bytes(len(data) // 512)
                        elif kind == WRITE_ZEROES:
                            model.known[:] = bytes(SECTORS)
        finally:
            for fd in fds:
                os.close(fd)
