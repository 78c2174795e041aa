"""What a snapshot has of a machine's `others` (MachineConfig): random bytes and network cards, in their order."""

from __future__ import annotations

from corral.config import DeviceConfig, RngConfig
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
    """One device: `card` of a network card, `bandwidth` of random bytes (config.RngConfig)."""

    card: Card | None
    bandwidth: int | None


def save(device: DeviceConfig) -> Other:
    """One that machine_state.refuse() lets pass."""
    if isinstance(device, RngConfig):
        return Other(None, device.bandwidth)
    from corral.network import NetConfig

    assert isinstance(device, NetConfig)
    return Other(Card(device.backend, device.mac, device.mtu), None)


def configs(others: tuple[Other, ...], nets: tuple[NetConfig, ...]) -> tuple[DeviceConfig, ...]:
    """What a machine that goes on has; its cards are connected to `nets`, and to nothing without: that is not for a
    file to say. Raises BootError, ConfigError."""
    cards = tuple(other.card for other in others if other.card)
    connected = list(_connected(cards, nets)) if cards or nets else []
    found: list[DeviceConfig] = []
    for other in others:
        if (other.card is None) == (other.bandwidth is None):
            raise BootError("its other devices make no sense")
        found.append(connected.pop(0) if other.bandwidth is None else RngConfig(other.bandwidth))
    return tuple(found)


def _connected(cards: tuple[Card, ...], nets: tuple[NetConfig, ...]) -> tuple[NetConfig, ...]:
    """Raises ConfigError for other cards than the guest has."""
    from corral.network import NetConfig

    if nets and [net.backend for net in nets] != [card.backend for card in cards]:
        had = ", ".join(f"--net {card.backend}" for card in cards) or "no network card"
        raise ConfigError(f"the guest in this snapshot has {had}; give it the same, or none to leave them unconnected")
    if not nets:
        return tuple(
            NetConfig(card.backend, "unconnected", mac=card.mac, mtu=card.mtu, connected=False) for card in cards
        )
    return tuple(replace(net, mac=card.mac, mtu=card.mtu) for net, card in zip(nets, cards, strict=True))
