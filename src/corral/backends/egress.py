"""Where a guest may connect to: rules of addresses and ports, as csrc/net/net_filter.h takes them. Names are looked up
once, when the rules are made."""

from __future__ import annotations

import socket

from corral.errors import ConfigError, HostError
from corral.native import CData, ffi, lib
from corral.network import ALL, GATEWAY, HOST, NONE, RESOLVER, denies_rest
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.network import NetConfig, Rule

_MAPPED = bytes(10) + b"\xff\xff"  # what comes before an address of IPv4 in one of IPv6


@record(frozen=True)
class Resolved:
    """A rule, and which addresses it is about: 16 bytes each, of IPv4 as ::ffff:a.b.c.d, and how many of their bits
    count. `asked`: the name that was looked up, as a question to a resolver has it (RFC 1035, section 4.1.2); b"": no
    name was."""

    rule: Rule
    addresses: tuple[tuple[bytes, int], ...]
    asked: bytes


def resolved(rules: tuple[Rule, ...]) -> tuple[Resolved, ...]:
    """Names are asked for. Raises ConfigError, HostError."""
    found = []
    for rule in rules:
        addresses, asked = _numeric(rule), b""
        if addresses is None:
            addresses, asked = _looked_up(rule), _as_in_a_question(rule.host)
        found.append(Resolved(rule, tuple(addresses), asked))
    return tuple(found)


def native(rules: tuple[Resolved, ...], config: NetConfig) -> CData:
    """A struct corral_net_filter for a card. Raises ConfigError."""
    fields: dict[str, object] = {"resolver": _MAPPED + socket.inet_aton(RESOLVER)}
    entries = [
        {"address": address, "prefix": prefix, "first": rule.first, "last": rule.last, "denies": rule.denies}
        for rule, addresses in ((one.rule, one.addresses) for one in rules)
        for address, prefix in addresses
    ]
    names = sorted({one.asked for one in rules if one.asked and not one.rule.denies})
    if len(entries) > lib.CORRAL_NET_RULES or len(names) > lib.CORRAL_NET_NAMES:
        raise ConfigError(
            f"--allow and --deny: {len(entries)} addresses and {len(names)} names; at most {lib.CORRAL_NET_RULES} and "
            f"{lib.CORRAL_NET_NAMES}"
        )
    published = sorted({one.guest_port for one in config.published if one.udp})
    fields |= {"n_rules": len(entries), "n_names": len(names), "n_published": len(published)}
    fields |= {"otherwise": not denies_rest(tuple(one.rule for one in rules)), "rules": entries, "names": names}
    fields |= {"answers_all": config.backend != "user", "published": published}
    return ffi.new("struct corral_net_filter *", fields)


def _numeric(rule: Rule) -> list[tuple[bytes, int]] | None:
    """Addresses and bits of them that count; None: it is a name."""
    if rule.host == NONE:
        return []
    if rule.host == ALL:
        return [(bytes(16), 0)]
    text, slash, prefix = (GATEWAY if rule.host == HOST else rule.host).partition("/")
    for family, before in ((socket.AF_INET, _MAPPED), (socket.AF_INET6, b"")):
        try:
            address = before + socket.inet_pton(family, text)
        except OSError:
            continue
        most = 128 - 8 * len(before)
        if slash and not (prefix.isascii() and prefix.isdigit() and int(prefix[:4]) <= most):
            raise ConfigError(f"{rule.option} {rule.host}: a prefix has 0 to {most} bits")
        return [(address, 8 * len(before) + (int(prefix) if slash else most))]
    return None


def _looked_up(rule: Rule) -> list[tuple[bytes, int]]:
    try:
        found = socket.getaddrinfo(rule.host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is none"
        raise HostError(f"{rule.option} {rule.host}: no address is known by that name: {why}") from None
    addresses = {one[4][0] for one in found}
    packed = []
    for text in sorted(map(str, addresses)):
        if ":" in text:
            packed.append((socket.inet_pton(socket.AF_INET6, text.partition("%")[0]), 128))
        else:
            packed.append((_MAPPED + socket.inet_aton(text), 128))
    return packed


def _as_in_a_question(name: str) -> bytes:
    """The name was looked up, so it is one."""
    labels = name.lower().rstrip(".").encode("idna").split(b".")
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
