"""What the network cards of many guests that go on from one snapshot are connected to: none has what another has."""

from __future__ import annotations

from corral.errors import ConfigError
from corral.network import NetConfig, Published, address_bytes, mac_bytes
from corral.startup.record import replace

MOST_PORT = 65535
NUMBER = "{n}"  # in a target: a clone's number


def check(nets: tuple[NetConfig, ...], number: int, has_channel: bool) -> None:
    """Raises ConfigError for what `number` clones cannot have."""
    if number < 2:
        return
    for net in nets:
        if net.backend == "shared":
            raise ConfigError(
                "--net shared: clones cannot join one yet; start guests one by one: --restore FILE --net ..."
            )
        if net.backend != "user" and NUMBER not in net.target:
            raise ConfigError(
                f"--net {net.backend}={net.target}: {number} clones cannot share it; {NUMBER} in its name is each "
                f"one's number, like --net {net.backend}={'tap' if net.backend == 'tap' else '/tmp/wire'}{NUMBER}"
            )
        if net.backend != "user" and not has_channel:
            raise ConfigError(
                f"--net {net.backend}: these guests have no channel by which they could be told addresses of their "
                "own; run one, or use --net user"
            )
        if net.backend != "user" and not net.address:
            raise ConfigError(
                f"--net {net.backend}: each clone needs an address of its own; the first's is ,ip=ADDRESS/PREFIX"
            )
        for one in net.published:
            if one.port + number - 1 > MOST_PORT:
                raise ConfigError(f"--publish: {number} clones take ports {one.port} to {one.port + number - 1}")


def of(nets: tuple[NetConfig, ...], number: int) -> tuple[NetConfig, ...]:
    """Of the clone with that number, from 1 on: the ports of the host and the addresses count up from those of the
    first; with `user` the guest's own addresses stay, for it is alone on its link. Raises ConfigError for an address
    that is none of its network."""
    return tuple(_one(net, number - 1) for net in nets)


def _one(net: NetConfig, more: int) -> NetConfig:
    if net.backend == "user":
        published = tuple(Published(one.port + more, one.guest_port, one.address, one.udp) for one in net.published)
        return replace(net, published=published)
    mac = int.from_bytes(mac_bytes(net.mac), "big")
    own = (mac & ~0xFFFFFF) | (mac + more & 0xFFFFFF)
    return replace(
        net,
        target=net.target.replace(NUMBER, str(more + 1)),
        mac=":".join(f"{octet:02x}" for octet in own.to_bytes(6, "big")),
        address=_counted_up(net.address, more) if net.address else "",
    )


def _counted_up(text: str, more: int) -> str:
    packed, prefix = address_bytes(text)
    first = int.from_bytes(packed, "big")
    mask = (1 << 32 - prefix) - 1
    own = first + more
    if own & ~mask != first & ~mask or (prefix < 31 and own & mask in (0, mask)):
        raise ConfigError(f"--net: ip={text}: its network has no address for clone {more + 1}")
    return f"{'.'.join(map(str, own.to_bytes(4, 'big')))}/{prefix}"


def told(nets: tuple[NetConfig, ...]) -> tuple[tuple[bytes, bytes, int], ...]:
    """As a guest is told of them (backends.channel.Identity): zeros for what it keeps."""
    return tuple(
        (bytes(6), bytes(4), 0)
        if net.backend == "user"
        else (mac_bytes(net.mac), *(address_bytes(net.address) if net.address else (bytes(4), 0)))
        for net in nets
    )
