"""Ports of a virtio-console: streams between a driver's queues and descriptors, and drivers that misbehave."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corral.backends.channel import Port
from corral.devices.virtio.device import BadQueue
from tests.support.port_driver import (
    CONSOLE_PORT,
    DEVICE_READY,
    PORT_ADD,
    PORT_NAME,
    PORT_OPEN,
    PORT_READY,
    PORT_REMOVE,
    PortDriver,
)

ALL = bytes(range(256))
WORDS, IN, OUT, ERR = range(4)


class Host:
    """Pipes for a session's streams, and the driver of the ports at their other ends."""

    def __init__(self, event_idx: bool = True, sink_blocks: bool = False) -> None:
        self.source, self.typed = os.pipe()
        self.output, self.sink = os.pipe()
        self.errors, self.error_sink = os.pipe()
        self.words, theirs = socket.socketpair()
        self.theirs = theirs
        for descriptor in (self.sink, self.error_sink, self.source):
            os.set_blocking(descriptor, False)
        os.set_blocking(self.sink, sink_blocks)
        words = Port("words", theirs.fileno(), theirs.fileno())
        streams = Port("in", source=self.source), Port("out", sink=self.sink), Port("err", sink=self.error_sink)
        self.driver = PortDriver([words, *streams], event_idx)

    def close(self) -> None:
        self.driver.close()
        for descriptor in (self.source, self.typed, self.output, self.sink, self.errors, self.error_sink):
            if descriptor >= 0:
                os.close(descriptor)
        self.words.close()
        self.theirs.close()

    def hang_up(self, name: str) -> None:
        os.close(getattr(self, name))
        setattr(self, name, -1)


@pytest.fixture(params=[True, False], ids=["event_idx", "flags"])
def host(request: pytest.FixtureRequest) -> Iterator[Host]:
    host = Host(request.param)
    host.driver.start()
    host.driver.connect()
    yield host
    host.close()


def test_a_driver_is_told_of_port_0_when_the_others_are_open(host: Host) -> None:
    told = [said[:3] for said in host.driver.listen()]
    opened = [told.index((port, PORT_OPEN, 1)) for port in (IN, OUT, ERR)]
    assert max(opened) < told.index((WORDS, PORT_ADD, 1))
    assert told.count((WORDS, PORT_ADD, 1)) == 1
    names = {said[0]: said[3] for said in host.driver.told if said[1] == PORT_NAME}
    assert names == {WORDS: b"words", IN: b"in", OUT: b"out", ERR: b"err"}


@pytest.mark.parametrize("pieces", [1, 7, 30])
def test_what_a_program_writes_is_written(host: Host, pieces: int) -> None:
    driver, index = host.driver, PortDriver.of(OUT) + 1
    driver.write(index, ALL * 8, pieces)
    assert driver.until(lambda: driver.sent(index))
    assert os.read(host.output, 4096) == ALL * 8
    assert driver.device.state(OUT).written == 2048


def test_output_and_errors_are_apart(host: Host) -> None:
    driver = host.driver
    driver.write(PortDriver.of(OUT) + 1, b"out", ring=False)
    driver.write(PortDriver.of(ERR) + 1, b"err")
    assert (os.read(host.output, 99), os.read(host.errors, 99)) == (b"out", b"err")


def test_input_is_read_whole_and_its_end_is_told_after_it(host: Host) -> None:
    os.write(host.typed, ALL * 64)
    host.hang_up("typed")
    assert host.driver.read(IN, len(ALL) * 64) == ALL * 64
    assert host.driver.hears(IN, PORT_OPEN, 0)
    assert host.driver.device.state(IN).taken == len(ALL) * 64


def test_no_more_is_read_than_the_driver_has_room_for(host: Host) -> None:
    """What is not read waits in the pipe, and holds back who writes there."""
    driver, room = host.driver, 32 * 512
    os.write(host.typed, bytes(room + 1000))
    assert driver.until(lambda: driver.device.state(IN).taken == room)
    left = struct.unpack("i", fcntl.ioctl(host.source, 0x541B, bytes(4)))[0]  # FIONREAD
    assert left == 1000


def test_a_port_that_no_program_has_open_gets_nothing(host: Host) -> None:
    driver = host.driver
    driver.tell(IN, PORT_OPEN, 0)
    assert driver.until(lambda: not driver.device.state(IN).open)
    os.write(host.typed, b"later")
    driver.write(PortDriver.of(OUT) + 1, b"x")  # a round of the device
    assert os.read(host.output, 9) == b"x"
    assert driver.device.state(IN).taken == 0
    driver.tell(IN, PORT_OPEN, 1)
    assert driver.read(IN, 5) == b"later"


def test_a_reader_who_does_not_read_holds_its_own_stream_back_alone(host: Host) -> None:
    driver, index = host.driver, PortDriver.of(OUT) + 1
    fcntl.fcntl(host.sink, 1031, 4096)  # F_SETPIPE_SZ
    for _ in range(8):
        driver.write(index, bytes(4096))
    driver.write(PortDriver.of(ERR) + 1, b"err")
    assert os.read(host.errors, 9) == b"err"
    assert not driver.sent(index)
    driver.device.flush()
    assert not driver.device.flushed
    got = 0
    while got < 8 * 4096:
        got += len(os.read(host.output, 65536))
    assert driver.until(lambda: driver.sent(index) and driver.device.flushed)
    assert select.select([driver.device.event.value], [], [], 0)[0]


def test_a_stop_does_not_wait_for_a_reader(host: Host) -> None:
    driver = host.driver
    for _ in range(20):
        driver.write(PortDriver.of(OUT) + 1, bytes(8192))
    assert driver.until(lambda: driver.device.state(OUT).written > 0)
    assert driver.device.stop()
    driver.device.flush()
    assert driver.device.flushed  # it never will be


def test_a_sink_that_blocks_is_never_waited_for(tmp_path: Path) -> None:
    """A pipe's end that blocks, as one is where /proc is missing: other ports go on."""
    host = Host(sink_blocks=True)
    driver = host.driver
    try:
        driver.start()
        driver.connect()
        fcntl.fcntl(host.sink, 1031, 4096)
        for _ in range(4):
            driver.write(PortDriver.of(OUT) + 1, bytes(4096) + b"x")
        driver.write(PortDriver.of(ERR) + 1, b"err")
        assert os.read(host.errors, 9) == b"err"
        got = 0
        while got < 4 * 4097:
            got += len(os.read(host.output, 65536))
        assert driver.until(lambda: driver.sent(PortDriver.of(OUT) + 1))
    finally:
        host.close()


def test_a_reader_who_is_gone_is_told_of_and_drops_the_rest(host: Host) -> None:
    driver, index = host.driver, PortDriver.of(OUT) + 1
    host.hang_up("output")
    assert select.select([driver.device.event.value], [], [], 20)[0], "also with nothing to write"
    assert driver.device.state(OUT).sink_error == errno.EPIPE
    driver.write(index, b"lost")
    assert driver.until(lambda: driver.sent(index))
    assert driver.device.state(OUT).dropped == 4


def test_a_full_disk_is_told_of() -> None:
    with open("/dev/full", "wb", buffering=0) as full:
        driver = PortDriver([Port("words"), Port("out", sink=full.fileno())])
        driver.start()
        driver.connect()
        driver.write(PortDriver.of(1) + 1, b"x")
        assert driver.until(lambda: driver.device.state(1).sink_error == errno.ENOSPC)
        driver.close()


def test_files_are_sources_and_sinks(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(ALL * 40)
    with open(tmp_path / "in", "rb") as source, open(tmp_path / "out", "wb") as sink:
        driver = PortDriver([Port("words"), Port("in", source=source.fileno()), Port("out", sink=sink.fileno())])
        driver.start()
        driver.connect()
        assert driver.read(1, len(ALL) * 40) == ALL * 40
        assert driver.hears(1, PORT_OPEN, 0)
        driver.write(PortDriver.of(2) + 1, ALL)
        assert driver.until(lambda: driver.sent(PortDriver.of(2) + 1))
        driver.close()
    assert (tmp_path / "out").read_bytes() == ALL


def test_words_go_both_ways(host: Host) -> None:
    host.words.send(b"from the host")
    assert host.driver.read(WORDS, 13) == b"from the host"
    host.driver.write(1, b"from the guest")
    assert host.words.recv(99) == b"from the guest"


def test_a_driver_may_begin_again(host: Host) -> None:
    """A reset, as by an init that is replaced: nothing of before is left."""
    driver = host.driver
    driver.write(PortDriver.of(OUT) + 1, b"one")
    assert driver.until(lambda: driver.sent(PortDriver.of(OUT) + 1))
    assert driver.stop()
    assert not driver.device.broken
    driver.told.clear()
    driver.start()
    driver.connect()
    driver.write(PortDriver.of(OUT) + 1, b"two")
    assert driver.until(lambda: driver.sent(PortDriver.of(OUT) + 1))
    assert os.read(host.output, 99) == b"onetwo"


def test_control_messages_without_sense_are_ignored(host: Host) -> None:
    driver = host.driver
    for message in (b"", b"\0" * 7, struct.pack("<IHH", 99, PORT_READY, 1), struct.pack("<IHH", 1, 77, 1), ALL * 4):
        if message:
            driver.write(3, message)
            assert driver.until(lambda: driver.sent(3))
    for event in (PORT_ADD, PORT_REMOVE, CONSOLE_PORT, PORT_NAME):
        driver.tell(OUT, event)
    before = len(driver.listen())
    for _ in range(50):
        driver.tell(0xFFFFFFFF, DEVICE_READY)
        driver.tell(OUT, PORT_READY)
    assert driver.until(lambda: driver.sent(3))
    assert len(driver.listen()) == before, "what it knows it is not told again"
    assert not driver.device.broken


@pytest.mark.parametrize("change", [{"size": 3}, {"descriptors": 1 << 40}, {"device": 0x1001}])
def test_a_queue_that_cannot_be_is_refused(change: dict[str, int]) -> None:
    driver = PortDriver([Port("words")])
    registers = driver.registers()
    fields = {name: getattr(registers[1], name) for name in type(registers[1]).__annotations__}
    registers[1] = type(registers[1])(**fields | change)
    with pytest.raises(BadQueue):
        driver.device.start(driver.features, registers, driver.doorbells)
    driver.close()


def test_a_broken_queue_is_told_of(host: Host) -> None:
    driver, queue = host.driver, host.driver.queues[PortDriver.of(OUT) + 1]
    queue.store(queue.avail + 2, 0x7FFF)
    driver.ring()
    assert driver.until(lambda: driver.device.broken)
    assert driver.device.flushed, "who waits for it would wait for ever"


Step = Callable[[Host], None]


def _overwrite(at: int, content: bytes) -> Step:
    def step(host: Host) -> None:
        host.driver.memory.write(at, content)
        host.driver.ring()

    return step


def _index(queue: int, value: int) -> Step:
    def step(host: Host) -> None:
        ring = host.driver.queues[queue]
        ring.store(ring.avail + 2, value)
        host.driver.ring()

    return step


def _descriptor(queue: int, head: int, gpa: int, length: int, flags: int, link: int) -> Step:
    def step(host: Host) -> None:
        ring = host.driver.queues[queue]
        ring.write_descriptor(ring.desc, head % ring.size, gpa, length, flags, link)
        ring.put(head % ring.size)
        ring.show(kick=False)
        host.driver.ring()

    return step


def _control(port: int, event: int, value: int) -> Step:
    return lambda host: _descriptor(3, 0, _message(host, struct.pack("<IHH", port, event, value)), 8, 0, 0)(host)


def _message(host: Host, content: bytes) -> int:
    host.driver.memory.write(host.driver.arena, content)
    return host.driver.arena


def _restart(host: Host) -> None:
    if host.driver.stop():
        host.driver.start()


def test_a_driver_finds_another_device_as_the_first_was(host: Host) -> None:
    """What has been said is not said again, what a sink has had it does not get again, and the rest is not lost."""
    driver, before = host.driver, len(host.driver.listen())
    os.set_blocking(host.output, False)
    index, sent, read = PortDriver.of(OUT) + 1, b"", b""
    while driver.sent(index):  # until the pipe is full, in the middle of a chain
        piece = bytes([len(sent) // 5000 % 256]) * 5000
        driver.write(index, piece)
        sent += piece
        driver.until(lambda: driver.sent(index), seconds=0.05)
    assert driver.stop()
    state = driver.device.save()
    read += os.read(host.output, 1 << 20)
    driver.resume(state)
    while len(read) < len(sent) and driver.until(lambda: select.select([host.output], [], [], 0)[0]):
        read += os.read(host.output, 1 << 20)
    assert read == sent
    os.write(host.typed, b"typed")
    assert driver.read(IN, 5) == b"typed"
    assert len(driver.listen()) == before
    assert all(driver.device.state(port).open for port in range(4))


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda state: b"", ValueError),
        (lambda state: state + b"x", ValueError),
        (lambda state: b"\2" + state[1:], BadQueue),  # neither added nor not
        (lambda state: state[:4] + b"\x10" + state[5:], BadQueue),  # a message that there is not
    ],
)
def test_a_state_that_ports_cannot_have(host: Host, change: Callable[[bytes], bytes], error: type[Exception]) -> None:
    driver = host.driver
    assert driver.stop()
    state = change(driver.device.save())
    with pytest.raises(error):
        driver.resume(state)
    driver.start()
    driver.connect()


QUEUES = st.integers(0, 9)
GPAS = st.one_of(st.integers(0, 0x20000), st.integers(0, (16 << 20) + 4096), st.integers(0, 2**64 - 1))
LENGTHS = st.one_of(st.integers(0, 5000), st.integers(0, 2**32 - 1))
STEPS = st.one_of(
    st.builds(_overwrite, st.integers(0, 0x20000), st.binary(max_size=64)),
    st.builds(_index, QUEUES, st.integers(0, 0xFFFF)),
    st.builds(_descriptor, QUEUES, st.integers(0, 63), GPAS, LENGTHS, st.integers(0, 7), st.integers(0, 70)),
    st.builds(_control, st.integers(0, 5), st.integers(0, 9), st.integers(0, 2)),
    st.just(_restart),
    st.just(lambda host: os.write(host.typed, b"typed")),
)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.booleans(), st.lists(STEPS, max_size=25))
def test_whatever_a_driver_does_it_stops_and_starts_again(event_idx: bool, steps: list[Step]) -> None:
    """No queue, index, descriptor or message makes it hang, touch what is no guest memory, or lose a descriptor."""
    before = len(os.listdir("/proc/self/fd"))
    host = Host(event_idx)
    try:
        host.driver.start()
        for step in steps:
            step(host)
            for descriptor in (host.output, host.errors):
                while select.select([descriptor], [], [], 0)[0]:
                    os.read(descriptor, 1 << 20)
        began = time.monotonic()
        assert host.driver.stop()
        assert time.monotonic() - began < 10
        host.driver.memory.write(0, bytes(0x20000))
        host.driver.told.clear()
        host.driver.start()
        host.driver.connect()
        host.driver.write(PortDriver.of(ERR) + 1, b"well")
        assert host.driver.until(lambda: host.driver.sent(PortDriver.of(ERR) + 1))
        assert os.read(host.errors, 1 << 20).endswith(b"well")
    finally:
        host.close()
    assert len(os.listdir("/proc/self/fd")) == before
