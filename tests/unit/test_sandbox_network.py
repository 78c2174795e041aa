"""What a sandbox's network begins with, as words of corral boot."""

from __future__ import annotations

import pytest

from corral.script.sandbox_network import words


@pytest.mark.parametrize(
    ("given", "options", "expected"),
    [
        ({}, (), ""),
        ({}, ("--disk", "x"), ""),
        ({"nets": "user"}, (), "--net user --allow none"),
        ({"nets": ("user", "tap=x")}, (), "--net user --net tap=x --allow none"),
        ({"publish": "80:80"}, (), "--publish 80:80 --allow none"),
        ({"nets": "user", "allow": "example.org:443"}, (), "--net user --allow example.org:443"),
        ({"nets": "user", "deny": "host"}, (), "--net user --deny host"),
        ({}, ("--net",), "--allow none"),
        ({}, ("--net=user", "--publish", "1:1"), "--allow none"),
        ({}, ("--net", "--allow=all"), ""),
        ({}, ("--", "grep", "--net"), ""),
    ],
)
def test_a_card_without_a_rule_is_allowed_nothing(
    given: dict[str, str], options: tuple[str, ...], expected: str
) -> None:
    every = {"nets": (), "publish": (), "allow": (), "deny": ()} | given
    assert words(*every.values(), options) == expected.split()
