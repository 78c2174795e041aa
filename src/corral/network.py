"""What a guest's network is, as frozen values (see config.py), and these from the words of a command line."""

from __future__ import annotations

import os

from corral.config import LARGEST_FILE, DeviceConfig, sized_path
from corral.errors import ConfigError
from corral.printable import printable
from corral.startup.record import record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# What a guest of the backend "user" is given, the same in each; passt translates. The gateway's address is the host.
ADDRESS, PREFIX, GATEWAY, RESOLVER = "10.0.2.15", 24, "10.0.2.2", "10.0.2.3"
MAC = "02:63:6f:72:61:6c"  # of such a guest, which is alone on its link
LOOPBACK = "127.0.0.1"
LEAST_MTU, MOST_MTU = 68, 65520
HOST = "host"  # in a rule: this host, as a guest of the backend "user" reaches it
ALL, NONE = "all", "none"  # in a rule
MOST_PUBLISHED = 64
LONGEST_NAME = 15  # of an interface, bytes
LONGEST_HOST = 253  # a name, characters
_FORMS = "user, tap=NAME, socket=PATH, shared=NAME, none"
LONGEST_PATH = 107  # of a socket, bytes
BACKENDS = ("user", "tap", "socket", "shared")
SHARED_PREFIX, SHARED_RESOLVER = 24, "10.77.0.1"  # of networks that guests share: csrc/switch


@record(frozen=True)
class Published:
    """A port of the host that leads to one of the guest's. `address` is an IPv4 address of the host."""

    port: int
    guest_port: int
    address: str = LOOPBACK
    udp: bool = False


@record(frozen=True)
class Rule:
    """Connections of the guest that are allowed, or denied: to `host`, an address, one with a prefix, a name, ALL, HOST
    for this host, or NONE, which is allowed so that all else is not; with ports `first` to `last`, 0 and 0 for all and
    for what has none."""

    host: str
    first: int = 0
    last: int = 0
    denies: bool = False

    @property
    def option(self) -> str:
        return "--deny" if self.denies else "--allow"

    @property
    def text(self) -> str:
        """As it is written after the option."""
        host = f"[{self.host}]" if self.first and ":" in self.host else self.host
        ports = f"{self.first}-{self.last}" if self.last != self.first else f"{self.first}"
        return f"{host}:{ports}" if self.first else host


@record(frozen=True)
class NetConfig(DeviceConfig):
    """A network card.

    `backend` is what its other end is: "user", connections of this user's by passt; "tap", the tap device of the host
    that `target` names; "socket", a Unix socket at `target`, whose other end sends each frame behind its length, as
    QEMU does; it is connected to, or awaited there where `listens`; "shared", the network `target` of this user's
    guests, by whose switch `address` is given (backends.shared_network.joined). `mac` "": one that no other has. `mtu`
    0: as the guest has it. `address` is one of IPv4 with a prefix, like "10.0.0.1/24", that Corral's init sets. With
    `rules` that allow something nothing else is allowed; one that denies wins. `dump` is a file that gets all frames,
    as pcapng, `dump_size` bytes of them at most. Not `connected`: the card is as that backend has it, without a link.
    Raises ConfigError.
    """

    module = "net"
    backend: str = "user"
    target: str = ""
    listens: bool = False
    mac: str = ""
    mtu: int = 0
    address: str = ""
    published: tuple[Published, ...] = ()
    rules: tuple[Rule, ...] = ()
    dump: str = ""
    dump_size: int = LARGEST_FILE
    connected: bool = True

    def __post_init__(self) -> None:
        if self.backend not in BACKENDS:
            raise ConfigError(f"--net {self.backend!r} is none of {_FORMS}")
        if self.backend == "shared" and not _is_network_name(self.target):
            raise ConfigError(
                f"--net shared={printable(self.target)}: a network's name has 1 to 32 letters, digits and -"
            )
        if self.backend == "tap" and not 0 < len(self.target.encode()) <= LONGEST_NAME:
            raise ConfigError(f"--net tap={printable(self.target)}: an interface's name has 1 to {LONGEST_NAME} bytes")
        if self.backend == "socket" and not 0 < len(os.fsencode(self.target)) <= LONGEST_PATH:
            raise ConfigError(f"--net socket={printable(self.target)}: a socket's path has 1 to {LONGEST_PATH} bytes")
        if self.mtu and not LEAST_MTU <= self.mtu <= MOST_MTU:
            raise ConfigError(f"--net: an MTU is {LEAST_MTU} to {MOST_MTU}, not {self.mtu}")
        if self.mac:
            _check_mac(self.mac)
        else:
            object.__setattr__(self, "mac", MAC if self.backend == "user" else _random_mac())
        if self.address:
            _parse_address(self.address)
        if self.backend == "shared" and self.listens:
            raise ConfigError("--net shared: there is nothing to listen at; leave listen out")
        if self.backend == "user" and (self.address or self.listens):
            raise ConfigError("--net user: its guest's address is Corral's choice, and there is nothing to listen at")
        if self.published and self.backend != "user":
            raise ConfigError(
                f"--publish goes with --net user; the ports of --net {self.backend} are the host's affair"
            )
        if len(self.published) > MOST_PUBLISHED:
            raise ConfigError(f"--publish: at most {MOST_PUBLISHED} ports")
        taken = [(one.udp, one.address, one.port) for one in self.published]
        if len(set(taken)) < len(taken):
            raise ConfigError("--publish: a port of the host leads to one place; leave the other out")

    @property
    def parameter(self) -> str:
        """For Corral's init: an address with its prefix, a gateway and a resolver, 0.0.0.0 for none."""
        if self.backend == "user":
            return f"{ADDRESS}/{PREFIX},{GATEWAY},{RESOLVER}"
        if self.backend == "shared":
            return f"{self.address or '0.0.0.0/0'},0.0.0.0,{SHARED_RESOLVER}"
        return f"{self.address or '0.0.0.0/0'},0.0.0.0,0.0.0.0"


def parse(text: str) -> NetConfig | None:
    """From "[user|tap=NAME|socket=PATH|shared=NAME|none][,listen][,mac=MAC][,mtu=N][,ip=ADDRESS/PREFIX]"; "" is "user".
    A path's own commas are doubled. None: no network. Raises ConfigError."""
    first, *words = (part.replace("\0", ",") for part in text.replace(",,", "\0").split(","))
    kind, is_named, target = first.partition("=")
    values: dict[str, Any] = {"backend": kind or "user", "target": target}
    if kind in ("mac", "mtu", "ip"):
        words, values = [first, *words], {}
    elif (kind in ("tap", "socket", "shared")) != bool(is_named):
        raise ConfigError(f"--net {text!r} is none of {_FORMS}")
    for word in words:
        name, _, value = word.partition("=")
        if word == "listen":
            values["listens"] = True
        elif name == "mac":
            _check_mac(value)
            values["mac"] = value.lower()
        elif name == "mtu" and value.isascii() and value.isdigit() and len(value) < 9 and int(value):
            values["mtu"] = int(value)
        elif name == "ip":
            values["address"] = value
        else:
            raise ConfigError(f"--net {text}: {word!r} is none of listen, mac=MAC, mtu=N, ip=ADDRESS/PREFIX")
    if kind != "none":
        return NetConfig(**values)
    if words:
        raise ConfigError("--net none is followed by nothing")
    return None


def parse_all(
    nets: list[str], published: list[str], allowed: list[str], denied: list[str], dump: str = ""
) -> tuple[NetConfig, ...]:
    """Of all options. Published ports are the first user network's, which is there for them beside a shared one; rules
    are for each card; with one of these there is a card. Raises ConfigError."""
    cards = [one for one in map(parse, nets) if one]
    if nets and not cards and (published or allowed or denied or dump):
        raise ConfigError("--publish, --allow, --deny and --net-dump are about a network; leave --net none out")
    if not cards and not nets:
        cards = [NetConfig()]
    if published and all(card.backend == "shared" for card in cards):
        cards.append(NetConfig())
    if dump and len(cards) > 1:
        raise ConfigError("--net-dump is of one network card; this guest has more")
    rules = parse_rules(allowed, denied)
    path, size = sized_path(dump)
    cards = [replace(card, rules=rules, dump=path, dump_size=size) for card in cards]
    if published:
        at = next((index for index, card in enumerate(cards) if card.backend == "user"), 0)
        cards[at] = replace(cards[at], published=tuple(map(_parse_published, published)))
    return tuple(cards)


def parse_rules(allowed: list[str], denied: list[str]) -> tuple[Rule, ...]:
    """From what follows --allow and --deny. Raises ConfigError."""
    return tuple(_parse_rule(text, False) for text in allowed) + tuple(_parse_rule(text, True) for text in denied)


def _parse_rule(text: str, denies: bool) -> Rule:
    """From "HOST[:PORT[-PORT]]", an address of IPv6 in brackets where a port follows."""
    option = "--deny" if denies else "--allow"
    host, colon, ports = text.rpartition(":")
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        colon, ports = rest[:1], rest[1:]
        if not bracket or colon not in ("", ":"):
            host = ""
    elif not colon or ":" in host:
        host, colon, ports = text, "", ""
    first, dash, last = ports.partition("-")
    good = not colon or (_is_port(first) and (_is_port(last) and int(first) <= int(last) if dash else True))
    if not host or not good or not host.isprintable() or " " in host or len(host) > LONGEST_HOST:
        raise ConfigError(
            f"{option} {text!r} is not like example.org:443, 10.0.0.0/8, [fd00::1]:80-90, host:8080 or all"
        )
    if host == NONE and (denies or colon):
        raise ConfigError(f"{option} {text}: none is a word of --allow alone, without a port: all else is denied then")
    return Rule(host, int(first or 0), int(last or first or 0), denies)


def _parse_published(text: str) -> Published:
    """From "[IP:]PORT:PORT[/udp]"."""
    rest, slash, protocol = text.partition("/")
    *address, port, guest_port = rest.split(":") if rest.count(":") in (1, 2) else ("", "")
    if not all(_is_port(one) for one in (port, guest_port)) or (slash and protocol not in ("tcp", "udp")):
        raise ConfigError(
            f"--publish {text!r} is not like 8080:80, 8053:53/udp or 0.0.0.0:8080:80: a port of the host, one of the "
            "guest, 1 to 65535 each"
        )
    where = address[0] if address else LOOPBACK
    if _octets(where) is None:
        raise ConfigError(f"--publish {text}: {where!r} is no IPv4 address of this host; 0.0.0.0 stands for all")
    return Published(int(port), int(guest_port), where, protocol == "udp")


def denies_rest(rules: tuple[Rule, ...]) -> bool:
    """Whether what no rule is about is denied: with one that allows something."""
    return not all(rule.denies for rule in rules)


def _is_network_name(text: str) -> bool:
    return 0 < len(text) <= 32 and text.isascii() and text.replace("-", "").isalnum()


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= 65535


def _octets(text: str) -> tuple[int, ...] | None:
    parts = text.split(".")
    if len(parts) != 4 or not all(part.isascii() and part.isdigit() and len(part) <= 3 for part in parts):
        return None
    octets = tuple(map(int, parts))
    return octets if max(octets) < 256 else None


def _parse_address(text: str) -> None:
    address, _, prefix = text.partition("/")
    if _octets(address) is None or not (prefix.isascii() and prefix.isdigit() and 1 <= int(prefix[:3]) <= 32):
        raise ConfigError(f"--net: ip={printable(text)} is not like 10.0.0.1/24")


def address_bytes(text: str) -> tuple[bytes, int]:
    """Of an address with a prefix that was checked: 4 bytes, and the bits of the prefix."""
    address, _, prefix = text.partition("/")
    return bytes(map(int, address.split("."))), int(prefix)


def mac_bytes(text: str) -> bytes:
    """Of a card's address that was checked."""
    return bytes(int(part, 16) for part in text.split(":"))


def _check_mac(text: str) -> None:
    parts = text.split(":")
    digits = "0123456789abcdefABCDEF"
    if len(parts) != 6 or not all(len(part) == 2 and part[0] in digits and part[1] in digits for part in parts):
        raise ConfigError(f"--net: mac={printable(text)} is not like 02:00:00:00:00:01")
    octets = mac_bytes(text)
    if octets[0] & 1 or not any(octets):
        raise ConfigError(
            f"--net: mac={printable(text)} is no address of a card, but one of many, or of none; try 02:00:00:00:00:01"
        )


def _random_mac() -> str:
    """Locally administered (IEEE 802, bit 1 of the first octet)."""
    return ":".join(f"{octet:02x}" for octet in (0x02, *os.urandom(5)))
