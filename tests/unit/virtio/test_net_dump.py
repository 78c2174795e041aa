"""--net-dump: a file that Wireshark's programs read (csrc/net/net_dump.c, backends/frame_dump.py)."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from corral.backends import frame_dump
from corral.errors import ConfigError
from tests.support.net_driver import Driver, ethernet

SECTION, INTERFACE, PACKET = 0x0A0D0D0A, 1, 6
SENT, RECEIVED = 2, 1


def blocks(data: bytes) -> list[tuple[int, bytes]]:
    found = []
    while data:
        kind, size = struct.unpack_from("<II", data)
        assert size % 4 == 0
        assert 12 <= size <= len(data)
        assert struct.unpack_from("<I", data, size - 4)[0] == size
        found.append((kind, data[8 : size - 4]))
        data = data[size:]
    return found


def test_each_frame_is_there_with_its_direction(tmp_path: Path) -> None:
    path = tmp_path / "frames.pcapng"
    fd = frame_dump.opened(str(path))
    frames = [ethernet(size, size) for size in (14, 61, 62, 63, 64, 1514, 60_000)]
    with Driver(dump_fd=fd) as driver:
        for frame in frames:
            driver.send(frame, cuts=(30, 400))
            assert driver.arrived() == frame
            driver.post(65_600)
            driver.give(frame[::-1])
            driver.get(1)
        assert driver.until(lambda: driver.stats["sent"] == len(frames))
    os.close(fd)
    first, second, *packets = blocks(path.read_bytes())
    assert first == (SECTION, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))
    assert second[0] == INTERFACE
    expected = [(SENT, frame) for frame in frames] + [(RECEIVED, frame[::-1]) for frame in frames]
    found, times = [], []
    for kind, body in packets:
        interface, high, low, kept, whole = struct.unpack_from("<IIIII", body)
        assert (kind, interface, kept) == (PACKET, 0, whole)
        times.append(high << 32 | low)
        code, size, flags, end = struct.unpack("<HHII", body[-12:])
        assert (code, size, end, len(body)) == (2, 4, 0, 20 + kept + -kept % 4 + 12)
        found.append((flags, body[20 : 20 + kept]))
    assert sorted(found) == sorted(expected)
    assert times == sorted(times)


def test_a_disk_that_is_full_costs_the_dump_and_no_frame() -> None:
    with open("/dev/full", "wb", buffering=0) as full, Driver(dump_fd=full.fileno()) as driver:
        for i in range(3):
            driver.send(ethernet(60, i))
            assert driver.arrived() == ethernet(60, i)
        assert driver.until(lambda: driver.stats["not_dumped"] == 3)


def test_it_has_a_size(tmp_path: Path) -> None:
    path = tmp_path / "frames.pcapng"
    fd = frame_dump.opened(str(path))
    before = os.fstat(fd).st_size
    with Driver(dump_fd=fd, dump_most=300) as driver:
        for i in range(4):
            driver.send(ethernet(60, i))
            assert driver.arrived() == ethernet(60, i)
        assert driver.until(lambda: driver.stats["not_dumped"] == 2)
    os.close(fd)
    assert before < path.stat().st_size <= before + 300
    assert len([kind for kind, _ in blocks(path.read_bytes()) if kind == PACKET]) == 2


def test_files_that_cannot_be(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path, tmp_path / "no" / "file", tmp_path / "fifo", Path("/dev/null")):
        with pytest.raises(ConfigError, match="--net-dump"):
            frame_dump.opened(str(path))
