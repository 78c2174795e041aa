"""A sandbox's network: what it begins with, and where it may connect to from then on."""

from __future__ import annotations

from corral.running import place
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    Words = str | Sequence[str]

_CARDS, _RULES = ("--net", "--publish"), ("--allow", "--deny")


def words(nets: Words, publish: Words, allow: Words, deny: Words, options: Sequence[str]) -> list[str]:
    """Of `corral boot`, for these and beside these `options`. A card without a rule is allowed nothing."""
    given = {"--net": nets, "--publish": publish, "--allow": allow, "--deny": deny}
    found = [word for option, texts in given.items() for text in _each(texts) for word in (option, text)]
    named = {word.partition("=")[0] for word in (*found, *_before_command(options))}
    if named.intersection(_CARDS) and not named.intersection(_RULES):
        found += ["--allow", "none"]
    return found


def _each(texts: Words) -> Sequence[str]:
    """One is as good as a list of one; "" is none."""
    if isinstance(texts, str):
        return [texts] if texts else []
    return texts


def _before_command(options: Sequence[str]) -> Sequence[str]:
    return options[: list(options).index("--")] if "--" in options else options


@record(frozen=True)
class Rules:
    """Where a guest may connect to: rules as --allow and --deny have them; `denies_rest`: nowhere else."""

    allowed: tuple[str, ...]
    denied: tuple[str, ...]
    denies_rest: bool


class Network:
    """Of the sandbox with that name. Its functions raise ConfigError, HostError and GuestTimeout."""

    def __init__(self, name: str) -> None:
        self._name = name

    def cards(self) -> list[dict[str, Any]]:
        """As `corral net --json` has them, with what they have counted."""
        from corral.running import cards

        return cards.look(self._path()).cards

    def rules(self) -> Rules:
        """Of a guest with a card."""
        from corral.running import cards

        return _told(cards.look(self._path()))

    def allow(self, *hosts: str) -> Rules:
        """It may connect there too, from the next frame on: "example.org:443", "10.0.0.0/8", "host:8080", "all"; to
        nothing but what is allowed."""
        return self._change(allow=hosts)

    def deny(self, *hosts: str) -> Rules:
        """It may not connect there, whatever is allowed; connections there get no further."""
        return self._change(deny=hosts)

    def forget(self, *hosts: str) -> Rules:
        """Takes rules back; what is not allowed stays so."""
        return self._change(forget=hosts)

    def _change(self, allow: Sequence[str] = (), deny: Sequence[str] = (), forget: Sequence[str] = ()) -> Rules:
        from corral.running import cards

        return _told(cards.change(self._name, self._path(), allow, deny, forget))

    def _path(self) -> str:
        return place.running(self._name).path(place.CONTROL)


def _told(seen: Any) -> Rules:
    from corral import network

    rules = seen.rules
    allowed = tuple(rule.text for rule in rules if not rule.denies and rule.host != network.NONE)
    return Rules(allowed, tuple(rule.text for rule in rules if rule.denies), network.denies_rest(rules))
