"""What other commands ask of the network cards of a guest that has a name: how they are, and which rules hold from here
on (corral net). Both are a word of its control socket (control.py), and JSON.

Who asks looks names up: the guest's process, in its jail, cannot. What it is told it checks all the same.
"""

from __future__ import annotations

import json

from corral import network
from corral.backends import egress
from corral.backends.egress import Resolved
from corral.errors import ConfigError, HostError
from corral.network import Rule
from corral.running import control
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from corral.devices.virtio.net import Net
    from corral.machine import Machine

LOOK, RULES = b"net", b"net-rules"
MOST_ASKED = 255  # bytes of a name in a question (RFC 1035, section 2.3.4)
TRIES = 8  # where another changes the same
_CARD = 1  # a device's number (virtio 1.2, section 5)


class Cards:
    """The guest's side. `words` are for control.Control; their functions raise CorralError."""

    def __init__(self, machine: Machine) -> None:
        self._cards: list[Net] = [
            one.device  # type: ignore[misc]
            for one in machine.virtio
            if one.device.device_id == _CARD
        ]
        self._changes = 0
        self.words = {LOOK: self._look, RULES: self._judge_by}

    def _look(self, _: bytes) -> str:
        cards = [card.description() | {"rules": _plain(card.rules)} for card in self._cards]
        return json.dumps({"changes": self._changes, "cards": cards})

    def _judge_by(self, text: bytes) -> str:
        """All cards get the same rules. They are whole, and from the state that its sender has seen."""
        try:
            told = json.loads(text)
            rules, changes = tuple(map(_from_plain, told["rules"])), told["changes"]
        except (ValueError, TypeError, KeyError, IndexError, RecursionError):
            raise ConfigError("these rules make no sense") from None
        if changes != self._changes:
            return "changed"
        for card in self._cards:
            card.judge_by(rules)
        self._changes += 1
        return ""


def _plain(rules: tuple[Rule, ...]) -> list[dict[str, object]]:
    return [{"does": "deny" if rule.denies else "allow", "to": rule.text} for rule in rules]


def _from_plain(one: dict[str, Any]) -> Resolved:
    """Raises ConfigError, or what a value of another shape raises."""
    [rule] = network.parse_rules([one["to"]], []) if one["does"] == "allow" else network.parse_rules([], [one["to"]])
    addresses = tuple((bytes.fromhex(address), int(prefix)) for address, prefix in one["addresses"])
    if not all(len(address) == 16 and 0 <= prefix <= 128 for address, prefix in addresses):
        raise ValueError
    asked = bytes.fromhex(one["asked"])
    if len(asked) > MOST_ASKED:
        raise ValueError
    return Resolved(rule, addresses, asked)


@record(frozen=True)
class Seen:
    """What a guest has told: its cards, and the number of changes that `rules` come from."""

    cards: list[dict[str, Any]]
    changes: int

    @property
    def rules(self) -> tuple[Rule, ...]:
        """All cards have the same."""
        return rules_of(self.cards[0])


def rules_of(card: dict[str, Any]) -> tuple[Rule, ...]:
    """Raises ConfigError."""
    given = [(one["to"], one["does"] == "deny") for one in card["rules"]]
    return network.parse_rules([to for to, no in given if not no], [to for to, no in given if no])


def look(path: str) -> Seen:
    """At the guest whose control socket that is. Raises HostError, GuestTimeout."""
    told = json.loads(control.ask(path, LOOK.decode()))
    return Seen(told["cards"], told["changes"])


def change(
    guest: str,
    path: str,
    allow: Sequence[str] = (),
    deny: Sequence[str] = (),
    forget: Sequence[str] = (),
    anew: bool = False,
) -> Seen:
    """Adds rules as --allow and --deny have them, after those to `forget` are taken back, or all (`anew`). All names
    are looked up again. `guest` is its name. Raises ConfigError, HostError, GuestTimeout."""
    for _ in range(TRIES):
        seen = look(path)
        if not seen.cards:
            raise ConfigError(f"the guest {guest!r} has no network card; start it with --net")
        rules = () if anew else seen.rules
        for text in forget:
            rules = _without(guest, rules, text)
        added = network.parse_rules(list(allow), list(deny))
        rules += tuple(rule for rule in added if rule not in rules)
        if _judge_by(path, egress.resolved(rules), seen):
            return look(path)
    raise HostError("others change the rules of this guest all the time; try again")


def _without(guest: str, rules: tuple[Rule, ...], text: str) -> tuple[Rule, ...]:
    """Raises ConfigError where it is none of them. What was denied so far as the rest stays denied."""
    [gone] = network.parse_rules([text], [])
    kept = tuple(rule for rule in rules if rule.text != gone.text)
    if kept == rules:
        raise ConfigError(f"there is no rule {text!r} to forget; corral net {guest} lists them")
    closed = network.denies_rest(rules) and not network.denies_rest(kept) and gone.host != network.NONE
    return (*kept, Rule(network.NONE)) if closed else kept


def _judge_by(path: str, rules: tuple[Resolved, ...], seen: Seen) -> bool:
    """Has these rules hold. False: others have come since it was `seen`, and nothing is changed. Raises HostError,
    GuestTimeout."""
    told = [
        entry | {"asked": one.asked.hex(), "addresses": [(address.hex(), prefix) for address, prefix in one.addresses]}
        for one, entry in zip(rules, _plain(tuple(one.rule for one in rules)), strict=True)
    ]
    words = json.dumps({"changes": seen.changes, "rules": told})
    return control.ask(path, f"{RULES.decode()} {words}") != "changed"
