"""What to boot, with what: the request of a command line, a script or a server, in values."""

from __future__ import annotations

from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.config import DeviceConfig, DiskConfig, FlatEntry, Module, ShareConfig
    from corral.network import NetConfig
    from corral.numa.request import Request as Placement

HOST = "host"
NAMES = ("debian", "ubuntu", HOST)  # of what is more than a kernel; a release may follow, like debian:trixie


@record(frozen=True)
class CloudInit:
    """What cloud-init is told in the guest. `user_data` and `ssh_key` are paths of files."""

    user_data: str | None = None
    hostname: str | None = None
    ssh_key: str | None = None


@record(frozen=True)
class BootRequest:
    """A guest that somebody wants. What is None or empty is left to Corral; nothing is checked here (see draft.py).

    `kernel` is a file, or one of NAMES. `variant` is which of several kernels: "small", Corral's own; of a distribution
    "cloud" or "generic"; of a disk "image", the one on it. `command` is what Corral's init runs, one word for a shell's
    line, more for a program and its arguments; None for a shell. `session` is what that has by the channel, as
    MachineConfig says. `initrd` is a file, or "none". `serves_channel`: it has an init of Corral's that serves the
    channel. `agent`: the guest's init starts the agent. `parameters` are the kernel's, after Corral's own. `early`:
    Linux says all that it can.

    `memory` is in bytes. `others` are virtio devices beside disks, shares, cards and the channel. `root` is the disk
    with the root file system: a number, an id, or "none". `cloud_init` gets a disk after the others. `acpi`,
    `protocol`, `flat`, `modules`, `debug_exit` and `nested` are as in MachineConfig. `bios`: it starts as a PC does.
    `placement` is where on the host vCPUs and memory go; its numbers of them do not count. `grace` is for how
    many seconds the guest may shut down when it is asked to end.

    `container`: the guest is of a container image, and this is what its init is told as its session
    (launch/container.py). Disks that it does not write are the same each time.

    `snapshot` is a file to go on from. All of such a guest is in there but its `grace`, what its network cards and its
    vsock are connected to (without `nets` and one of `others`, to nothing), its `hostname`, None: as it was, and the
    `command` if it waits for one. `overlay`: what it writes to images is kept beside them, and gone with it.
    """

    kernel: str | None = None
    variant: str | None = None
    command: tuple[str, ...] | None = None
    session: str = ""
    initrd: str | None = None
    serves_channel: bool = False
    agent: bool = False
    parameters: str = ""
    early: bool = False
    memory: int | None = None
    cpus: int = 1
    disks: tuple[DiskConfig, ...] = ()
    shares: tuple[ShareConfig, ...] = ()
    others: tuple[DeviceConfig, ...] = ()
    nets: tuple[NetConfig, ...] = ()
    cloud_init: CloudInit | None = None
    root: str | None = None
    acpi: bool | None = None
    placement: Placement | None = None
    bios: bool = False
    protocol: str | None = None
    flat: FlatEntry | None = None
    modules: tuple[Module, ...] = ()
    debug_exit: int | None = None
    nested: bool = False
    grace: float | None = None
    container: str | None = None
    snapshot: str | None = None
    overlay: bool = False
    hostname: str | None = None

    @property
    def line(self) -> str | None:
        """The command as a line for a shell, or what a container's init is told."""
        if self.container is not None:
            return self.container
        if self.command is None:
            return None
        from corral.guests import parameters

        return parameters.line(list(self.command))
