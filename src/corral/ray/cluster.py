"""A Ray cluster whose nodes run guests: connected to, begun on this host, looked at."""

from __future__ import annotations

import os

from corral.errors import ConfigError, HostError
from corral.ray import versions
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

GUESTS = "corral_guests"  # Ray's name of the resource: how many guests a node may have at once
NAMESPACE = "corral-fleet"
PER_CPU = 8  # guests, where nothing is said
_GUEST_MEMORY = 256 << 20  # bytes of the host's memory for each of them, at least
OBJECT_STORE = 80 << 20  # bytes; what goes through it is small
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}


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


def room() -> int:
    """How many guests this host is offered for where nothing is said."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(1, min(PER_CPU * len(os.sched_getaffinity(0)), memory // _GUEST_MEMORY))


def connect(address: str | None, guests: int | None = None, begin: bool = True) -> Any:
    """The module ray, connected. Without `address` and RAY_ADDRESS to the cluster that runs on this host; where there
    is none, with `begin`, a node is begun here, which ends with this process. Raises HostError, ConfigError."""
    versions.check()
    import ray

    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    if ray.is_initialized():
        return ray
    common: dict[str, Any] = {"namespace": NAMESPACE, "log_to_driver": False, "logging_level": "ERROR"}
    wanted = address or os.environ.get("RAY_ADDRESS")
    try:
        ray.init(address=wanted or "auto", **common)
    except (ConnectionError, RuntimeError) as error:
        if wanted:
            raise HostError(f"no Ray answers at {wanted!r}: {str(error).splitlines()[0]}") from None
        if not begin:
            raise HostError("there is no Ray on this host; begin it: corral fleet up, or name one: --address") from None
        resources = {GUESTS: float(guests or room())}
        ray.init(resources=resources, object_store_memory=OBJECT_STORE, include_dashboard=False, **common)
    except ValueError as error:
        raise ConfigError(f"--address {wanted!r}: {error}") from None
    return ray


def nodes(ray: Any) -> list[FleetNode]:
    """Those that are alive and run guests."""
    found = []
    for node in ray.nodes():
        own = node["Resources"]
        if node["Alive"] and own.get(GUESTS):
            name, address = node["NodeManagerHostname"], f"{node['NodeManagerAddress']}:{node['NodeManagerPort']}"
            found.append(FleetNode(name, address, own.get("CPU", 0.0), int(own.get("memory", 0)), int(own[GUESTS])))
    return sorted(found, key=lambda node: node.address)
