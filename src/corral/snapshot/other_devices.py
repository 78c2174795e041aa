"""What a snapshot has of a machine's `others` (MachineConfig), in their order: random bytes, network cards, a vsock."""

from __future__ import annotations

from corral.config import DeviceConfig, RngConfig, VsockConfig
from corral.errors import BootError, ConfigError
from corral.startup.record import record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.network import NetConfig


@record(frozen=True)
class Card:
    """A network card as the guest knows it (network.NetConfig)."""

    backend: str
    mac: str
    mtu: int


@record(frozen=True)
class Other:
    """One device: `card` of a network card, `bandwidth` of random bytes (config.RngConfig), or it is a vsock, of which
    nothing stays: its connections are gone, and its address is a new one."""

    card: Card | None
    bandwidth: int | None
    vsock: bool


@record(frozen=True)
class DeviceEnds:
    """What devices of a guest that goes on are connected to: its cards to `nets`, its vsock to `vsock`; nothing without
    them, for that is not for a file to say. `hostname` is what it is called from now on; None: as it was."""

    nets: tuple[NetConfig, ...] = ()
    vsock: VsockConfig | None = None
    hostname: str | None = None


NOWHERE = DeviceEnds()


def save(device: DeviceConfig) -> Other:
    """One that machine_state.refuse() lets pass."""
    if isinstance(device, RngConfig):
        return Other(None, device.bandwidth, False)
    if isinstance(device, VsockConfig):
        return Other(None, None, True)
    from corral.network import NetConfig

    assert isinstance(device, NetConfig)
    return Other(Card(device.backend, device.mac, device.mtu), None, False)


def configs(others: tuple[Other, ...], ends: DeviceEnds) -> tuple[DeviceConfig, ...]:
    """What a machine that goes on has. Raises BootError, ConfigError."""
    cards = tuple(other.card for other in others if other.card)
    connected = list(_connected(cards, ends.nets)) if cards or ends.nets else []
    vsocks = sum(other.vsock for other in others)
    if vsocks > 1 or any((other.card is None) + (other.bandwidth is None) + (not other.vsock) != 2 for other in others):
        raise BootError("its other devices make no sense")
    if ends.vsock and not vsocks:
        raise ConfigError("the guest in this snapshot has no vsock; leave --vsock out")
    found: list[DeviceConfig] = []
    for other in others:
        if other.vsock:
            found.append(_vsock(ends))
        elif other.bandwidth is not None:
            found.append(RngConfig(other.bandwidth))
        else:
            found.append(connected.pop(0))
    return tuple(found)


def _vsock(ends: DeviceEnds) -> VsockConfig:
    if ends.vsock is None:
        return VsockConfig("unconnected", connected=False, goes_on=True, hostname=ends.hostname)
    return replace(ends.vsock, goes_on=True, hostname=ends.hostname)


def _connected(cards: tuple[Card, ...], nets: tuple[NetConfig, ...]) -> tuple[NetConfig, ...]:
    """Raises ConfigError for other cards than the guest has."""
    from corral.network import NetConfig

    if any(net.backend == "shared" for net in nets):
        raise ConfigError(
            "--net shared: a guest that goes on would keep its address there; leave it out, or boot one anew"
        )
    if nets and [net.backend for net in nets] != [card.backend for card in cards]:
        had = ", ".join(f"--net {card.backend}" for card in cards) or "no network card"
        raise ConfigError(f"the guest in this snapshot has {had}; give it the same, or none to leave them unconnected")
    if not nets:
        return tuple(
            NetConfig(card.backend, "unconnected", mac=card.mac, mtu=card.mtu, connected=False) for card in cards
        )
    return tuple(replace(net, mac=card.mac, mtu=card.mtu) for net, card in zip(nets, cards, strict=True))
