"""virtio-net's data plane (csrc/net/net.h), driven over a socket pair: what is sent arrives, and no guest breaks it."""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral.devices.virtio import net
from corral.native import lib
from tests.support.net_driver import COMMANDS, HEADER, PLAIN, RAM, RX, TX, Driver, ethernet
from tests.support.virtio_driver import INDIRECT, NEXT, WRITE

LARGEST = lib.CORRAL_NET_FRAME_MAX
NEEDS_CSUM, DATA_VALID = 1, 2
BUFFERS = 0x100000


@pytest.fixture
def driver() -> Iterator[Driver]:
    with Driver() as driver:
        yield driver


# --- from the guest ---


@pytest.mark.parametrize("size", [14, 15, 60, 191, 192, 193, 1514, 9000, 65534, LARGEST])
def test_a_frame_arrives_as_it_was_sent(driver: Driver, size: int) -> None:
    frame = ethernet(size, size)
    driver.send(frame)
    assert driver.arrived() == frame
    assert driver.until(lambda: driver.stats["sent_bytes"] == size)


def checksum(data: bytes) -> int:
    """RFC 1071, as its text has it."""
    total = sum(struct.unpack(f">{len(data) // 2}H", data[: len(data) & ~1]))
    total += data[-1] << 8 if len(data) & 1 else 0
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


@settings(max_examples=60, deadline=None)
@given(
    st.binary(min_size=60, max_size=3000),
    st.lists(st.integers(1, 3000), max_size=12),
    st.integers(14, 50),
    st.sampled_from([6, 16]),
)
def test_a_checksum_that_was_left_to_the_device(data: bytes, cuts: list[int], start: int, offset: int) -> None:
    """However the frame lies in memory, and whatever the driver has put there for the pseudo header."""
    with Driver(PLAIN | net.CSUM) as driver:
        data = data + bytes(max(0, start + offset + 2 - len(data)))
        driver.send(data, tuple(cuts), flags=NEEDS_CSUM, csum_start=start, csum_offset=offset)
        at = start + offset
        expected = checksum(data[start:]) or 0xFFFF
        assert driver.arrived() == data[:at] + struct.pack(">H", expected) + data[at + 2 :]


BAD_HEADERS = {
    "a checksum that was not negotiated": (PLAIN, {"flags": NEEDS_CSUM}),
    "a checksum behind the frame": (PLAIN | net.CSUM, {"flags": NEEDS_CSUM, "csum_start": 99, "csum_offset": 0}),
    "a checksum over the end": (PLAIN | net.CSUM, {"flags": NEEDS_CSUM, "csum_start": 50, "csum_offset": 49}),
    "a checksum far away": (PLAIN | net.CSUM, {"flags": NEEDS_CSUM, "csum_start": 65535, "csum_offset": 65535}),
    "segmentation": (PLAIN | net.CSUM, {"flags": NEEDS_CSUM, "gso_type": 1, "gso_size": 1448}),
    "segmentation of an unknown kind": (PLAIN, {"gso_type": 77}),
}


@pytest.mark.parametrize(("features", "header"), BAD_HEADERS.values(), ids=BAD_HEADERS)
def test_a_header_that_cannot_be_costs_its_frame_alone(features: int, header: dict[str, int]) -> None:
    with Driver(features) as driver:
        driver.send(ethernet(100, 1), **header)
        driver.send(ethernet(100, 2))
        assert driver.arrived() == ethernet(100, 2)
        assert driver.until(lambda: driver.stats["sent"] == 1)
        assert driver.stats["refused"] == 1
        assert driver.until(lambda: driver.queues[TX].used_idx == 2)


@pytest.mark.parametrize("size", [0, 1, 13, LARGEST + 1])
def test_what_is_no_frame_is_counted_and_given_back(driver: Driver, size: int) -> None:
    driver.send(ethernet(size))
    driver.send(ethernet(60))
    assert driver.arrived() == ethernet(60)
    assert driver.until(lambda: driver.queues[TX].used_idx == 2)
    assert driver.stats["refused"] == 1


def test_a_reader_that_is_slow_loses_nothing(driver: Driver) -> None:
    frames = [ethernet(20_000 + i, i) for i in range(60)]
    for frame in frames:
        driver.add(frame)
    driver.queues[TX].show()
    assert [driver.arrived() for _ in frames] == frames
    assert driver.until(lambda: driver.queues[TX].used_idx == 60)
    assert driver.stats["sent_dropped"] == 0


def test_without_a_reader_the_device_stops_all_the_same(driver: Driver) -> None:
    for i in range(60):
        driver.add(ethernet(30_000, i))
    driver.queues[TX].show()
    assert driver.until(lambda: driver.stats["sent"] > 0)
    driver.stop()


def test_a_frame_that_was_half_sent_is_whole_after_a_reset(driver: Driver) -> None:
    """The stream is another's too: a driver that comes anew must not leave it in the middle of a frame."""
    frames = [ethernet(50_000, i) for i in range(12)]
    for frame in frames:
        driver.add(frame)
    driver.queues[TX].show()
    assert driver.until(lambda: driver.stats["sent"] > 0)
    driver.stop()
    sent = driver.stats["sent"]
    driver.start()
    assert [driver.arrived() for _ in range(sent)] == frames[:sent]
    driver.send(ethernet(77, 99))
    assert driver.arrived() == ethernet(77, 99)


def test_an_end_that_has_gone_is_told_and_frames_to_it_are_dropped(driver: Driver) -> None:
    assert driver.status == lib.CORRAL_NET_LINK_UP
    driver.line.close()
    assert driver.until(lambda: driver.status == 0)
    assert driver.irq.status & 2
    for i in range(3):
        driver.send(ethernet(100, i))
    assert driver.until(lambda: driver.queues[TX].used_idx == 3)
    assert driver.stats["sent_dropped"] == 3
    driver.stop()


def test_a_card_without_another_end() -> None:
    with Driver(fd=-1) as driver:
        assert driver.status == 0
        driver.send(ethernet(100))
        assert driver.until(lambda: driver.queues[TX].used_idx == 1)


# --- to the guest ---


@pytest.mark.parametrize("size", [14, 15, 60, 1514, 9000, LARGEST])
@pytest.mark.parametrize("buffer", [12, 100, 1536, 65536])
def test_a_frame_is_spread_over_as_many_buffers_as_it_takes(size: int, buffer: int) -> None:
    count = -(-(size + HEADER.size) // buffer)
    if count > 64:
        pytest.skip("more buffers than the queue has")
    with Driver() as driver:
        driver.post(*[buffer] * count)
        driver.give(ethernet(size, 7))
        [(header, frame)] = driver.get(1)
        assert frame == ethernet(size, 7)
        assert header == (0, 0, 0, 0, 0, 0, count)


def test_frames_wait_for_buffers_and_none_is_lost(driver: Driver) -> None:
    frames = [ethernet(200 + i, i) for i in range(50)]
    driver.give(*frames)
    got: list[bytes] = []
    for _ in range(17):
        driver.post(1536, 1536, 1536)
        got += [frame for _, frame in driver.get(min(3, 50 - len(got)))]
    assert got == frames


def test_a_frame_that_has_a_part_of_its_buffers_waits_for_the_rest(driver: Driver) -> None:
    driver.post(100, 100)
    driver.give(ethernet(1000, 3))
    for _ in range(3):
        driver.post(100, 100, 100)
    [(header, frame)] = driver.get(1)
    assert frame == ethernet(1000, 3)
    assert header[6] == 11


def test_without_merging_a_frame_that_does_not_fit_is_dropped() -> None:
    with Driver(PLAIN & ~net.MRG_RXBUF) as driver:
        driver.post(1526)
        driver.give(ethernet(1515, 1), ethernet(1514, 2))
        [(header, frame)] = driver.get(1)
        assert frame == ethernet(1514, 2)
        assert header[6] == 1
        assert driver.stats["received_dropped"] == 1


def test_a_frame_that_no_number_of_buffers_holds_is_dropped(driver: Driver) -> None:
    driver.post(*[12] * 64)
    driver.give(ethernet(12 * 64, 1), ethernet(14, 2))
    [(header, frame)] = driver.get(1)
    assert frame == ethernet(14, 2)
    assert header[6] == 3


def test_only_checksums_of_an_end_that_is_trusted_are_vouched_for() -> None:
    for trusted, features, expected in ((True, net.GUEST_CSUM, DATA_VALID), (True, 0, 0), (False, net.GUEST_CSUM, 0)):
        with Driver(PLAIN | features, trusted=trusted) as driver:
            driver.post(2000)
            driver.give(ethernet(100))
            assert driver.get(1)[0][0][0] == expected


@pytest.mark.parametrize("length", [LARGEST + 1, 0x7FFFFFFF, 0xFFFFFFFF])
def test_a_stream_that_makes_no_sense_ends_the_link(driver: Driver, length: int) -> None:
    driver.post(2000)
    driver.line.sendall(struct.pack(">I", length) + bytes(100))
    assert driver.until(lambda: driver.status == 0)
    assert not driver.failed


def test_frames_too_short_are_skipped(driver: Driver) -> None:
    driver.post(2000)
    driver.give(b"", b"x" * 13, ethernet(14, 5))
    assert driver.get(1)[0][1] == ethernet(14, 5)
    assert driver.stats["received_dropped"] == 2


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(0, 5000), min_size=1, max_size=40), st.lists(st.integers(1, 4000), min_size=1), st.integers(0)
)
def test_frames_in_any_pieces(sizes: list[int], pieces: list[int], seed: int) -> None:
    """The stream is cut anywhere, and buffers come at any time."""
    noise = random.Random(seed)  # how often it is asked depends on time, so Hypothesis cannot draw it
    frames = [ethernet(size, seed) for seed, size in enumerate(sizes)]
    stream = b"".join(struct.pack(">I", len(frame)) + frame for frame in frames)
    kept = [frame for frame in frames if len(frame) >= 14]
    with Driver() as driver:
        at = 0
        got: list[bytes] = []
        while len(got) < len(kept) or at < len(stream):
            piece = stream[at : at + noise.choice(pieces)]
            driver.line.sendall(piece)
            at += len(piece)
            while len(driver.queues[RX].free) > 32:
                driver.post(noise.choice([600, 1536, 6000]))
                if driver.at > RAM - 100_000:
                    driver.at = driver.arena  # what lies there has come back long ago
            got += [frame for _, frame in driver.received()]
        assert got == kept


# --- commands, life ---


def test_commands_that_it_has_not_are_refused(driver: Driver) -> None:
    for octets in ((0, 0, 1), (1, 1, 1, 2, 3, 4, 5, 6), (4, 0, 2, 0), (3,), (3, 1), (255, 255)):
        assert driver.command(*octets) == 1


def test_a_driver_that_has_moved_announces_itself_once() -> None:
    with Driver(PLAIN | net.GUEST_ANNOUNCE | net.CTRL_VQ) as driver:
        driver.post(2000, 2000)
        driver.send(ethernet(60, 1))
        assert driver.arrived() == ethernet(60, 1)
        driver.move()
        assert driver.status == 3
        assert driver.irq.status & 2
        assert driver.command(3, 0) == 0
        assert driver.status == 1
        driver.send(ethernet(60, 2))
        assert driver.arrived() == ethernet(60, 2)
        driver.give(ethernet(100, 3))
        assert driver.get(1)[0][1] == ethernet(100, 3)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.one_of(st.integers(14, 3000), st.sampled_from(["move", "post"])), max_size=25))
def test_a_device_that_goes_on_uses_each_buffer_once(steps: list[int | str]) -> None:
    with Driver(PLAIN | net.CTRL_VQ | net.GUEST_ANNOUNCE) as driver:
        pending: list[bytes] = []
        for seed, step in enumerate(steps):
            if step == "move":
                driver.move()
                pending.clear()  # on their way over the connection that has ended
            elif step == "post":
                driver.post(500, 1000)
            elif isinstance(step, int):
                driver.send(ethernet(step, seed))
                assert driver.arrived() == ethernet(step, seed)
                driver.give(ethernet(300, seed))
                pending.append(ethernet(300, seed))
            count = min(len(pending), len(driver.buffers))
            assert [frame for _, frame in driver.get(count)] == pending[:count]
            del pending[:count]
        assert not driver.failed


def test_a_driver_that_resets_again_and_again(driver: Driver) -> None:
    for i in range(100):
        driver.stop()
        driver.start()
        driver.send(ethernet(60, i))
        assert driver.arrived() == ethernet(60, i)


@pytest.mark.parametrize("queue", [RX, TX])
def test_it_does_not_start_without_both_queues(queue: int) -> None:
    driver = Driver()
    setups = [one.setup(ready=index != queue) for index, one in enumerate(driver.queues)]
    assert driver.try_start(setups=setups) < 0
    driver.start()
    driver.send(ethernet(60))
    assert driver.arrived() == ethernet(60)
    driver.close()


# --- hostile rings ---


BAD_CHAINS = {
    "a buffer behind RAM": [(RAM, 64, 0, 0)],
    "a buffer over the end of RAM": [(RAM - 63, 64, 0, 0)],
    "a buffer that wraps": [(2**64 - 32, 64, 0, 0)],
    "an empty buffer": [(BUFFERS, 0, 0, 0)],
    "a chain that bites its tail": [(BUFFERS, 64, NEXT, 0)],
    "a link out of the table": [(BUFFERS, 64, NEXT, 64)],
    "an indirect table that is not RAM": [(RAM, 16, INDIRECT, 0)],
    "no room for a header": [(BUFFERS, 11, 0, 0)],
}


@pytest.mark.parametrize("queue", [RX, TX, COMMANDS])
@pytest.mark.parametrize("chain", BAD_CHAINS.values(), ids=BAD_CHAINS)
def test_a_chain_that_cannot_be_breaks_the_device_until_its_reset(
    driver: Driver, queue: int, chain: list[tuple[int, int, int, int]]
) -> None:
    """Of received frames the buffers are writable, and those of commands have an answer: here too there is none."""
    for index, (at, size, flags, link) in enumerate(chain):
        flags |= WRITE if queue == RX and not flags & INDIRECT else 0
        driver.queues[queue].write_descriptor(driver.queues[queue].desc, index, at, size, flags, link)
    driver.queues[queue].put(0)
    driver.give(ethernet(100))
    driver.queues[queue].show(kick=True)
    assert driver.until(lambda: driver.failed)
    driver.stop()
    driver.start()
    assert not driver.failed
    driver.post(2000)
    assert driver.get(1)[0][1] == ethernet(100)


@given(st.integers(0, 1 << 32), st.integers(1, 60))
@settings(deadline=None, max_examples=60)
def test_rings_of_noise_never_lead_out_of_memory(seed: int, steps: int) -> None:
    """The page behind RAM faults. Whatever was written there, a reset brings the device back."""
    noise = random.Random(seed)
    with Driver(PLAIN | net.CSUM | net.GUEST_CSUM | net.CTRL_VQ) as driver:
        driver.line.settimeout(0.0)
        for _ in range(steps):
            queue = noise.choice(driver.queues)
            at = noise.randrange(queue.desc, queue.tables - 16)
            if noise.random() < 0.6:
                where = noise.choice([BUFFERS, RAM - 32, noise.randrange(1 << 64)])
                size = noise.choice([0, 1, 12, 64, 2000, 1 << 31])
                driver.memory.write(
                    at & ~15, struct.pack("<QIHH", where, size, noise.randrange(8), noise.randrange(66))
                )
            else:
                driver.memory.write(at, noise.randbytes(2))
            driver.memory.write(BUFFERS, noise.randbytes(16))
            queue.store(queue.avail + 2, noise.randrange(1 << 16) if noise.random() < 0.1 else noise.randrange(64))
            os.eventfd_write(queue.kick_fd, 1)
            try:
                driver.give(ethernet(noise.randrange(100)))
                driver.line.recv(1 << 20)
            except BlockingIOError:
                pass
        driver.stop()
        driver.start()
        driver.send(ethernet(60))
        assert driver.until(lambda: driver.queues[TX].used_idx == 1)
