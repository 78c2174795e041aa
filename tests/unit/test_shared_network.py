"""The switch of guests that share a network: as its guests meet it, hostile ones too (csrc/switch)."""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from corral.backends import shared_network
from corral.errors import ConfigError
from corral.network import NetConfig, parse_all

SELF, MAC_OF_SELF = bytes([10, 77, 0, 1]), bytes.fromhex("02636f720001")
ALL = b"\xff" * 6
Guest = tuple[socket.socket, bytes, bytes]  # its line, the card's address, that of IPv4


@pytest.fixture(autouse=True)
def _runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


@pytest.fixture
def join() -> Iterator[Callable[[str], Guest]]:
    lines: list[socket.socket] = []

    def one(name: str) -> Guest:
        (net,) = shared_network.joined((NetConfig("shared", "net"),), name)
        line = shared_network._joined.pop(net.mac)
        lines.append(line)
        line.settimeout(10)
        address = bytes(map(int, net.address.partition("/")[0].split(".")))
        return line, bytes.fromhex(net.mac.replace(":", "")), address

    yield one
    for line in lines:
        line.close()


def send(guest: Guest, frame: bytes) -> None:
    guest[0].sendall(len(frame).to_bytes(4, "big") + frame)


def receive(guest: Guest) -> bytes:
    size = int.from_bytes(guest[0].recv(4, socket.MSG_WAITALL), "big")
    return guest[0].recv(size, socket.MSG_WAITALL)


def ipv4(source: Guest, to: bytes, to_mac: bytes, payload: bytes, protocol: int = 17) -> bytes:
    header = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 0, 0, 64, protocol, 0, source[2], to)
    return to_mac + source[1] + b"\x08\x00" + header + payload


def arp(source: Guest, asked: bytes) -> bytes:
    return (
        ALL
        + source[1]
        + b"\x08\x06"
        + struct.pack(">HHBBH", 1, 0x0800, 6, 4, 1)
        + source[1]
        + source[2]
        + bytes(6)
        + asked
    )


def query(source: Guest, name: bytes, kind: int = 1) -> bytes:
    labels = b"".join(bytes([len(part)]) + part for part in name.split(b".")) + b"\0"
    dns = struct.pack(">6H", 7, 0x0100, 1, 0, 0, 0) + labels + struct.pack(">HH", kind, 1)
    return ipv4(source, SELF, MAC_OF_SELF, struct.pack(">4H", 5353, 53, 8 + len(dns), 0) + dns)


def answered(guest: Guest) -> tuple[int, int, bytes]:
    """The DNS answer's code, its number of records, and its end."""
    frame = receive(guest)
    assert frame[:12] == guest[1] + MAC_OF_SELF
    udp = frame[34:]
    assert struct.unpack(">HH", udp[:4]) == (53, 5353)
    _, flags, _, count = struct.unpack(">4H", udp[8:16])
    return flags & 15, count, udp[-4:]


def test_frames_go_to_the_guest_that_they_are_for_and_to_all(join: Callable[[str], Guest]) -> None:
    one, two, three = join("one"), join("two"), join("three")
    assert sorted(guest[2][3] for guest in (one, two, three)) == [2, 3, 4]
    to_two, to_all = ipv4(one, two[2], two[1], b"x" * 1000), ipv4(one, b"\xff" * 4, ALL, b"all")
    send(one, to_two)
    send(one, to_all)
    assert receive(two) == to_two
    assert receive(two) == to_all
    assert receive(three) == to_all


def test_a_name_is_answered_and_one_that_is_not_there_is_refused(join: Callable[[str], Guest]) -> None:
    one, two = join("one"), join("Data-Base.x")
    send(one, query(one, b"data-base.X"))
    assert answered(one) == (0, 1, two[2])
    send(one, query(one, b"data-base.x", kind=28))
    assert answered(one)[:2] == (0, 0)
    send(one, query(one, b"example.org"))
    assert answered(one)[:2] == (5, 0)
    two[0].close()
    send(one, query(one, b"one"))
    assert answered(one) == (0, 1, one[2])


def test_it_says_where_it_is(join: Callable[[str], Guest]) -> None:
    one = join("one")
    send(one, arp(one, SELF))
    frame = receive(one)
    assert frame[:14] == one[1] + MAC_OF_SELF + b"\x08\x06"
    assert frame[20:] == b"\x00\x02" + MAC_OF_SELF + SELF + one[1] + one[2]


def test_a_guest_cannot_be_another(join: Callable[[str], Guest]) -> None:
    one, two, three = join("one"), join("two"), join("three")
    as_three = (one[0], three[1], three[2])
    send(one, ipv4(as_three, two[2], two[1], b"not three"))
    send(one, ipv4((one[0], one[1], three[2]), two[2], two[1], b"not three's address"))
    send(one, arp((one[0], one[1], three[2]), two[2]))
    send(one, ALL + one[1] + b"\x86\xdd" + bytes(40))  # IPv6 is not passed
    send(one, b"short")
    last = ipv4(one, two[2], two[1], b"one")
    send(one, last)
    assert receive(two) == last


@pytest.mark.parametrize(
    "words",
    [
        b"x" * 200,
        b"one\n",
        b"one 02:00\n",
        b"a b 02:00:00:00:00:01\n",
        b"\0 02:00:00:00:00:01\n",
        b"\xff" * 4 + b"\n",
        b"\n",
    ],
)
def test_one_that_says_nonsense_is_cut_and_the_others_go_on(join: Callable[[str], Guest], words: bytes) -> None:
    one, two = join("one"), join("two")
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(str(Path(os.environ["XDG_RUNTIME_DIR"], "corral-networks", "net.socket")))
        line.settimeout(10)
        line.sendall(words)
        assert line.recv(1) == b""
    send(one, frame := ipv4(one, two[2], two[1], b"still"))
    assert receive(two) == frame


def test_a_length_that_no_frame_has_ends_the_connection(join: Callable[[str], Guest]) -> None:
    one, two = join("one"), join("two")
    one[0].sendall(b"\xff" * 4)
    assert one[0].recv(1) == b""
    send(two, query(two, b"two"))
    assert answered(two)[0] == 0


def test_questions_of_any_bytes_are_answered_or_not(join: Callable[[str], Guest]) -> None:
    one = join("one")
    whole = query(one, b"one")
    for at in range(14, len(whole)):
        for value in (0, 0x3F, 0xC0, 0xFF):
            send(one, whole[:at] + bytes([value]) + whole[at + 1 :])
        send(one, whole[:at])
    send(one, arp(one, SELF))
    while receive(one)[12:14] != b"\x08\x06":
        pass


def test_one_that_does_not_read_holds_up_no_other(join: Callable[[str], Guest]) -> None:
    one, two, three = join("one"), join("two"), join("three")
    frame = ipv4(one, two[2], two[1], bytes(60_000))
    for _ in range(200):
        send(one, frame)
    send(one, last := ipv4(one, three[2], three[1], b"last"))
    assert receive(three) == last


def test_a_name_is_one_guests_alone(join: Callable[[str], Guest]) -> None:
    join("web")
    with pytest.raises(ConfigError, match="--net shared=net: a guest there has this name"):
        join("WEB")


def test_it_ends_with_its_last_guest_and_leaves_nothing(join: Callable[[str], Guest]) -> None:
    one = join("one")
    folder = Path(os.environ["XDG_RUNTIME_DIR"], "corral-networks")
    assert {path.name for path in folder.iterdir()} == {"net.lock", "net.socket"}
    one[0].close()
    end = time.monotonic() + 20
    while any(folder.iterdir()):
        assert time.monotonic() < end
        time.sleep(0.05)
    assert join("one")[2] == bytes([10, 77, 0, 2])


def test_after_one_that_was_killed_the_next_guest_starts_another(join: Callable[[str], Guest]) -> None:
    join("one")
    (pid,) = [pid for pid in os.listdir("/proc") if pid.isdigit() and _runs_here(pid)]
    os.kill(int(pid), 9)
    assert join("two")[2] == bytes([10, 77, 0, 2])


def _runs_here(pid: str) -> bool:
    try:
        found = os.readlink(f"/proc/{pid}/fd/5"), Path(f"/proc/{pid}/comm").read_text()
    except OSError:
        return False
    return found == (str(Path(os.environ["XDG_RUNTIME_DIR"], "corral-networks")), "corral-switch\n")


def test_ports_that_are_published_have_a_card_of_their_own_beside_it() -> None:
    shared, user = parse_all(["shared=net"], ["8080:80"], [], [])
    assert (shared.backend, shared.published, user.backend, user.published[0].port) == ("shared", (), "user", 8080)


@pytest.mark.parametrize("word", ["shared", "shared=", "shared=a/b", "shared=" + "x" * 33, "shared=a,listen"])
def test_what_is_no_shared_network_is_told(word: str) -> None:
    with pytest.raises(ConfigError, match="--net"):
        parse_all([word], [], [], [])
