"""What is asked for: CPUs in a shape, nodes, CPUs of the host, pages; and how that is written on a command line."""

from __future__ import annotations

from corral.errors import ConfigError
from corral.numa import cpu_list
from corral.startup.record import record

POLICIES = ("auto", "none", "compact", "spread")
HUGE_PAGES = {"2M": 2 << 20, "1G": 1 << 30, "thp": 0}
MOST_NODES = 64


@record(frozen=True)
class Shape:
    """Of the guest's processors: `sockets` of `cores` of `threads`."""

    sockets: int = 1
    cores: int = 1
    threads: int = 1

    @property
    def cpus(self) -> int:
        return self.sockets * self.cores * self.threads


@record(frozen=True)
class MapNode:
    """A node of an explicit map. `memory` in bytes; None: a part of what is left, by its number of vCPUs."""

    vcpus: tuple[int, ...]
    host: int
    memory: int | None = None


@record(frozen=True)
class Request:
    """`memory` is in bytes. `nodes` of the guest, 0: as the policy has it; `map` is an explicit one, or empty.

    `pin`: "auto", or "none"; `pin_cpus` are the only CPUs of the host to be used, () for all; `pin_map` has those of
    single vCPUs. `page` is the size of huge pages from the host's pool, 0 for none; those are taken at the start, as
    all memory is with `prealloc`. `thp`: without transparent huge pages it is not to be. `bind`: memory is bound to
    nodes; `caches`: the guest is told which of its processors share caches.
    """

    cpus: int
    memory: int
    shape: Shape | None = None
    policy: str = "auto"
    nodes: int = 0
    map: tuple[MapNode, ...] = ()
    pin: str = "auto"
    pin_cpus: tuple[int, ...] = ()
    pin_map: tuple[tuple[int, tuple[int, ...]], ...] = ()
    page: int = 0
    thp: bool = False
    prealloc: bool = False
    bind: bool = True
    caches: bool = True


def parse_cpus(text: str) -> tuple[int, Shape | None]:
    """From "8" or "sockets=2,cores=2,threads=2"; what is not named is 1. Raises ConfigError."""
    if "=" not in text:
        return _count(text, "--cpus"), None
    values = {"sockets": 1, "cores": 1, "threads": 1}
    for part in text.split(","):
        name, _, value = part.partition("=")
        if name not in values:
            raise ConfigError(f"--cpus {text}: {name!r} is none of {', '.join(values)}")
        values[name] = _count(value, f"--cpus {name}=")
        if not values[name]:
            raise ConfigError(f"--cpus {text}: {name} must be 1 or more")
    shape = Shape(**values)
    return shape.cpus, shape


def parse_numa(text: str, parse_size: Size) -> dict[str, Any]:
    """Fields of a Request from "auto", "none", "compact", "spread", "nodes=2", or a map like "0-3@0:2G/4-7@1": vCPUs 0
    to 3 on the host's node 0 with 2 GiB, 4 to 7 on its node 1 with the rest. Raises ConfigError."""
    if text in POLICIES:
        return {"policy": text}
    name, equals, value = text.partition("=")
    if equals and name == "nodes":
        nodes = _count(value, "--numa nodes=")
        if not 1 <= nodes <= MOST_NODES:
            raise ConfigError(f"--numa nodes={nodes}: a guest has 1 to {MOST_NODES} nodes")
        return {"policy": "compact", "nodes": nodes}
    if "@" not in text:
        raise ConfigError(
            f"--numa {text!r} is none of {', '.join(POLICIES)}, nodes=N, or a map of vCPUs@node:memory like "
            "0-3@0:2G/4-7@1"
        )
    return {"policy": "map", "map": tuple(_map_node(part, text, parse_size) for part in text.split("/"))}


def parse_pin(text: str) -> dict[str, Any]:
    """Fields of a Request from "auto", "none", "0-3,8-11" (CPUs to use) or "0=3,1=8-9" (vCPU=CPUs). Raises
    ConfigError."""
    if text in ("auto", "none"):
        return {"pin": text}
    if "=" not in text:
        cpus = _numbers(text, f"--pin {text}")
        if not cpus:
            raise ConfigError("--pin wants auto, none, CPUs like 0-3,8-11, or a map like 0=3,1=8-9")
        return {"pin_cpus": cpus}
    map: dict[int, str] = {}
    for part in text.split(","):
        vcpu, equals, cpus_of_it = part.partition("=")
        if equals:
            current = _count(vcpu, f"--pin {text}: vCPU")
            if current in map:
                raise ConfigError(f"--pin {text}: vCPU {current} is there twice")
            map[current] = cpus_of_it
        elif not map:
            raise ConfigError(f"--pin {text}: {part!r} belongs to no vCPU; a map is written 0=3,1=8-9")
        else:
            map[current] += f",{part}"
    lists = tuple((vcpu, _numbers(cpus, f"--pin {text}")) for vcpu, cpus in sorted(map.items()))
    for number, list_of_it in lists:
        if not list_of_it:
            raise ConfigError(f"--pin {text}: vCPU {number} has no CPU")
    return {"pin_map": lists}


def parse_pages(text: str) -> dict[str, Any]:
    """Fields of a Request from "2M", "1G" or "thp". Raises ConfigError."""
    if text not in HUGE_PAGES:
        raise ConfigError(f"--hugepages {text!r} is none of {', '.join(HUGE_PAGES)}")
    return {"page": HUGE_PAGES[text], "thp": text == "thp"}


def _map_node(part: str, text: str, parse_size: Size) -> MapNode:
    vcpus, at, place = part.partition("@")
    host, colon, memory = place.partition(":")
    if not at:
        raise ConfigError(f"--numa {text}: {part!r} names no node of the host; write VCPUS@NODE or VCPUS@NODE:MEMORY")
    return MapNode(
        _numbers(vcpus, f"--numa {text}"),
        _count(host, f"--numa {text}: node"),
        (0 if memory == "0" else parse_size(memory)) if colon else None,
    )


def _numbers(text: str, where: str) -> tuple[int, ...]:
    try:
        return cpu_list.parse(text)
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from None


def _count(text: str, where: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5):
        raise ConfigError(f"{where} wants a whole number, not {text!r}")
    return int(text)


TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Size = Callable[[str], int]
