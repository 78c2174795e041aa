"""--allow and --deny (csrc/net/net_filter.h, backends/egress.py): what leaves the card, and what does not."""

from __future__ import annotations

import socket
import struct
from typing import Any

import pytest

from corral.backends import egress
from corral.errors import ConfigError, HostError
from corral.native import lib
from corral.network import Rule, parse_all, parse_rules
from tests.support.net_driver import PLAIN, TX, Driver

TCP, UDP, ICMP = 6, 17, 1
SYN, ACK = 0x02, 0x10
US, RESOLVER = "10.0.2.15", "10.0.2.3"
MARK = b"\xff" * 6 + b"\2" * 6 + b"\x08\x06" + b"mark" * 10  # ARP passes


def ports(source: int, destination: int) -> bytes:
    return struct.pack(">HH", source, destination) + bytes(16)


def opening(source: int, destination: int, flags: int = SYN) -> bytes:
    return struct.pack(">HHIIBB", source, destination, 0, 0, 0x50, flags) + bytes(6)


def ipv4(to: str, protocol: int, payload: bytes, *, source: str = US, fragment: int = 0, first: int = 0x45) -> bytes:
    header = struct.pack(">BBHHHBBH", first, 0, 20 + len(payload), 7, fragment, 64, protocol, 0)
    return bytes(12) + b"\x08\x00" + header + socket.inet_aton(source) + socket.inet_aton(to) + payload


def ipv6(to: str, protocol: int, payload: bytes, source: str = "fd00::5") -> bytes:
    header = struct.pack(">IHBB", 6 << 28, len(payload), protocol, 64)
    ends = socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, to)
    return bytes(12) + b"\x86\xdd" + header + ends + payload


def question(name: str, count: int = 1) -> bytes:
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split(".")) + b"\0"
    asked = struct.pack(">HHHHHH", 1, 0x100, count, 0, 0, 0) + labels + struct.pack(">HH", 1, 1)
    return struct.pack(">HHHH", 40000, 53, 8 + len(asked), 0) + asked


class Card:
    """One with these rules."""

    def __init__(self, *words: str, features: int = PLAIN, net: str = "", published: tuple[str, ...] = ()) -> None:
        allowed = [word for word in words if not word.startswith("!")]
        denied = [word[1:] for word in words if word.startswith("!")]
        [config] = parse_all([net], list(published), allowed, denied)
        self.config = config
        self.driver = Driver(features, filter=egress.native(egress.resolved(config.rules), config)).start()

    def passes(self, frame: bytes, **how: Any) -> bool:
        """Whether it leaves; a frame that does is sent behind it."""
        self.driver.at = self.driver.arena
        assert self.driver.until(lambda: self.driver.sent() is not None and not self.driver.queues[TX].chains)
        self.driver.add(frame, **how)
        self.driver.send(MARK)
        arrived = self.driver.arrived()
        if arrived == MARK:
            return False
        assert arrived == frame
        assert self.driver.arrived() == MARK
        return True

    def judge_by(self, *words: str) -> None:
        """From here on."""
        rules = parse_rules([one for one in words if one[0] != "!"], [one[1:] for one in words if one[0] == "!"])
        lib.corral_net_set_filter(self.driver.net, egress.native(egress.resolved(rules), self.config))

    def comes_in(self, frame: bytes) -> None:
        self.driver.post(2000)
        self.driver.give(frame)
        self.driver.get(1)

    def __enter__(self) -> Card:
        return self

    def __exit__(self, *_: object) -> None:
        self.driver.close()


def test_what_is_allowed_and_nothing_else() -> None:
    with Card("192.0.2.7:443", "198.51.100.0/24", "[2001:db8::1]:80-90") as card:
        assert card.passes(ipv4("192.0.2.7", TCP, ports(1, 443)))
        assert card.passes(ipv4("192.0.2.7", UDP, ports(1, 443)))
        assert card.passes(ipv4("198.51.100.200", TCP, ports(1, 9)))
        assert card.passes(ipv4("198.51.100.200", ICMP, bytes(8)))
        assert card.passes(ipv6("2001:db8::1", TCP, ports(1, 85)))
        for frame in (
            ipv4("192.0.2.7", TCP, ports(443, 442)),
            ipv4("192.0.2.7", ICMP, bytes(8)),
            ipv4("192.0.2.6", TCP, ports(1, 443)),
            ipv4("198.51.101.1", TCP, ports(1, 443)),
            ipv4("255.255.255.255", UDP, ports(1, 443)),
            ipv4("10.0.2.2", TCP, ports(1, 22)),
            ipv6("2001:db8::1", TCP, ports(1, 91)),
            ipv6("2001:db8::2", TCP, ports(1, 85)),
            ipv6("::ffff:192.0.2.8", TCP, ports(1, 443)),
        ):
            assert not card.passes(frame), frame
        assert card.driver.stats["filtered"] == 9


def test_what_is_denied_and_all_else() -> None:
    with Card("!10.0.0.0/8", "!host:22", "!192.0.2.1:25") as card:
        assert card.passes(ipv4("192.0.2.1", TCP, ports(25, 80)))
        assert not card.passes(ipv4("192.0.2.1", TCP, ports(80, 25)))
        assert not card.passes(ipv4("10.9.9.9", UDP, ports(1, 1)))
        assert not card.passes(ipv4("10.0.2.2", TCP, ports(1, 22)))


def test_a_denial_wins_over_any_permission() -> None:
    with Card("10.0.0.0/8", "!10.1.0.0/16", "10.1.2.3") as card:
        assert card.passes(ipv4("10.2.0.1", TCP, ports(1, 1)))
        assert not card.passes(ipv4("10.1.2.3", TCP, ports(1, 1)))


def test_what_a_port_cannot_be_told_of_does_not_pass() -> None:
    """Fragments, options, headers before the one with the ports: whatever could mean something else elsewhere."""
    with Card("192.0.2.7:443", "[2001:db8::1]:443") as card:
        for frame in (
            ipv4("192.0.2.7", TCP, ports(1, 443), fragment=0x2000),
            ipv4("192.0.2.7", TCP, ports(1, 443), fragment=1),
            ipv4("192.0.2.7", TCP, bytes(4) + ports(1, 443), first=0x46),
            ipv4("192.0.2.7", TCP, ports(1, 443), first=0x44),
            ipv4("192.0.2.7", TCP, ports(1, 443), first=0x55),
            ipv4("192.0.2.7", TCP, b"\0\1\1"),
            ipv6("2001:db8::1", 44, bytes(8) + ports(1, 443)),
            ipv6("2001:db8::1", 43, bytes([TCP]) + bytes(7) + ports(1, 443)),
            ipv6("2001:db8::1", 0, bytes([TCP, 200]) + bytes(6) + ports(1, 443)),
            bytes(12) + b"\x81\x00\0\1\x08\0" + ipv4("192.0.2.7", TCP, ports(1, 443))[14:],
            bytes(12) + b"\x88\xb5" + bytes(50),
            bytes(14),
        ):
            assert not card.passes(frame), frame
        assert card.passes(ipv6("2001:db8::1", 0, bytes([TCP, 0]) + bytes(6) + ports(1, 443)))


def test_fragments_to_an_address_that_is_allowed_as_a_whole() -> None:
    with Card("192.0.2.7") as card:
        assert card.passes(ipv4("192.0.2.7", TCP, ports(1, 443), fragment=0x2000))
    with Card("!192.0.2.7:25") as card:
        assert not card.passes(ipv4("192.0.2.7", TCP, ports(1, 80), fragment=1))


def test_what_came_in_is_answered_and_only_that() -> None:
    with Card("192.0.2.7") as card:
        answer = ipv4("203.0.113.9", TCP, ports(80, 51000))
        assert not card.passes(answer)
        card.comes_in(ipv4(US, TCP, ports(51000, 80), source="203.0.113.9"))
        assert not card.passes(answer), "it was not asked for a connection"
        card.comes_in(ipv4(US, TCP, opening(51000, 80, SYN | ACK), source="203.0.113.9"))
        assert not card.passes(answer), "it has asked for the connection itself"
        card.comes_in(ipv4(US, TCP, opening(51000, 80), source="203.0.113.9"))
        assert card.passes(answer)
        for frame in (
            ipv4("203.0.113.9", UDP, ports(80, 51000)),
            ipv4("203.0.113.9", TCP, ports(81, 51000)),
            ipv4("203.0.113.9", TCP, ports(80, 51001)),
            ipv4("203.0.113.8", TCP, ports(80, 51000)),
            ipv4("203.0.113.9", TCP, ports(80, 51000), fragment=0x2000),
        ):
            assert not card.passes(frame)


def test_of_udp_published_ports_are_answered_and_no_others() -> None:
    with Card("192.0.2.7", published=("5353:53/udp", "8080:80")) as card:
        for ours, theirs in (53, 4000), (80, 4000), (54, 4000):
            card.comes_in(ipv4(US, UDP, ports(theirs, ours), source="203.0.113.9"))
            assert card.passes(ipv4("203.0.113.9", UDP, ports(ours, theirs))) == (ours == 53)
    with Card("192.0.2.7", net="socket=/nowhere") as card:  # anything may come in there
        assert not card.passes(ipv4("203.0.113.9", UDP, ports(54, 4000)))
        card.comes_in(ipv4(US, UDP, ports(4000, 54), source="203.0.113.9"))
        assert card.passes(ipv4("203.0.113.9", UDP, ports(54, 4000)))


def test_rules_change_while_frames_pass() -> None:
    """What has come in is answered all the same; what the guest has opened is cut, whatever its other end sends."""
    with Card() as card:
        own, asked = (ipv4("203.0.113.9", TCP, ports(*pair)) for pair in ((40000, 443), (80, 51000)))
        udp = ipv4("203.0.113.9", UDP, ports(40000, 443))
        card.comes_in(ipv4(US, TCP, opening(51000, 80), source="203.0.113.9"))
        assert all(map(card.passes, (own, asked, udp)))
        card.judge_by("192.0.2.7")
        card.comes_in(ipv4(US, TCP, ports(443, 40000), source="203.0.113.9"))
        card.comes_in(ipv4(US, UDP, ports(443, 40000), source="203.0.113.9"))
        assert [card.passes(one) for one in (own, asked, udp)] == [False, True, False]
        assert card.passes(ipv4("192.0.2.7", TCP, ports(1, 1)))
        card.judge_by("!192.0.2.7")
        assert all(map(card.passes, (own, asked, udp)))
        assert not card.passes(ipv4("192.0.2.7", TCP, ports(1, 1)))
        card.judge_by("none")
        assert [card.passes(one) for one in (own, asked, udp)] == [False, True, False]
        assert not card.passes(ipv4(RESOLVER, UDP, question("localhost")))
        card.judge_by("localhost")
        assert card.passes(ipv4(RESOLVER, UDP, question("localhost")))
        card.judge_by()
        assert all(map(card.passes, (own, asked, udp)))


def test_many_connections_that_came_in_are_known_side_by_side() -> None:
    with Card("none") as card:
        peers = [(f"198.51.100.{number}", 1024 + 31 * number) for number in range(200)]
        for peer, port in peers:
            card.comes_in(ipv4(US, TCP, opening(port, 80), source=peer))
        assert all(card.passes(ipv4(peer, TCP, ports(80, port))) for peer, port in peers)


def test_a_link_works_whatever_is_denied() -> None:
    router = b"\x87" + bytes(23)
    with Card("192.0.2.7") as card:
        assert card.passes(ipv4("255.255.255.255", UDP, ports(68, 67), source="0.0.0.0"))
        assert card.passes(ipv6("ff02::1:ff00:1", 58, router))
        assert not card.passes(ipv6("2001:db8::1", 58, router))
        assert not card.passes(ipv4("192.0.2.255", UDP, ports(68, 67)))


def test_the_resolver_answers_for_names_that_are_allowed() -> None:
    with Card("localhost:80") as card:
        assert card.passes(ipv4("127.0.0.1", TCP, ports(1, 80)))
        assert card.passes(ipv4(RESOLVER, UDP, question("localhost")))
        assert card.passes(ipv4(RESOLVER, UDP, question("LocalHost")))
        for frame in (
            ipv4(RESOLVER, UDP, question("localhost.evil.example")),
            ipv4(RESOLVER, UDP, question("secret.localhost")),
            ipv4(RESOLVER, UDP, question("localhos")),
            ipv4(RESOLVER, UDP, question("localhost", count=2)),
            ipv4(RESOLVER, UDP, question("localhost")[:26]),
            ipv4(RESOLVER, TCP, question("localhost")),
            ipv4("10.0.2.4", UDP, question("localhost")),
        ):
            assert not card.passes(frame)
    with Card("!localhost") as card:
        assert card.passes(ipv4(RESOLVER, UDP, question("example.org")))
        assert not card.passes(ipv4("127.0.0.1", TCP, ports(1, 80)))


def test_a_frame_is_judged_by_what_leaves() -> None:
    """However it is cut: the card looks at a copy."""
    with Card("192.0.2.7:443") as card:
        for cut in range(1, 60):
            assert card.passes(ipv4("192.0.2.7", TCP, ports(1, 443)), cuts=(cut, cut + 1))


@pytest.mark.parametrize(
    "text",
    ["", ":80", "a b", "x:0", "x:65536", "x:80-", "x:90-80", "[::1", "[::1]80", "x:http", "a" * 300, "[::1]:", "x:"],
)
def test_rules_that_cannot_be(text: str) -> None:
    with pytest.raises(ConfigError, match="is not like"):
        parse_all([], [], [text], [])


@pytest.mark.parametrize("words", [(["none:80"], []), ([], ["none"])])
def test_none_is_a_word_of_allow_alone(words: tuple[list[str], list[str]]) -> None:
    with pytest.raises(ConfigError, match="none is a word of --allow alone"):
        parse_rules(*words)


@pytest.mark.parametrize("text", ["example.org:443", "10.0.0.0/8", "[fd00::1]:80-90", "host:8080", "all", "fd00::1"])
def test_a_rule_as_it_was_written(text: str) -> None:
    assert parse_rules([text], [])[0].text == text


@pytest.mark.parametrize("host", ["10.0.0.0/33", "10.0.0.0/x", "fd00::/129", "10.0.0.1/"])
def test_addresses_that_cannot_be(host: str) -> None:
    with pytest.raises((ConfigError, HostError)):
        assert egress.resolved((Rule(host),)) == ()


def test_a_name_that_is_none() -> None:
    with pytest.raises(HostError, match="no address is known by that name"):
        egress.resolved((Rule("no-such-name.invalid"),))
