"""What a machine is made of, as frozen values that can be checked with no KVM present."""

from __future__ import annotations

import os

from corral.errors import ConfigError
from corral.memory import check_size
from corral.printable import printable
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral.arch.x86_64.registers import Mode
    from corral.numa.plan import Plan

MOST_CPUS = 64
MOST_DISKS = 16
MOST_DEVICES = 17  # of virtio: a line for each
LONGEST_TAG = 31  # bytes
LONGEST_SERIAL = 20  # bytes (virtio 1.2, 5.2.6: GET_ID)
FIRST_CID, LAST_CID = 3, 2**32 - 2  # virtio 1.2, 5.10.4: others are reserved
CACHES = ("writeback", "direct", "writethrough")
LARGEST_FILE = 1 << 30  # bytes that a guest may write to a file of the host's, if no size is said
_UNITS = {"": 1 << 20, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


class DeviceConfig:
    """Of a virtio device. `module` of corral.devices.virtio makes it."""

    module = ""


@record(frozen=True)
class ImageIdentity:
    """By what an image is known again: its bytes, when it was last written (ns since 1970; 0: a block device does not
    tell), and the SHA-256 of its first bytes (backends.disk_image.DiskImage.identity)."""

    size: int
    written: int
    head: bytes


@record(frozen=True)
class DiskConfig(DeviceConfig):
    """A disk over the raw image or block device at `path`.

    `snapshot`: what the guest writes is kept beside the image, in a file without a name, and gone with the guest.
    `layer`: the most bytes of it, a multiple of 4096; 0: half of what is free there at the start.
    `cache`: "writeback" and "direct" (which does without the host's page cache) are durable when the guest flushes,
    "writethrough" with every write. `raw`: the image is raw even if it begins like another format. `locked`: it is
    locked, and refused when another program has locked it. `operations` and `bandwidth` (bytes) are limits per second,
    0 for none. `identity`: only this image will do, as it was then. Raises ConfigError.
    """

    module = "blk"
    path: str
    read_only: bool = False
    snapshot: bool = False
    layer: int = 0
    cache: str = "writeback"
    serial: str = ""
    id: str = ""
    raw: bool = False
    locked: bool = True
    operations: int = 0
    bandwidth: int = 0
    identity: ImageIdentity | None = None

    def __post_init__(self) -> None:
        if not self.path:
            raise ConfigError("--disk needs the path of an image: --disk disk.img")
        if self.cache not in CACHES:
            raise self._wrong(f"cache={printable(self.cache)} is none of {', '.join(CACHES)}")
        if len(self.serial.encode()) > LONGEST_SERIAL or not self.serial.isprintable():
            raise self._wrong(f"a serial number has at most {LONGEST_SERIAL} printable bytes")
        if self.snapshot and self.cache != "writeback":
            raise self._wrong(f"cache={printable(self.cache)} is of no use with snapshot=on; leave one out")
        if self.layer and not self.snapshot:
            raise self._wrong("layer=SIZE is of use with snapshot=on alone; add that")
        if not 0 <= self.layer < 1 << 63:
            raise self._wrong(f"a layer of {self.layer} bytes cannot be; write it like layer=4G")
        if self.read_only and self.snapshot:
            raise self._wrong("ro and snapshot=on exclude each other; choose one")

    def _wrong(self, what: str) -> ConfigError:
        return ConfigError(f"--disk {printable(self.path)}: {what}")


@record(frozen=True)
class ShareConfig(DeviceConfig):
    """The folder `path` of the host, for a guest to mount: `mount -t 9p -o trans=virtio TAG /mnt`.

    The guest does there what the user may who runs Corral; no more than reading, unless `writable`. Raises ConfigError.
    """

    module = "p9"
    path: str
    tag: str = "share"
    writable: bool = False

    def __post_init__(self) -> None:
        if not os.path.isdir(self.path):
            raise ConfigError(f"--share {self.path!r} is no folder; name one that is there")
        if not (self.tag.isascii() and self.tag.isprintable()) or not 0 < len(self.tag) <= LONGEST_TAG:
            path = printable(self.path)
            raise ConfigError(f"--share {path}: a tag has 1 to {LONGEST_TAG} printable ASCII characters")


@record(frozen=True)
class ChannelConfig(DeviceConfig):
    """A channel between programs of the host and the guest's init (corral.backends.channel). `session`: what a session
    of the guest has by it, "pipes" or "terminal". Raises ConfigError."""

    module = "ports"
    session: str

    def __post_init__(self) -> None:
        if self.session not in ("pipes", "terminal"):
            raise ConfigError(f"channel={self.session!r} is none of 'pipes', 'terminal' and ''")


@record(frozen=True)
class RngConfig(DeviceConfig):
    """Random bytes of the host, which a Linux guest has as /dev/hwrng. At most `bandwidth` bytes a second."""

    module = "rng"
    bandwidth: int = 1 << 20


@record(frozen=True)
class VsockConfig(DeviceConfig):
    """Connections between programs of the guest and of the host (virtio-vsock), by the Unix socket `path` and sockets
    beside it (docs/vsock.md). `cid` is the guest's address, 3 to 2^32 - 2; None: 3. With `connected` False no program
    of the host reaches it. `goes_on`: its driver is there already, from a snapshot; its agent is told what no other
    guest has, with a `hostname` if there is one, before anything else reaches it, and a `cid` of None is a new one.
    Raises ConfigError."""

    module = "vsock"
    path: str
    cid: int | None = None
    connected: bool = True
    goes_on: bool = False
    hostname: str | None = None

    def __post_init__(self) -> None:
        if not self.path or "\0" in self.path:
            raise ConfigError("--vsock needs the path of a socket: --vsock guest.sock")
        if self.cid is not None and not FIRST_CID <= self.cid <= LAST_CID:
            raise ConfigError(f"--vsock {printable(self.path)}: cid={self.cid} is not in {FIRST_CID} to {LAST_CID}")


@record(frozen=True)
class BalloonConfig(DeviceConfig):
    """Memory that the guest's kernel has freed goes back to the host (virtio-balloon, free page reporting)."""

    module = "balloon"


@record(frozen=True)
class FlatEntry:
    """Raw code: where it is loaded, the mode that it is entered in, and where; None: at its start."""

    mode: Mode
    address: int
    entry: int | None = None


@record(frozen=True)
class Firmware:
    """A PC's BIOS: the file of its image, and that of the option ROM by which it hands over to a program."""

    image: str
    rom: str


@record(frozen=True)
class Module:
    """A file that is placed in memory beside a kernel, and the words that go with it."""

    path: str
    words: str = ""


@record(frozen=True)
class MachineConfig:
    """`memory` is in bytes, a multiple of 4 KiB; `cmdline` is the kernel's whole command line.

    `acpi`: the guest has ACPI tables, and a way to power off. It has an MP table in any case. `plan`: where vCPUs and
    memory are to be, and what the guest sees of its place (corral.numa); None: no pinning.
    `protocol` is by which the kernel is entered (corral.boot.PROTOCOLS), None: what suits it; `flat`: it is raw code.
    `modules` are files for it beside its initrd. `bios`: a PC's BIOS starts, which boots the kernel, or the first disk
    where that is "". `debug_exit` is a port by which the guest ends itself with a status.
    `nested`: the guest may run guests of its own, where the host's KVM has that for guests.
    `injection` is the file of what makes this kernel run natively on a pagetable KVM (corral.injection).
    `channel` is a ChannelConfig's session, "": there is none; `command` is what runs in it, a line for the guest's
    shell, None: a shell does. `others` are virtio devices of other kinds.
    `snapshot` is a file from which the machine goes on, as `corral.snapshot` saved it: no kernel is loaded then.
    `split_irqchip`: KVM has local APICs and no other interrupt controller, where it can do so. The guest then has no
    8259, and its 8254 counts and does not tick: for a Linux that takes its time from KVM, or what uses APICs alone.
    Raises ConfigError for what no machine can have. Files are opened, and found wanting, when the machine is built.
    """

    kernel: str
    initrd: str | None = None
    cmdline: str = ""
    memory: int = 512 << 20
    cpus: int = 1
    disks: tuple[DiskConfig, ...] = ()
    shares: tuple[ShareConfig, ...] = ()
    acpi: bool = False
    plan: Plan | None = None
    protocol: str | None = None
    flat: FlatEntry | None = None
    modules: tuple[Module, ...] = ()
    bios: Firmware | None = None
    debug_exit: int | None = None
    nested: bool = False
    injection: str | None = None
    channel: str = ""
    command: str | None = None
    others: tuple[DeviceConfig, ...] = ()
    snapshot: str | None = None
    split_irqchip: bool = False

    def __post_init__(self) -> None:
        for name, kind in (("disks", DiskConfig), ("shares", ShareConfig), ("others", DeviceConfig)):
            given = getattr(self, name)
            if isinstance(given, kind):
                given = (given,)
            if isinstance(given, str) or not all(isinstance(one, kind) for one in given):
                raise ConfigError(f"{name} is a tuple of {kind.__name__}: {name}=({kind.__name__}(PATH),)")
            object.__setattr__(self, name, tuple(given))
        check_size(self.memory)
        if not 1 <= self.cpus <= MOST_CPUS:
            raise ConfigError(f"{self.cpus} CPUs: a guest has 1 to {MOST_CPUS}")
        if len(self.disks) > MOST_DISKS:
            raise ConfigError(f"{len(self.disks)} disks: a guest has at most {MOST_DISKS}")
        if len(self.disks) + len(self.shares) > MOST_DEVICES:
            raise ConfigError(
                f"{len(self.disks)} disks and {len(self.shares)} shared folders: a guest has at most "
                f"{MOST_DEVICES} of both together"
            )
        if self.free_lines < 0:
            raise ConfigError(
                f"with {len(self.disks)} disks and {len(self.shares)} shared folders there is no line left for "
                f"{'a channel' if self.channel and not self.others else 'other devices'}"
            )
        tags = [share.tag for share in self.shares]
        if len(set(tags)) < len(tags):
            raise ConfigError("two shared folders have the same tag; give each its own: --share PATH,tag=NAME")
        names = [disk.id for disk in self.disks if disk.id]
        if len(set(names)) < len(names):
            raise ConfigError("two disks have the same id; give each its own")
        if self.debug_exit is not None:
            _check_debug_exit(self.debug_exit)
        if self.plan is not None:
            if len(self.plan.cpus) != self.cpus:
                raise ConfigError(f"the plan has {len(self.plan.cpus)} vCPUs, and the machine {self.cpus}")
            memory = sum(node.memory for node in self.plan.nodes)
            if memory != self.memory:
                raise ConfigError(f"the plan has {memory >> 20} MiB of memory, and the machine {self.memory >> 20} MiB")
        if "\0" in self.cmdline:
            raise ConfigError("the kernel command line has a NUL byte in it")

    @property
    def devices(self) -> tuple[DeviceConfig, ...]:
        """All of virtio, in the order in which the guest finds them."""
        channel = (ChannelConfig(self.channel),) if self.channel else ()
        return (*self.disks, *self.shares, *channel, *self.others)

    @property
    def free_lines(self) -> int:
        """For how many more devices there are interrupt lines."""
        return MOST_DEVICES - len(self.devices)


def _check_debug_exit(first: int) -> None:
    from corral.arch.x86_64 import layout

    last = first + layout.DEBUG_EXIT_PORTS - 1
    if not 0 < first <= last <= 0xFFFF:
        raise ConfigError(f"--debug-exit {first:#x}: there are the ports 1 to 0xffff; QEMU's is 0xf4")


def parse_disk(text: str) -> DiskConfig:
    """From "PATH[,ro][,snapshot=on[,layer=SIZE]][,cache=...][,serial=S][,id=N][,ops=N][,bytes=SIZE][,format=raw]
    [,lock=off]".

    A path's own commas are doubled. Raises ConfigError.
    """
    path, *words = (part.replace("\0", ",") for part in text.replace(",,", "\0").split(","))
    values: dict[str, Any] = {"path": path}
    for word in words:
        name, _, value = word.partition("=")
        if word == "ro":
            values["read_only"] = True
        elif name == "snapshot" and value in ("on", "off"):
            values["snapshot"] = value == "on"
        elif name == "lock" and value in ("on", "off"):
            values["locked"] = value == "on"
        elif word == "format=raw":
            values["raw"] = True
        elif name == "format":
            what = f"{printable(value)} images are not supported"
            raise ConfigError(f"--disk {printable(path)}: {what}; convert it: qemu-img convert -O raw")
        elif name in ("cache", "serial", "id") and value:
            values[name] = value
        elif name == "ops" and value.isascii() and value.isdigit() and 0 < len(value) <= 15:
            values["operations"] = int(value)
        elif name == "layer":
            values["layer"] = parse_size(value)
        elif name == "bytes":
            values["bandwidth"] = parse_size(value)
        else:
            raise ConfigError(
                f"--disk {path}: {word!r} is none of ro, snapshot=on, layer=SIZE, cache={'|'.join(CACHES)}, serial=S, "
                "id=N, ops=N, bytes=SIZE, format=raw, lock=off; write a comma of the path twice"
            )
    return DiskConfig(**values)


def parse_share(text: str) -> ShareConfig:
    """From "PATH[,tag=NAME][,rw]". A path's own commas are doubled. Raises ConfigError."""
    path, *words = (part.replace("\0", ",") for part in text.replace(",,", "\0").split(","))
    values: dict[str, Any] = {"path": path}
    for word in words:
        if word == "rw":
            values["writable"] = True
        elif word.startswith("tag="):
            values["tag"] = word.removeprefix("tag=")
        else:
            raise ConfigError(f"--share {path}: {word!r} is none of rw, tag=NAME; write a comma of the path twice")
    return ShareConfig(**values)


def parse_vsock(text: str) -> VsockConfig:
    """From "PATH[,cid=N]". A path's own commas are doubled. Raises ConfigError."""
    path, *words = (part.replace("\0", ",") for part in text.replace(",,", "\0").split(","))
    cid = None
    for word in words:
        name, _, value = word.partition("=")
        if name != "cid" or not (value.isascii() and value.isdigit()) or len(value) > 15:
            raise ConfigError(f"--vsock {path}: {word!r} is not cid=N; write a comma of the path twice")
        cid = int(value)
    return VsockConfig(path, cid)


def parse_number(text: str, name: str) -> int:
    """Raises ConfigError; `name` is the option's."""
    if not (text.isascii() and text.isdigit()) or len(text) > 9:
        raise ConfigError(f"{name} {text!r} is not a number")
    return int(text)


def sized_path(text: str) -> tuple[str, int]:
    """From "PATH[,size=SIZE]", of a file that a guest makes longer and longer; commas in the path are as they are.
    Raises ConfigError."""
    path, option, size = text.rpartition(",size=")
    return (path, parse_size(size)) if option else (text, LARGEST_FILE)


def parse_size(text: str) -> int:
    """Bytes from "512M", "6G", "1T"; a bare number is MiB. Raises ConfigError."""
    number, unit = text.strip().upper().removesuffix("IB").removesuffix("B"), ""
    if number[-1:].isalpha():
        number, unit = number[:-1], number[-1]
    if not (number.isascii() and number.isdigit()) or unit not in _UNITS or len(number) > 15:
        raise ConfigError(f"{text!r} is not a size; write it like 512M or 6G")
    return int(number) * _UNITS[unit]
