"""virtio-vsock: connections both ways, credit, ends, and what a hostile driver or client can do (section 5.10)."""

from __future__ import annotations

import os
import random
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corral.config import parse_vsock
from corral.errors import ConfigError
from tests.support.vsock_driver import (
    BOTH,
    CID,
    CREDIT_REQUEST,
    CREDIT_UPDATE,
    HEADER,
    NO_RECEIVE,
    NO_SEND,
    REQUEST,
    RESPONSE,
    RST,
    RW,
    SHUTDOWN,
    WINDOW,
    VsockDriver,
)

PORT = 1234
BEGINNING = 256  # bytes of struct beginning (guests/init/identity.h)
ALL = bytes(range(256))


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[VsockDriver]:
    driver = VsockDriver(tmp_path / "v")
    driver.start()
    yield driver
    driver.close()


def client(driver: VsockDriver, said: bytes = b"CONNECT %d\n" % PORT) -> socket.socket:
    one = socket.socket(socket.AF_UNIX)
    one.settimeout(20)
    one.connect(str(driver.path))
    one.sendall(said)
    return one


def connected(driver: VsockDriver, **options: int) -> tuple[socket.socket, int]:
    """A client that the guest took, and the port that the guest sees of it."""
    one = client(driver)
    port = driver.hears(REQUEST, PORT).host_port
    driver.send(RESPONSE, PORT, port, **options)
    assert one.recv(64) == b"OK %d\n" % port
    return one, port


def connected_at_last(driver: VsockDriver) -> tuple[socket.socket, int]:
    """The same where clients that have gone may be asked for before it: they waited to be accepted, and are."""
    one = client(driver)
    one.settimeout(1)
    while True:
        port = driver.hears(REQUEST, PORT).host_port
        driver.send(RESPONSE, PORT, port)
        try:
            assert one.recv(64) == b"OK %d\n" % port
        except TimeoutError:
            continue
        one.settimeout(20)
        return one, port


def listening(driver: VsockDriver, port: int) -> socket.socket:
    one = socket.socket(socket.AF_UNIX)
    one.settimeout(20)
    one.bind(f"{driver.path}_{port}")
    one.listen(64)
    return one


def test_a_program_of_the_host_is_connected_to_a_port_of_the_guest(driver: VsockDriver) -> None:
    one, port = connected(driver)
    one.sendall(ALL * 100)
    assert driver.until(lambda: driver.bytes_of(PORT) == ALL * 100)
    driver.send(RW, PORT, port, b"hello")
    assert one.recv(64) == b"hello"
    assert driver.device.counters() == {
        "connections": 1,
        "opened": 1,
        "refused": 0,
        "bytes to guest": 25600,
        "bytes from guest": 5,
    }


def test_a_program_of_the_guest_is_connected_to_a_socket_beside(driver: VsockDriver) -> None:
    with listening(driver, 80) as server:
        driver.send(REQUEST, 5000, 80)
        one, _ = server.accept()
        assert driver.hears(RESPONSE, 5000).host_port == 80
        driver.send(RW, 5000, 80, b"hello")
        assert one.recv(64) == b"hello"
        one.sendall(b"you")
        assert driver.hears(RW, 5000).data == b"you"
        one.close()


def test_nobody_listens_on_the_host(driver: VsockDriver) -> None:
    driver.send(REQUEST, 5000, 81)
    refused = driver.hears(RST, 5000)
    assert (refused.host_port, refused.destination) == (81, CID)


def test_the_guest_refuses(driver: VsockDriver) -> None:
    one = client(driver)
    port = driver.hears(REQUEST).host_port
    driver.send(RST, PORT, port)
    assert one.recv(64) == b""
    assert driver.until(lambda: driver.device.counters()["connections"] == 0)


@pytest.mark.parametrize(
    "said",
    [
        b"\n",
        b"CONNECT\n",
        b"CONNECT x\n",
        b"CONNECT 4294967296\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"CONNECT 1 2\n",
        b"x" * 99,
    ],
)
def test_who_says_something_else_is_sent_away(driver: VsockDriver, said: bytes) -> None:
    one = client(driver, said)
    try:
        assert one.recv(64) == b""
    except ConnectionResetError:  # what it said was not read to its end
        pass


def test_a_name_that_comes_in_pieces(driver: VsockDriver) -> None:
    one = client(driver, b"CONN")
    time.sleep(0.02)
    one.sendall(b"ECT 12")
    time.sleep(0.02)
    one.sendall(b"34\nand more")
    port = driver.hears(REQUEST, PORT).host_port
    driver.send(RESPONSE, PORT, port)
    assert driver.hears(RW).data == b"and more"


def test_no_more_is_sent_than_the_guest_has_room_for(driver: VsockDriver) -> None:
    one, port = connected(driver, room=1000)
    one.sendall(ALL * 8)
    driver.hears(CREDIT_REQUEST)
    assert len(driver.bytes_of(PORT)) == 1000
    driver.send(CREDIT_UPDATE, PORT, port, room=1000, taken=600)
    assert driver.until(lambda: len(driver.bytes_of(PORT)) == 1600)
    driver.send(CREDIT_UPDATE, PORT, port, room=3000, taken=1600)
    assert driver.until(lambda: driver.bytes_of(PORT) == ALL * 8)


def test_what_a_program_of_the_host_does_not_read_is_kept_and_the_guest_told_of_its_room(driver: VsockDriver) -> None:
    one, port = connected(driver)
    piece = ALL * 128
    for _ in range(WINDOW // len(piece)):
        driver.send(RW, PORT, port, piece)
    assert driver.until(driver.drained)
    got = b""
    while len(got) < WINDOW:
        got += one.recv(1 << 16)
    assert got == piece * (WINDOW // len(piece))
    assert driver.until(lambda: any(packet.taken >= WINDOW // 2 for packet in driver.came))


def test_a_guest_that_sends_more_than_its_credit_loses_the_connection(driver: VsockDriver) -> None:
    one, port = connected(driver)
    for _ in range(40):  # the socket takes some 200 KiB
        driver.send(RW, PORT, port, bytes(1 << 15))
    assert driver.hears(RST, PORT)
    other, port = connected(driver)
    driver.send(RW, PORT, port, b"still here")
    assert other.recv(64) == b"still here"
    one.close()


def test_a_client_that_reads_nothing_holds_up_no_other(driver: VsockDriver) -> None:
    _, deaf = connected(driver)
    one, port = connected(driver)
    for _ in range(8):
        driver.send(RW, PORT, deaf, bytes(1 << 15))
    driver.send(RW, PORT, port, b"hello")
    assert one.recv(64) == b"hello"


def test_half_of_a_connection_ends_and_the_other_goes_on(driver: VsockDriver) -> None:
    one, port = connected(driver)
    one.sendall(b"last")
    one.shutdown(socket.SHUT_WR)
    assert driver.hears(SHUTDOWN, PORT).flags == NO_SEND
    assert driver.bytes_of(PORT) == b"last"
    driver.send(RW, PORT, port, b"answer")
    driver.send(SHUTDOWN, PORT, port, flags=NO_SEND)
    assert one.recv(64) + one.recv(64) == b"answer"
    driver.send(SHUTDOWN, PORT, port, flags=BOTH)
    driver.hears(RST, PORT)
    assert driver.device.counters()["connections"] == 0


def test_a_guest_that_leaves_after_its_last_bytes(driver: VsockDriver) -> None:
    one, port = connected(driver)
    for _ in range(8):
        driver.send(RW, PORT, port, ALL * 128)
    driver.send(SHUTDOWN, PORT, port, flags=BOTH)
    got = b""
    while piece := one.recv(1 << 16):
        got += piece
    assert got == ALL * 1024
    driver.hears(RST, PORT)


def test_a_client_that_leaves_is_told_of_after_its_last_bytes(driver: VsockDriver) -> None:
    one, port = connected(driver)
    one.sendall(ALL * 200)
    one.close()
    assert driver.until(lambda: any(p.operation == SHUTDOWN and p.flags == BOTH for p in driver.came))
    assert driver.bytes_of(PORT) == ALL * 200
    driver.send(RST, PORT, port)
    assert driver.until(lambda: driver.device.counters()["connections"] == 0)


def test_a_guest_that_wants_no_more_gets_no_more(driver: VsockDriver) -> None:
    one, port = connected(driver)
    driver.send(SHUTDOWN, PORT, port, flags=NO_RECEIVE)
    assert driver.until(driver.drained)
    one.sendall(b"into nothing")
    driver.send(RW, PORT, port, b"hello")
    assert one.recv(64) == b"hello"
    assert driver.bytes_of(PORT) == b""


def test_a_request_for_credit_is_answered(driver: VsockDriver) -> None:
    _, port = connected(driver)
    driver.send(CREDIT_REQUEST, PORT, port)
    assert driver.hears(CREDIT_UPDATE, PORT).room == WINDOW


@pytest.mark.parametrize("operation", [0, RESPONSE, SHUTDOWN, RW, CREDIT_UPDATE, CREDIT_REQUEST, 8, 0xFFFF])
def test_a_packet_of_no_connection_is_refused(driver: VsockDriver, operation: int) -> None:
    driver.send(operation, 77, 78, b"data")
    assert driver.hears(RST, 77).host_port == 78


def test_a_refusal_of_no_connection_is_not_answered(driver: VsockDriver) -> None:
    driver.send(RST, 77, 78)
    driver.send(RW, 79, 80)
    assert driver.hears(RST).guest_port == 79
    assert driver.came == []


@pytest.mark.parametrize("wrong", [{"source": 4}, {"destination": 3}, {"destination": 1}, {"kind": 2}, {"kind": 0}])
def test_a_request_that_is_not_for_us_or_of_no_kind_that_there_is(driver: VsockDriver, wrong: dict[str, int]) -> None:
    with listening(driver, 80) as server:
        server.settimeout(0.1)
        driver.send(REQUEST, 5000, 80, **wrong)
        driver.hears(RST, 5000)
        with pytest.raises(TimeoutError):
            server.accept()


@pytest.mark.parametrize("raw", [b"x", bytes(43), HEADER.pack(CID, 2, 1, 2, 100, 1, RW, 0, 0, 0) + b"short"])
def test_what_is_no_packet_is_as_good_as_none(driver: VsockDriver, raw: bytes) -> None:
    driver.put(raw)
    one, port = connected(driver)
    driver.send(RW, PORT, port, b"hello")
    assert one.recv(64) == b"hello"


def test_thousands_of_connections(driver: VsockDriver) -> None:
    with listening(driver, 80) as server:
        server.listen(4096)
        theirs = []
        for guest_port in range(2000):
            driver.send(REQUEST, guest_port, 80)
            theirs.append(server.accept()[0])
            if guest_port % 32 == 31:
                driver.collect()
        assert driver.until(lambda: sum(p.operation == RESPONSE for p in driver.came) == 2000)
        for guest_port in range(0, 2000, 37):
            driver.send(RW, guest_port, 80, b"%d" % guest_port)
            assert theirs[guest_port].recv(64) == b"%d" % guest_port
        assert driver.device.counters()["connections"] == 2000
        for one in theirs:
            one.close()


def test_a_reset_of_the_driver_ends_all_connections_and_leaves_no_descriptor(driver: VsockDriver) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        clients = [connected(driver)[0] for _ in range(10)]
        driver.stop()
        assert all(one.recv(1) == b"" for one in clients)
        for one in clients:
            one.close()
        driver.start()
    assert len(os.listdir("/proc/self/fd")) == before
    assert driver.device.counters()["connections"] == 0


def test_a_device_that_goes_on_tells_that_connections_are_gone(driver: VsockDriver) -> None:
    one, _ = connected(driver)
    driver.move()
    assert one.recv(1) == b""
    assert driver.until(lambda: driver.told == [0])  # VIRTIO_VSOCK_EVENT_TRANSPORT_RESET
    connected(driver)


def test_a_driver_hears_nothing_before_it_knows_that_its_connections_are_gone(driver: VsockDriver) -> None:
    """It would count a new one among them."""
    _, port = connected(driver)
    driver.takes_events = False
    driver.move()
    one = client(driver)
    driver.send(RW, 7, 8)
    assert driver.until(lambda: driver.told == [0])
    assert not driver.until(lambda: driver.came, 0.2)
    driver.take_event()
    again = driver.hears(REQUEST, PORT).host_port
    assert again == port + 1  # the old one may be known to the guest yet
    assert driver.hears(RST, 7)
    driver.send(RESPONSE, PORT, again)
    assert one.recv(64) == b"OK %d\n" % again


def test_a_device_that_was_paused_goes_on_with_its_connections(driver: VsockDriver) -> None:
    one, port = connected(driver)
    one.sendall(b"before")
    assert driver.until(lambda: driver.bytes_of(PORT) == b"before")
    state = driver.pause()
    one.sendall(b" meanwhile")
    waiting = client(driver)
    driver.go_on(state)
    assert driver.until(lambda: driver.bytes_of(PORT) == b"before meanwhile")
    driver.send(RW, PORT, port, b"hello")
    assert one.recv(64) == b"hello"
    assert driver.hears(REQUEST, PORT).host_port == port + 1
    assert driver.told == []
    driver.stop()
    assert one.recv(1) == waiting.recv(1) == b""


def test_a_device_that_was_paused_and_begins_anew_has_closed_them(driver: VsockDriver) -> None:
    before = len(os.listdir("/proc/self/fd"))
    one, _ = connected(driver)
    driver.pause()
    driver.start()
    assert one.recv(1) == b""
    two, _ = connected(driver)
    driver.pause()
    one.close()
    two.close()
    driver.start()
    assert driver.until(lambda: len(os.listdir("/proc/self/fd")) == before)


@pytest.mark.parametrize("is_connected", [True, False])
def test_a_guest_that_goes_on_is_told_who_it_is_before_anything_else(driver: VsockDriver, is_connected: bool) -> None:
    driver.move(goes_on=True, connected=is_connected)
    cid = int.from_bytes(driver.device.config, "little")
    assert cid != CID
    waiting = client(driver) if is_connected else None
    first = driver.hears(REQUEST)
    assert (first.guest_port, first.destination) == (25455, cid)
    driver.send(RESPONSE, 25455, first.host_port, source=cid)
    said = driver.hears(RW, 25455).data
    size, kind = struct.unpack_from("<IB", said)
    assert (size, kind, len(said)) == (BEGINNING, ord("i"), 8 + BEGINNING)
    seconds, name = struct.unpack_from("<q8x64s", said, 8 + 64)
    assert (abs(seconds - time.time()) < 60, name.rstrip(b"\0")) == (True, b"web")
    driver.send(RW, 25455, first.host_port, b"done", source=cid)
    if waiting is None:
        driver.send(REQUEST, 5000, 80, source=cid)
        assert driver.hears(RST, 5000)
        return
    assert not driver.until(lambda: any(one.operation == REQUEST for one in driver.came), 0.2)
    driver.send(SHUTDOWN, 25455, first.host_port, flags=BOTH, source=cid)
    second = driver.hears(REQUEST, PORT).host_port
    driver.send(RESPONSE, PORT, second, source=cid)
    assert waiting.recv(64) == b"OK %d\n" % second


def test_a_guest_without_an_agent_refuses_that_and_is_reached_all_the_same(driver: VsockDriver) -> None:
    driver.move(goes_on=True)
    cid = int.from_bytes(driver.device.config, "little")
    first = driver.hears(REQUEST, 25455)
    one = client(driver)
    driver.send(RST, 25455, first.host_port, source=cid)
    second = driver.hears(REQUEST, PORT).host_port
    driver.send(RESPONSE, PORT, second, source=cid)
    assert one.recv(64) == b"OK %d\n" % second


def test_a_driver_that_gives_no_buffers_holds_up_no_stop(driver: VsockDriver) -> None:
    driver.stop()
    driver.start(buffers=0)
    for port in range(256):  # refusals pile up; then packets are not taken any more
        driver.send(RW, port, 1)
    driver.send(RW, 256, 1)
    time.sleep(0.05)
    assert not driver.drained()
    one = client(driver)
    began = time.monotonic()
    driver.stop()
    assert time.monotonic() - began < 5
    one.close()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 1 << 32), st.integers(1, 120))
def test_packets_of_noise_leave_a_device_that_serves(driver: VsockDriver, seed: int, steps: int) -> None:
    """Any operation, port, credit and size, in any order, beside clients that come and go."""
    noise = random.Random(seed)
    clients: list[socket.socket] = []
    ports = [1, 2, PORT, 0xFFFFFFFF, 1 << 30, (1 << 30) + 1]
    for _ in range(steps):
        choice = noise.random()
        if choice < 0.1:
            clients.append(client(driver, noise.choice([b"CONNECT 1234\n", b"CONNECT 1\nxyz", b"CON", b"\n"])))
        elif choice < 0.2 and clients:
            clients.pop(noise.randrange(len(clients))).close()
        else:
            seen = [packet.host_port for packet in driver.came if packet.operation == REQUEST]
            driver.send(
                noise.randrange(10),
                noise.choice(ports),
                noise.choice([*ports, *seen]),
                noise.randbytes(noise.choice([0, 1, 100, 5000])),
                flags=noise.randrange(5),
                room=noise.choice([0, 1, 4096, WINDOW, 0xFFFFFFFF]),
                taken=noise.choice([0, 1, 100, 1 << 31, 0xFFFFFFFF]),
                source=noise.choice([CID] * 9 + [7]),
                size=noise.choice([None] * 9 + [1 << 31]),
            )
        driver.collect()
    driver.stop()
    for one in clients:
        one.close()
    driver.start()
    one, port = connected_at_last(driver)
    driver.send(RW, PORT, port, b"hello")
    assert one.recv(64) == b"hello"
    one.close()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 1 << 32), st.integers(1, 60))
def test_rings_of_noise_never_lead_out_of_memory(driver: VsockDriver, seed: int, steps: int) -> None:
    noise = random.Random(seed)
    for _ in range(steps):
        queue = noise.choice(driver.queues)
        at = noise.randrange(queue.desc, queue.tables - 16)
        if noise.random() < 0.5:
            where = noise.choice([0x100000, (4 << 20) - 32, noise.randrange(1 << 64)])
            fields = where, noise.choice([0, 1, 44, 64, 1 << 31]), noise.randrange(8), noise.randrange(70)
            driver.memory.write(at & ~15, struct.pack("<QIHH", *fields))
        else:
            driver.memory.write(at, noise.randbytes(2))
        queue.store(queue.avail + 2, noise.randrange(1 << 16) if noise.random() < 0.1 else queue.size)
        os.eventfd_write(driver.tx.kick_fd, 1)
    driver.stop()
    driver.start()
    one, port = connected(driver)
    driver.send(RW, PORT, port, b"hello")
    assert one.recv(64) == b"hello"
    one.close()


def test_a_socket_that_nobody_has_any_more_is_taken_over(tmp_path: Path) -> None:
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(tmp_path / "v"))
    left.close()
    driver = VsockDriver(tmp_path / "v")
    driver.start()
    with pytest.raises(ConfigError, match="another program has it"):
        VsockDriver(tmp_path / "v")
    connected(driver)
    driver.close()
    assert not (tmp_path / "v").exists()


def test_a_file_that_is_no_socket_stays(tmp_path: Path) -> None:
    (tmp_path / "v").write_text("mine")
    with pytest.raises(ConfigError, match="no socket"):
        VsockDriver(tmp_path / "v")
    assert (tmp_path / "v").read_text() == "mine"


@pytest.mark.parametrize(
    ("text", "said"),
    [("", "needs the path"), ("v,cid=2", "not in 3"), ("v,cid=4294967295", "not in 3"), ("v,x=1", "is not cid=N")],
)
def test_words_that_are_none(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_vsock(text)


def test_a_path_that_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="too long"):
        VsockDriver(tmp_path / ("x" * 100))


def test_words_of_vsock() -> None:
    config = parse_vsock("a,,b.sock,cid=7")
    assert (config.path, config.cid) == ("a,b.sock", 7)
    assert parse_vsock("a").cid is None
