"""From the words of `corral boot` to a request."""

from __future__ import annotations

from corral.cli.options import Arguments, seconds
from corral.config import BalloonConfig, parse_disk, parse_share, parse_size, parse_vsock
from corral.errors import ConfigError
from corral.launch.request import BootRequest, CloudInit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral.config import DeviceConfig
    from corral.network import NetConfig

# What is about this end of a guest, and not about what it was made as.
_OF_RESTORED = {
    "restore",
    "overlay",
    "net",
    "publish",
    "allow",
    "deny",
    "net-dump",
    "vsock",
    "name",
    "console",
    "gdb",
    "report",
    "screen",
    "stats",
    "grace",
    "timeout",
    "yes",
    "jail",
}


def from_arguments(arguments: Arguments, session: str = "") -> BootRequest:
    """`session` is what the guest's is to have by the channel, if what boots has one. Raises ConfigError."""
    values, every = arguments.values, arguments.every
    if "yes" in values:
        from corral.guests import consent

        consent.give()
    grace = seconds(values["grace"], "--grace") if "grace" in values else None
    if "restore" in values:
        _require_restorable(arguments)
        command = None if arguments.rest is None else tuple(arguments.rest)
        return BootRequest(
            snapshot=snapshot(values["restore"]),
            overlay="overlay" in values,
            nets=nets(every, values.get("name", values.get("hostname", ""))),
            others=tuple(parse_vsock(text) for text in every.get("vsock", [])),
            command=command,
            grace=grace,
        )
    if "overlay" in values:
        raise ConfigError("--overlay is about the disks of --restore FILE; with --disk write PATH,snapshot=on")
    memory = parse_size(values["memory"]) if "memory" in values else None
    disks = tuple(parse_disk(text) for text in every.get("disk", []))
    shares = tuple(parse_share(text) for text in every.get("share", []))
    others: tuple[DeviceConfig, ...] = tuple(parse_vsock(text) for text in every.get("vsock", []))
    others += (BalloonConfig(),) if "balloon" in values else ()
    return BootRequest(
        kernel=arguments.operands[0] if arguments.operands else None,
        variant=values.get("kernel"),
        command=None if arguments.rest is None else tuple(arguments.rest),
        session=session,
        initrd=values.get("initrd"),
        parameters=values.get("append", ""),
        early="early" in values,
        memory=memory,
        disks=disks,
        shares=shares,
        nets=nets(every, values.get("name", values.get("hostname", ""))),
        others=others,
        cloud_init=_cloud_init(values),
        root=values.get("root"),
        bios="bios" in values,
        nested="nested" in values,
        grace=grace,
        **_cpus(values),
        **_payload(arguments),
    )


def snapshot(text: str) -> str:
    """The path of a snapshot's file; of one in a store, of its copy here. Raises BootError, ConfigError, HostError."""
    if "://" not in text:
        return text
    from corral.cli import store

    return store.fetched(text)


def _require_restorable(arguments: Arguments) -> None:
    """Raises ConfigError for what a restored guest cannot be given."""
    given = sorted({*arguments.values} - _OF_RESTORED)
    if arguments.operands:
        raise ConfigError("--restore goes on with the kernel that the snapshot has; leave others out")
    if given:
        raise ConfigError(f"--restore goes on with the machine that was saved; leave --{given[0]} out")


def nets(every: dict[str, list[str]], name: str) -> tuple[NetConfig, ...]:
    """Of --net and the options about it; `name` is what the guest is known by on networks that it shares. Raises
    ConfigError, HostError."""
    if not {"net", "publish", "allow", "deny", "net-dump"} & every.keys():
        return ()
    from corral import network

    cards, published, allowed, denied = (every.get(name, []) for name in ("net", "publish", "allow", "deny"))
    found = network.parse_all(cards, published, allowed, denied, every.get("net-dump", [""])[-1])
    if not any(card.backend == "shared" for card in found):
        return found
    from corral.backends.shared_network import joined

    return joined(found, name)


def _cloud_init(values: dict[str, str]) -> CloudInit | None:
    if not {"cloud-init", "hostname", "ssh-key"} & values.keys():
        return None
    return CloudInit(values.get("cloud-init"), values.get("hostname"), values.get("ssh-key"))


def _cpus(values: dict[str, str]) -> dict[str, Any]:
    """How many, how they are told of, and where on the host they and the memory are: fields of the request."""
    if not {"cpus", "acpi", "numa", "pin", "hugepages", "prealloc", "plan", "plan-json"} & values.keys():
        return {}
    from corral.launch.parse import parse_acpi, parse_cpus, parse_placement

    cpus, shape = parse_cpus(values.get("cpus", "1"))
    numa = values.get("numa", "auto" if {"plan", "plan-json"} & values.keys() else None)
    return {
        "cpus": cpus,
        "acpi": parse_acpi(values.get("acpi", "auto")),
        "placement": parse_placement(shape, numa, values.get("pin"), values.get("hugepages"), "prealloc" in values),
    }


def _payload(arguments: Arguments) -> dict[str, Any]:
    """How the kernel is taken, and what it gets that Linux does not: fields of the request."""
    values = arguments.values
    if not {"module", "protocol", "flat", "debug-exit"} & values.keys():
        return {}
    from corral.boot import payload

    port = values.get("debug-exit")
    return {
        "protocol": values.get("protocol"),
        "flat": payload.parse_flat(values["flat"]) if "flat" in values else None,
        "modules": tuple(payload.parse_module(text) for text in arguments.every.get("module", [])),
        "debug_exit": None if port is None else payload.parse_address(port, "--debug-exit"),
    }
