"""Addresses and ports of clones (snapshot/clone_cards.py)."""

from __future__ import annotations

import pytest

from corral.errors import ConfigError
from corral.network import NetConfig, Published
from corral.snapshot import clone_cards

TAP = NetConfig("tap", "tap{n}", mac="02:00:00:ff:ff:ff", address="10.0.0.250/24")


def test_the_first_has_what_was_named_and_the_next_the_next() -> None:
    first, third = (clone_cards.of((TAP,), number)[0] for number in (1, 3))
    assert (first.target, first.mac, first.address) == ("tap1", "02:00:00:ff:ff:ff", "10.0.0.250/24")
    assert (third.target, third.mac, third.address) == ("tap3", "02:00:00:00:00:01", "10.0.0.252/24")
    assert clone_cards.told((third,)) == ((b"\2\0\0\0\0\1", b"\x0a\0\0\xfc", 24),)


def test_with_user_the_guest_keeps_its_addresses() -> None:
    net = NetConfig(published=(Published(8080, 80), Published(53, 53, udp=True)))
    [own] = clone_cards.of((net,), 4)
    assert [(one.port, one.guest_port, one.udp) for one in own.published] == [(8083, 80, False), (56, 53, True)]
    assert clone_cards.told((own,)) == ((bytes(6), bytes(4), 0),)


@pytest.mark.parametrize("number", [6, 7, 300])
def test_an_address_that_is_no_clones(number: int) -> None:
    with pytest.raises(ConfigError, match=f"no address for clone {number}"):
        clone_cards.of((TAP,), number)


def test_a_network_of_two_has_both_addresses() -> None:
    net = NetConfig("tap", "tap{n}", address="10.0.0.0/31")
    assert clone_cards.of((net,), 2)[0].address == "10.0.0.1/31"


@pytest.mark.parametrize(
    ("net", "has_channel", "said"),
    [
        (NetConfig("tap", "tap0", address="10.0.0.1/24"), True, "cannot share it"),
        (NetConfig("socket", "/x{n}"), True, "an address of its own"),
        (TAP, False, "no channel"),
        (NetConfig(published=(Published(65535, 80),)), True, "take ports 65535 to 65536"),
    ],
)
def test_what_several_cannot_have_and_one_can(net: NetConfig, has_channel: bool, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        clone_cards.check((net,), 2, has_channel)
    clone_cards.check((net,), 1, has_channel)
