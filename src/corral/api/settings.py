"""What a guest is to be, as its client has set it so far, and its BootRequest."""

from __future__ import annotations

import os
import stat

from corral.api.fault import Fault, lacks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral.config import DeviceConfig, DiskConfig
    from corral.launch.request import BootRequest
    from corral.network import NetConfig

    Given = dict[str, Any]  # a body that was checked

USER = "user"  # as host_dev_name: the host's connections, by passt
MOST = 16  # drives, and network interfaces
CPU_TEMPLATES = (None, "None")
MIB = 1 << 20
_MACHINE = {"vcpu_count": 1, "mem_size_mib": 128, "smt": False, "track_dirty_pages": False}  # Firecracker's defaults


class Settings:
    """Its methods raise Fault for what cannot be; then nothing has changed."""

    def __init__(self) -> None:
        self.machine: Given = dict(_MACHINE)
        self.boot_source: Given | None = None
        self.drives: dict[str, Given] = {}
        self.interfaces: dict[str, Given] = {}
        self.vsock: Given | None = None
        self.balloon: Given | None = None
        self.entropy: Given | None = None
        self.serial = ""

    def set_machine(self, given: Given) -> None:
        if given.get("smt"):
            raise lacks("smt", "every vCPU is a core")
        if given.get("cpu_template") not in CPU_TEMPLATES:
            raise lacks("CPU templates", "the guest has the host's CPU, less what a snapshot cannot keep")
        if given.get("huge_pages") == "2M":
            raise lacks("huge_pages 2M", "memory is in transparent huge pages where the host has them")
        self.machine = _MACHINE | given

    def set_boot_source(self, given: Given) -> None:
        _require_file(given["kernel_image_path"], "The kernel file")
        if "initrd_path" in given:
            _require_file(given["initrd_path"], "The initrd file")
        self.boot_source = given

    def set_drive(self, given: Given) -> None:
        name = given["drive_id"]
        if "socket" in given:
            raise lacks("drives of vhost-user (socket)")
        if "path_on_host" not in given:
            raise Fault("missing field `path_on_host`")
        _require_file(given["path_on_host"], "The drive's file", devices=True)
        limits(given.get("rate_limiter"))
        others = [one for key, one in self.drives.items() if key != name]
        if given["is_root_device"] and any(one["is_root_device"] for one in others):
            raise Fault("A root block device already exists!")
        if len(others) >= MOST:
            raise Fault(f"A guest has at most {MOST} drives.")
        self.drives[name] = given

    def set_interface(self, given: Given) -> None:
        name = given["iface_id"]
        _refuse_limits(given)
        others = [one for key, one in self.interfaces.items() if key != name]
        mac = given.get("guest_mac", "").lower()
        if mac and any(one.get("guest_mac", "").lower() == mac for one in others):
            raise Fault(f"The MAC address is already in use: {mac}")
        if len(others) >= MOST:
            raise Fault(f"A guest has at most {MOST} network interfaces.")
        _net(given)
        self.interfaces[name] = given

    def set_balloon(self, given: Given) -> None:
        if given["amount_mib"]:
            raise lacks("a balloon that takes memory", "amount_mib is 0; what the guest has freed the host gets back")
        if given.get("stats_polling_interval_s") or given.get("free_page_hinting"):
            raise lacks("a balloon's statistics and hinting")
        self.balloon = given

    def set_entropy(self, given: Given) -> None:
        limits(given.get("rate_limiter"))
        self.entropy = given

    def set_serial(self, given: Given) -> None:
        if "rate_limiter" in given:
            raise lacks("a rate limiter of the serial line", "a file of it has an end")
        self.serial = given.get("serial_out_path", "")

    @property
    def text(self) -> Given:
        """As GET /vm/config has it, but for logger and metrics."""
        found: Given = {
            "machine-config": self.machine,
            "drives": list(self.drives.values()),
            "network-interfaces": list(self.interfaces.values()),
        }
        for name, one in (
            ("boot-source", self.boot_source),
            ("vsock", self.vsock),
            ("balloon", self.balloon),
            ("entropy", self.entropy),
        ):
            if one is not None:
                found[name] = one
        return found

    def request(self) -> BootRequest:
        """Of a guest that boots. Raises Fault, ConfigError."""
        from corral.launch.request import BootRequest

        source = self.boot_source
        if source is None:
            raise Fault("Cannot start microvm without kernel configuration.")
        root = next((one for one in self.drives.values() if one["is_root_device"]), None)
        disks = ([root] if root else []) + [one for one in self.drives.values() if one is not root]
        words = source.get("boot_args", "")
        if root:
            words = f"{'ro' if root.get('is_read_only') else 'rw'} {words}"
            if root.get("partuuid"):
                words = f"root=PARTUUID={root['partuuid']} {words}"
        return BootRequest(
            kernel=os.path.abspath(source["kernel_image_path"]),
            initrd=source.get("initrd_path", None if root else "none"),
            parameters=words.strip(),
            memory=self.machine["mem_size_mib"] * MIB,
            cpus=self.machine["vcpu_count"],
            disks=tuple(map(_disk, disks)),
            nets=self.nets(),
            others=self.others(),
            root="0" if root else "none",
        )

    def nets(self) -> tuple[NetConfig, ...]:
        return tuple(map(_net, self.interfaces.values()))

    def others(self) -> tuple[DeviceConfig, ...]:
        from corral.config import BalloonConfig, RngConfig, VsockConfig

        found: list[DeviceConfig] = []
        if self.vsock:
            found.append(VsockConfig(self.vsock["uds_path"], self.vsock["guest_cid"]))
        if self.balloon:
            found.append(BalloonConfig())
        if self.entropy is not None:
            bandwidth, _ = limits(self.entropy.get("rate_limiter"))
            found.append(RngConfig(bandwidth) if bandwidth else RngConfig())
        return tuple(found)


def limits(limiter: Given | None) -> tuple[int, int]:
    """Bytes and operations a second of a rate limiter, 0 for none: the steady rate of its buckets. A burst at the
    start is not kept apart. Raises Fault for a bucket that never refills."""
    rates = []
    for name in ("bandwidth", "ops"):
        bucket = (limiter or {}).get(name)
        rate = 0
        if bucket and bucket["size"]:
            if not bucket["refill_time"]:
                raise Fault(f"A {name} bucket that is never refilled stops the device; its refill_time is 0.")
            rate = max(1, bucket["size"] * 1000 // bucket["refill_time"])
            if rate >= 1 << 62:
                raise Fault(f"The {name} bucket's rate is out of range.")
        rates.append(rate)
    return rates[0], rates[1]


def _disk(given: Given) -> DiskConfig:
    from corral.config import DiskConfig

    bandwidth, operations = limits(given.get("rate_limiter"))
    return DiskConfig(
        os.path.abspath(given["path_on_host"]),
        read_only=given.get("is_read_only", False),
        id=given["drive_id"],
        raw=True,
        operations=operations,
        bandwidth=bandwidth,
    )


def _net(given: Given) -> NetConfig:
    from corral.errors import ConfigError
    from corral.network import NetConfig

    target = given["host_dev_name"]
    kind, name = (USER, "") if target == USER else ("tap", target)
    try:
        return NetConfig(kind, name, mac=given.get("guest_mac", ""), mtu=given.get("mtu", 0))
    except ConfigError as error:
        raise Fault(str(error)) from None


def _refuse_limits(given: Given) -> None:
    if any(limits(given.get(name)) != (0, 0) for name in ("rx_rate_limiter", "tx_rate_limiter")):
        raise lacks("rate limiters of network interfaces", "tc limits a tap device of the host")


def _require_file(path: str, what: str, devices: bool = False) -> None:
    """Raises Fault for a path that cannot be opened to be read."""
    try:
        kind = os.stat(path).st_mode
    except (OSError, ValueError) as error:
        raise Fault(f"{what} cannot be opened: {getattr(error, 'strerror', error)}: {path}") from None
    if not (stat.S_ISREG(kind) or (devices and stat.S_ISBLK(kind))):
        raise Fault(f"{what} is no regular file: {path}")
    if not os.access(path, os.R_OK):
        raise Fault(f"{what} cannot be opened: Permission denied: {path}")
