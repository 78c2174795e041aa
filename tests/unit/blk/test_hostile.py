"""Rings that no driver makes: the device declares itself broken or goes on, and never leaves guest RAM."""

from __future__ import annotations

import os
import random
import select
import struct
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corral.native import ffi
from tests.support.virtio_driver import (
    DEFAULT_FEATURES,
    F_INDIRECT_DESC,
    IN,
    INDIRECT,
    NEXT,
    OUT,
    WRITE,
    Disk,
    Queue,
)
from tests.unit.blk.conftest import ENGINES, SIZE

OpenDisk = Callable[..., Disk]
RAM = 16 << 20
HEADER, BUFFER, STATUS, TABLE = 0x200000, 0x201000, 0x300000, 0x301000
Descriptor = tuple[int, int, int, int]  # gpa, length, flags, next


def is_broken(disk: Disk, timeout: float = 10) -> bool:
    signalled = bool(select.select([disk.broken_fd], [], [], timeout)[0])
    assert signalled == disk.failed
    return signalled


def offer(queue: Queue, descriptors: list[Descriptor], table: int | None = None) -> None:
    for i, (gpa, length, flags, link) in enumerate(descriptors):
        queue.write_descriptor(queue.desc if table is None else table, i, gpa, length, flags, link)
    queue.put(0)
    queue.show(True)


GOOD: list[Descriptor] = [(HEADER, 16, NEXT, 1), (BUFFER, 512, NEXT | WRITE, 2), (STATUS, 1, WRITE, 0)]


def changed(index: int, descriptor: Descriptor) -> list[Descriptor]:
    return [*GOOD[:index], descriptor, *GOOD[index + 1 :]]


BAD_CHAINS = {
    "a buffer behind RAM": changed(1, (RAM, 512, NEXT | WRITE, 2)),
    "a buffer over the end of RAM": changed(1, (RAM - 511, 512, NEXT | WRITE, 2)),
    "a buffer that wraps": changed(1, (2**64 - 256, 512, NEXT | WRITE, 2)),
    "a buffer in the PCI hole": changed(1, (0xF0000000, 512, NEXT | WRITE, 2)),
    "a buffer behind 4 GiB": changed(1, (1 << 32, 512, NEXT | WRITE, 2)),
    "a length of 4 GiB": changed(1, (BUFFER, 2**32 - 1, NEXT | WRITE, 2)),
    "an empty header": changed(0, (HEADER, 0, NEXT, 1)),
    "an empty buffer": changed(1, (BUFFER, 0, NEXT | WRITE, 2)),
    "an empty buffer nowhere": changed(1, (2**64 - 1, 0, NEXT | WRITE, 2)),
    "a header that is not RAM": changed(0, (2**63, 16, NEXT, 1)),
    "a status that is not RAM": changed(2, (RAM, 1, WRITE, 0)),
    "a link out of the table": changed(1, (BUFFER, 512, NEXT | WRITE, 128)),
    "a link far out of the table": changed(1, (BUFFER, 512, NEXT | WRITE, 65535)),
    "a chain that bites its tail": changed(2, (STATUS, 1, WRITE | NEXT, 1)),
    "a descriptor that follows itself": changed(0, (HEADER, 16, NEXT, 0)),
    "readable after writable": [*GOOD[:2], (STATUS, 1, NEXT | WRITE, 3), (HEADER, 16, 0, 0)],
    "an indirect table with a successor": changed(0, (TABLE, 48, INDIRECT | NEXT, 1)),
    "an indirect table that is not RAM": changed(0, (RAM, 48, INDIRECT, 0)),
    "an indirect table over the end of RAM": changed(0, (RAM - 16, 48, INDIRECT, 0)),
    "an empty indirect table": changed(0, (TABLE, 0, INDIRECT, 0)),
    "an indirect table with a part of an entry": changed(0, (TABLE, 47, INDIRECT, 0)),
    "an indirect table of 4 GiB": changed(0, (TABLE, 2**32 - 16, INDIRECT, 0)),
}


@pytest.mark.parametrize("chain", BAD_CHAINS.values(), ids=BAD_CHAINS)
def test_a_bad_chain_breaks_the_queue(open_disk: OpenDisk, content: bytes, chain: list[Descriptor]) -> None:
    disk = open_disk()
    disk.memory.write(HEADER, struct.pack("<IIQ", IN, 0, 0))
    offer(disk.queues[0], chain)
    assert is_broken(disk)
    assert disk.queues[0].used_idx == 0
    disk.stop()
    disk.start()  # a reset is all that it needs
    assert not disk.failed
    assert disk.read(0, 4096) == content[:4096]


INDIRECT_TABLES = {
    "a link out of the table": [(HEADER, 16, NEXT, 3), *GOOD[1:]],
    "a table in a table": [(TABLE, 48, INDIRECT, 0), *GOOD[1:]],
    "a loop": [(HEADER, 16, NEXT, 0), *GOOD[1:]],
    "a buffer that is not RAM": changed(1, (RAM, 512, NEXT | WRITE, 2)),
}


@pytest.mark.parametrize("table", INDIRECT_TABLES.values(), ids=INDIRECT_TABLES)
def test_a_bad_indirect_table_breaks_the_queue(open_disk: OpenDisk, table: list[Descriptor]) -> None:
    disk = open_disk()
    for i, (gpa, length, flags, link) in enumerate(table):
        disk.queues[0].write_descriptor(TABLE, i, gpa, length, flags, link)
    offer(disk.queues[0], [(TABLE, 48, INDIRECT, 0)])
    assert is_broken(disk)


def test_the_write_flag_of_an_indirect_descriptor_means_nothing(open_disk: OpenDisk, content: bytes) -> None:
    disk = open_disk()
    for i, (gpa, length, flags, link) in enumerate(GOOD):
        disk.queues[0].write_descriptor(TABLE + 1, i, gpa, length, flags, link)  # and it lies where it likes
    disk.memory.write(HEADER, struct.pack("<IIQ", IN, 0, 0))
    offer(disk.queues[0], [(TABLE + 1, 48, INDIRECT | WRITE, 0)])
    while not disk.queues[0].used_idx:
        assert disk.wait_interrupt(10)
    assert disk.memory.read(BUFFER, 512) == content[:512]


def test_indirect_without_having_negotiated_it(open_disk: OpenDisk) -> None:
    disk = open_disk(features=DEFAULT_FEATURES & ~(1 << F_INDIRECT_DESC))
    disk.add(IN, 0, room=512, indirect=True)
    disk.queues[0].show(True)
    assert is_broken(disk)


@pytest.mark.parametrize("head", [128, 129, 65535])
def test_a_head_out_of_the_table(open_disk: OpenDisk, head: int) -> None:
    disk = open_disk()
    disk.queues[0].put(head)
    disk.queues[0].show(True)
    assert is_broken(disk)


@pytest.mark.parametrize("index", [129, 1000, 32768, 65535])
def test_more_added_than_there_is(open_disk: OpenDisk, index: int) -> None:
    disk = open_disk()
    disk.queues[0].avail_idx = index
    disk.queues[0].show(True)
    assert is_broken(disk)
    assert disk.queues[0].used_idx == 0


def test_a_chain_of_too_many_segments(open_disk: OpenDisk) -> None:
    disk = open_disk(queue_size=1024)
    disk.add(IN, 0, room=1024, sizes=[1] * 300)
    disk.queues[0].show(True)
    assert is_broken(disk)


def test_a_chain_of_more_than_four_gigabytes(open_disk: OpenDisk) -> None:
    """The same 15 MiB, 250 times and more: each buffer is RAM, the sum does not fit a used length."""
    disk = open_disk(queue_size=1024)
    part = (1 << 20, 15 << 20, NEXT | WRITE)
    offer(disk.queues[0], [(HEADER, 16, NEXT, 1), *((*part, i + 2) for i in range(252)), (STATUS, 1, WRITE, 0)])
    gone = is_broken(disk, 0.2)
    assert gone or disk.queues[0].used_idx == 1  # 3.7 GiB: a request like any other, though none that fits the disk
    disk.stop()


def test_more_in_flight_than_descriptors(open_disk: OpenDisk) -> None:
    """The same chain over and over, faster than it is served: rate limits keep it in flight."""
    disk = open_disk(queue_size=4, ops_per_second=20)
    disk.memory.write(HEADER, struct.pack("<IIQ", IN, 0, 0))
    for i, descriptor in enumerate(GOOD):
        disk.queues[0].write_descriptor(disk.queues[0].desc, i, *descriptor)
    for _ in range(4):
        disk.queues[0].put(0)
    disk.queues[0].show(True)
    time.sleep(0.05)
    for _ in range(5):
        disk.queues[0].put(0)
    disk.queues[0].show(True)
    assert is_broken(disk)
    disk.stop()
    assert disk.queues[0].used_idx <= 4


def test_one_broken_queue_leaves_the_others_alone(open_disk: OpenDisk, content: bytes) -> None:
    disk = open_disk(queues=2)
    disk.queues[0].put(999)
    disk.queues[0].show(True)
    assert is_broken(disk)
    assert disk.read(4, 512, queue=1) == content[2048:2560]


def test_a_buffer_over_the_device_s_own_rings(open_disk: OpenDisk) -> None:
    """Reading a disk into the rings is the guest's own affair, as long as it stays there."""
    disk = open_disk()
    queue = disk.queues[0]
    disk.memory.write(HEADER, struct.pack("<IIQ", IN, 0, 0))
    offer(queue, [GOOD[0], (queue.desc, 4096, NEXT | WRITE, 2), GOOD[2]])
    time.sleep(0.05)
    disk.stop()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"size": 0}, -22),
        ({"size": 3}, -22),
        ({"size": 2048}, -22),
        ({"desc": 0x1008}, -22),
        ({"avail": 0x1001}, -22),
        ({"used": 0x1002}, -22),
        ({"desc": RAM}, -14),
        ({"desc": RAM - 16}, -14),
        ({"avail": RAM - 260}, -14),
        ({"used": RAM - 1024}, -14),
        ({"desc": 2**64 - 16}, -14),
    ],
)
def test_queues_that_cannot_be(open_disk: OpenDisk, change: dict[str, int], expected: int) -> None:
    disk = open_disk()
    disk.stop()
    assert disk.try_start([disk.queues[0].setup() | change]) == expected
    assert disk.try_start([disk.queues[0].setup(ready=False) | change]) == 0
    disk.stop()
    disk.start()
    disk.read(0, 512)


# --- guarded memory: what a device must not touch is not there ---


def hammer(disk: Disk, seed: int, stop: threading.Event) -> None:
    """Rewrites rings, tables, headers and status while requests run."""
    dice = random.Random(seed)
    queue = disk.queues[0]
    view = disk.memory.view(0, disk.memory.size)
    places = [(queue.desc, queue.tables), (queue.tables, queue.tables + 4096), (disk.arena, disk.arena + 8192)]
    interesting = [0, 1, 0xFF, 16, 128]
    while not stop.is_set():
        first, end = dice.choice(places)
        at = dice.randrange(first, end)
        view[at] = dice.choice(interesting) if dice.random() < 0.5 else dice.randrange(256)


def survive(disk: Disk, seed: int, rounds: int) -> None:
    dice = random.Random(seed)
    stop = threading.Event()
    thread = threading.Thread(target=hammer, args=(disk, seed, stop))
    thread.start()
    try:
        for _ in range(rounds):
            queue = disk.queues[0]
            if disk.failed or len(queue.free) < 80:
                disk.stop()
                disk.start()
            disk.arena_at = disk.arena
            disk.flying.clear()
            for _ in range(dice.randrange(1, 8)):
                disk.add(
                    dice.choice([IN, OUT, IN, OUT, 4, 8, 11, 13]),
                    dice.randrange(100),
                    dice.randbytes(dice.choice([0, 16, 512])),
                    dice.choice([0, 512, 4096]),
                    indirect=dice.random() < 0.5,
                    sizes=[dice.randrange(1, 600)],
                )
            queue.show(True)
            time.sleep(0.0003)
    finally:
        stop.set()
        thread.join()
        disk.stop()


@pytest.mark.parametrize("overlay", [False, True], ids=["plain", "overlay"])
@pytest.mark.parametrize("seed", range(2))
def test_memory_that_changes_under_the_device(
    open_disk: OpenDisk, tmp_path: Any, content: bytes, seed: int, overlay: bool
) -> None:
    options = {}
    if overlay:
        options["overlay_fd"] = os.open(tmp_path, os.O_TMPFILE | os.O_RDWR)
    disk = open_disk(**options)
    survive(disk, seed, 100)
    disk.start()
    assert disk.do(IN, 0, room=512) == 0
    disk.stop()
    if overlay:
        assert (tmp_path / "image").read_bytes() == content
        disk.close = lambda: None  # type: ignore[method-assign]
        Disk.close(disk)
        os.close(options["overlay_fd"])


MUTATION = st.tuples(st.integers(0, 3000), st.binary(min_size=1, max_size=8))


@pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(mutations=st.lists(MUTATION, max_size=12), index=st.one_of(st.none(), st.integers(0, 65535)))
def test_mutated_rings(engine: int, mutations: list[tuple[int, bytes]], index: int | None) -> None:
    """All of it is decided by what is in memory: the device is done when it is idle or broken, and has written
    nothing outside the buffers that descriptors named. RAM ends where the mapping does, so ASan sees the rest."""
    fd = os.memfd_create("disk")
    os.ftruncate(fd, SIZE)
    disk = Disk(fd, SIZE, engine=engine, queue_size=32, memory=1 << 20)
    try:
        disk.start()
        for i in range(4):
            disk.add(IN if i % 2 else OUT, i, b"" if i % 2 else bytes(512), 512 * (i % 2), indirect=i > 1)
        queue = disk.queues[0]
        for at, data in mutations:
            disk.memory.write(queue.desc + at % (disk.arena_at - queue.desc), data)
        if index is not None:
            queue.avail_idx = index
        queue.show(True)
        end = time.monotonic() + 10
        while not disk.failed and queue.used_idx != queue.avail_idx:
            assert time.monotonic() < end
            time.sleep(0.0002)
    finally:
        disk.close()
        os.close(fd)


def test_ffi_types_of_the_interface_are_what_the_transport_fills_in() -> None:
    setup = ffi.new("struct corral_virtq_setup *", {"size": 8, "ready": True, "desc": 1, "avail": 2, "used": 3})
    assert (setup.size, setup.ready) == (8, True)
