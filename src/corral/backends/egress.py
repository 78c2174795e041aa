"""Where a guest may connect to: rules of addresses and ports, as csrc/net/net_filter.h takes them. Names are looked up
once, when the card is made."""

from __future__ import annotations

import socket

from corral.errors import ConfigError, HostError
from corral.native import CData, ffi, lib
from corral.network import GATEWAY, HOST, RESOLVER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.network import NetConfig, Rule

_MAPPED = bytes(10) + b"\xff\xff"  # what comes before an address of IPv4 in one of IPv6


def native(config: NetConfig) -> CData:
    """A struct corral_net_filter, NULL where anything may be sent. Raises ConfigError, HostError."""
    if not config.rules:
        return ffi.NULL
    rules: list[dict[str, object]] = []
    names = []
    for rule in config.rules:
        found = _numeric(rule)
        if not found:
            found = _looked_up(rule)
            names += [] if rule.denies else [_as_in_a_question(rule.host)]
        rules += [
            {"address": address, "prefix": prefix, "first": rule.first, "last": rule.last, "denies": rule.denies}
            for address, prefix in found
        ]
    names = sorted(set(names))
    if len(rules) > lib.CORRAL_NET_RULES or len(names) > lib.CORRAL_NET_NAMES:
        raise ConfigError(
            f"--allow and --deny: {len(rules)} addresses and {len(names)} names; at most {lib.CORRAL_NET_RULES} and "
            f"{lib.CORRAL_NET_NAMES}"
        )
    fields = {"n_rules": len(rules), "n_names": len(names), "resolver": _MAPPED + socket.inet_aton(RESOLVER)}
    fields |= {"otherwise": all(rule.denies for rule in config.rules), "rules": rules, "names": names}
    return ffi.new("struct corral_net_filter *", fields)


def _numeric(rule: Rule) -> list[tuple[bytes, int]]:
    """Addresses and bits of them that count; none where it is a name."""
    if rule.host == "all":
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
    return []


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
    """RFC 1035, section 4.1.2. The name was looked up, so it is one."""
    labels = name.lower().rstrip(".").encode("idna").split(b".")
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
