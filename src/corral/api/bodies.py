"""The bodies of requests and answers, as Firecracker's API has them; `CORRAL_…` are our own.

What is left out of one has the value that Firecracker gives it. Fields of Firecracker's that Corral knows and cannot
do are here, for they are refused by name where they ask for something (settings.py).
"""

from __future__ import annotations

from corral.api.shapes import Anything, Body, Flag, Items, Number, OneOf, Text

MOST_CPUS = 64  # as corral.config has it: to import that loads the shim, which nothing here needs
PATH = Text("a path of this host", least=1)
ID = Text("letters, digits and _", longest=64, least=1)

TOKEN_BUCKET = Body(
    "TokenBucket",
    {"size": Number(about="tokens"), "refill_time": Number(about="ms"), "one_time_burst": Number()},
    ("size", "refill_time"),
)
RATE_LIMITER = Body("RateLimiter", {"bandwidth": TOKEN_BUCKET, "ops": TOKEN_BUCKET})
BOOT_SOURCE = Body(
    "BootSource", {"kernel_image_path": PATH, "initrd_path": PATH, "boot_args": Text()}, ("kernel_image_path",)
)
_MACHINE = {
    "vcpu_count": Number(1, MOST_CPUS),
    "mem_size_mib": Number(1, 1 << 30),
    "smt": Flag(),
    "track_dirty_pages": Flag("taken, and of no use: a snapshot is always whole"),
    "cpu_template": OneOf(("C3", "T2", "T2S", "T2CL", "T2A", "V1N1", "None")),
    "huge_pages": OneOf(("None", "2M", "Transparent")),
}
MACHINE = Body("MachineConfiguration", _MACHINE, ("vcpu_count", "mem_size_mib"))
PARTIAL_MACHINE = Body("PartialMachineConfiguration", _MACHINE)
DRIVE = Body(
    "Drive",
    {
        "drive_id": ID,
        "is_root_device": Flag(),
        "path_on_host": PATH,
        "is_read_only": Flag(),
        "partuuid": Text(longest=64),
        "cache_type": OneOf(("Unsafe", "Writeback"), "both are durable when the guest flushes"),
        "io_engine": OneOf(("Sync", "Async"), "Corral chooses"),
        "rate_limiter": RATE_LIMITER,
        "socket": PATH,
    },
    ("drive_id", "is_root_device"),
)
PARTIAL_DRIVE = Body(
    "PartialDrive", {"drive_id": ID, "path_on_host": PATH, "rate_limiter": RATE_LIMITER}, ("drive_id",)
)
INTERFACE = Body(
    "NetworkInterface",
    {
        "iface_id": ID,
        "host_dev_name": Text("a tap device of this host, or user: its connections, by passt", 15, 1),
        "guest_mac": Text(longest=17),
        "mtu": Number(68, 65520),
        "rx_rate_limiter": RATE_LIMITER,
        "tx_rate_limiter": RATE_LIMITER,
    },
    ("iface_id", "host_dev_name"),
)
PARTIAL_INTERFACE = Body(
    "PartialNetworkInterface",
    {"iface_id": ID, "rx_rate_limiter": RATE_LIMITER, "tx_rate_limiter": RATE_LIMITER},
    ("iface_id",),
)
VSOCK = Body(
    "Vsock",
    {"guest_cid": Number(3, 2**32 - 2), "uds_path": Text("a socket's path", 107, 1), "vsock_id": ID},
    ("guest_cid", "uds_path"),
)
BALLOON = Body(
    "Balloon",
    {
        "amount_mib": Number(most=2**32 - 1, about="0: it gives back what was freed, and takes nothing"),
        "deflate_on_oom": Flag(),
        "stats_polling_interval_s": Number(most=2**16 - 1),
        "free_page_hinting": Flag(),
        "free_page_reporting": Flag(),
    },
    ("amount_mib", "deflate_on_oom"),
)
BALLOON_UPDATE = Body("BalloonUpdate", {"amount_mib": Number(most=2**32 - 1)}, ("amount_mib",))
ENTROPY = Body("EntropyDevice", {"rate_limiter": RATE_LIMITER})
SERIAL = Body("SerialDevice", {"serial_out_path": PATH, "rate_limiter": TOKEN_BUCKET})
LEVELS = ("Error", "Warning", "Info", "Debug", "Trace", "Off")
LOGGER = Body(
    "Logger",
    {
        "log_path": PATH,
        "level": Text("Error, Warning, Info, Debug, Trace or Off, in any case", longest=16),
        "show_level": Flag(),
        "show_log_origin": Flag(),
        "module": Text(),
    },
)
METRICS = Body("Metrics", {"metrics_path": PATH}, ("metrics_path",))
ACTION = Body(
    "InstanceActionInfo",
    {"action_type": OneOf(("FlushMetrics", "InstanceStart", "SendCtrlAltDel"))},
    ("action_type",),
)
VM = Body("Vm", {"state": OneOf(("Paused", "Resumed"))}, ("state",))
SNAPSHOT_CREATE = Body(
    "SnapshotCreateParams",
    {"mem_file_path": PATH, "snapshot_path": PATH, "snapshot_type": OneOf(("Full", "Diff"))},
    ("mem_file_path", "snapshot_path"),
)
MEMORY_BACKEND = Body(
    "MemoryBackend",
    {"backend_type": OneOf(("File", "Uffd")), "backend_path": PATH},
    ("backend_type", "backend_path"),
)
NETWORK_OVERRIDE = Body(
    "NetworkOverride", {"iface_id": ID, "host_dev_name": Text(longest=15, least=1)}, ("iface_id", "host_dev_name")
)
VSOCK_OVERRIDE = Body("VsockOverride", {"uds_path": Text(longest=107, least=1)}, ("uds_path",))
SNAPSHOT_LOAD = Body(
    "SnapshotLoadParams",
    {
        "snapshot_path": PATH,
        "mem_file_path": PATH,
        "mem_backend": MEMORY_BACKEND,
        "enable_diff_snapshots": Flag("taken, and of no use"),
        "track_dirty_pages": Flag("taken, and of no use"),
        "resume_vm": Flag(),
        "network_overrides": Items(NETWORK_OVERRIDE, 16),
        "vsock_override": VSOCK_OVERRIDE,
        "clock_realtime": Flag("Corral's guests have the time of the host in any case"),
    },
    ("snapshot_path",),
)
CONTENT = Anything("any content")

# Of answers.
ERROR = Body("Error", {"fault_message": Text(longest=65536)}, ("fault_message",))
INSTANCE = Body(
    "InstanceInfo",
    {
        "id": Text(),
        "state": OneOf(("Not started", "Running", "Paused")),
        "vmm_version": Text(),
        "app_name": Text(),
    },
    ("id", "state", "vmm_version", "app_name"),
)
VERSION = Body(
    "FirecrackerVersion", {"firecracker_version": Text(), "corral_version": Text()}, ("firecracker_version",)
)
FULL = Body(
    "FullVmConfiguration",
    {
        "boot-source": BOOT_SOURCE,
        "machine-config": MACHINE,
        "drives": Items(DRIVE),
        "network-interfaces": Items(INTERFACE),
        "vsock": VSOCK,
        "balloon": BALLOON,
        "entropy": ENTROPY,
        "logger": LOGGER,
        "metrics": METRICS,
    },
)

# Corral's own.
CORRAL_EXEC = Body(
    "Exec",
    {
        "command": Items(Text(longest=32768), 256, 1),
        "timeout_s": Number(1, 600, "60 where it is left out"),
        "user": Text(longest=64),
        "folder": PATH,
    },
    ("command",),
)
CORRAL_EXECUTED = Body(
    "Executed",
    {
        "status": Number(-255, 255, "the exit status, or minus the signal that ended it"),
        "stdout": Text("bytes that are no UTF-8 are replaced", 1 << 21),
        "stderr": Text(longest=1 << 21),
        "out_of_time": Flag(),
        "too_much": Flag("it wrote more than 1 MiB and was killed"),
    },
    ("status", "stdout", "stderr", "out_of_time", "too_much"),
)
CORRAL_CONSOLE = Body("Console", {"text": Text("the last that the guest said", 1 << 21)}, ("text",))
CORRAL_STATS = Body(
    "Stats",
    {name: Number(most=2**64) for name in ("exits", "disk_read", "disk_written", "to_guest", "from_guest")},
    ("exits", "disk_read", "disk_written", "to_guest", "from_guest"),
)
