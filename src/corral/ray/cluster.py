"""A Ray cluster whose nodes run guests: connected to, begun on this host, looked at."""

from __future__ import annotations

import os
import socket

from corral.errors import ConfigError, HostError
from corral.ray import node, versions
from corral.ray.node import GUESTS, OBJECT_STORE, QUIET, room
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NAMESPACE = "corral-fleet"
ANSWERS = 5.0  # seconds for a cluster to take a connection


@record(frozen=True)
class FleetNode:
    """A node that runs guests. `guests`: how many it may have at once."""

    name: str
    address: str
    cpus: float
    memory: int
    guests: int

    def values(self) -> dict[str, Any]:
        """For JSON."""
        return {name: getattr(self, name) for name in ("name", "address", "cpus", "memory", "guests")}


def connect(address: str | None, guests: int | None = None, begin: bool = True) -> Any:
    """The module ray, connected. Without `address` and RAY_ADDRESS to the cluster that this host is in by node.begin();
    where there is none, with `begin`, a node is begun here, which ends with this process. Raises HostError,
    ConfigError."""
    versions.check()
    import ray

    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    if ray.is_initialized():
        return ray
    common: dict[str, Any] = {"namespace": NAMESPACE, "log_to_driver": False, "logging_level": "ERROR"}
    wanted = address or os.environ.get("RAY_ADDRESS") or node.own_address()
    if wanted is None and not begin:
        raise HostError("corral fleet up has begun no Ray on this host; do so, or name one: --address HOST:PORT")
    try:
        if wanted is None:
            resources = {GUESTS: float(guests or room())}
            ray.init("local", resources=resources, object_store_memory=OBJECT_STORE, include_dashboard=False, **common)
        else:
            _require_answer(wanted)
            ray.init(wanted, **common)
    except (ConnectionError, RuntimeError) as error:
        raise HostError(f"Ray at {wanted or 'this host'!r}: {str(error).splitlines()[0]}") from None
    return ray


def _require_answer(address: str) -> None:
    """Ray itself looks for a cluster that has gone for minutes. Raises HostError, ConfigError."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ConfigError(f"--address {address!r} is not HOST:PORT")
    try:
        socket.create_connection((host.strip("[]"), int(port)), ANSWERS).close()
    except OSError as error:
        raise HostError(f"no Ray answers at {address}: {error.strerror or error}; see corral fleet up there") from None


def nodes(ray: Any) -> list[FleetNode]:
    """Those that are alive and run guests."""
    found = []
    for each in ray.nodes():
        own = each["Resources"]
        if each["Alive"] and own.get(GUESTS):
            name, address = each["NodeManagerHostname"], f"{each['NodeManagerAddress']}:{each['NodeManagerPort']}"
            found.append(FleetNode(name, address, own.get("CPU", 0.0), int(own.get("memory", 0)), int(own[GUESTS])))
    return sorted(found, key=lambda found: found.address)
