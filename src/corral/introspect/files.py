"""Open files and sockets of a task, by the kernel's types."""

from __future__ import annotations

import socket as names
import struct

from corral.introspect.kernel import DamagedKernel
from corral.memory import GuestMemoryError
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.introspect.kernel import GuestKernel
    from corral.introspect.types import Types

MOST_FILES = 1 << 16  # of a task
_DEEPEST = 128  # parts of a path
_NAME = 256
_FAMILIES = {int(one): one.name[3:].lower() for one in names.AddressFamily}
_TYPES = {1: "stream", 2: "datagram", 3: "raw", 5: "seqpacket"}
_STATES = ("", "established", "syn-sent", "syn-received", "fin-wait-1", "fin-wait-2", "time-wait", "closed")
_MORE_STATES = ("close-wait", "last-ack", "listening", "closing", "syn-received")


@record(frozen=True)
class GuestSocket:
    """`local` and `remote` are address:port of IP, "" of others; `state` is TCP's."""

    HEX = ("address",)

    address: int
    family: str
    type: str
    state: str
    local: str
    remote: str


@record(frozen=True)
class OpenFile:
    """`number` is the descriptor; `path` as in the guest's root, or as `[pipe]` what has none."""

    number: int
    path: str
    socket: GuestSocket | None


def of_task(kernel: GuestKernel, types: Types, task: int) -> list[OpenFile]:
    """By descriptor. `task` is the address of its struct task_struct. Raises GuestMemoryError, BadTypes,
    DamagedKernel."""
    table = kernel.u64(task + types.offset("task_struct", "files"))
    if not table:
        return []
    table = kernel.u64(table + types.offset("files_struct", "fdt"))
    count = kernel.u32(table + types.offset("fdtable", "max_fds"))
    if count > MOST_FILES:
        raise DamagedKernel(f"a task has room for {count} open files, at most {MOST_FILES} are looked at")
    places = kernel.read(kernel.u64(table + types.offset("fdtable", "fd")), count * 8)
    found = []
    for number, (file,) in enumerate(struct.iter_unpack("<Q", places)):
        if file:
            try:
                found.append(_file(kernel, types, number, file))
            except GuestMemoryError:  # it is closed at this moment
                found.append(OpenFile(number, "?", None))
    return found


def _file(kernel: GuestKernel, types: Types, number: int, file: int) -> OpenFile:
    is_socket = kernel.has("socket_file_ops") and kernel.u64(file + types.offset("file", "f_op")) == kernel.symbol(
        "socket_file_ops"
    )
    path = types.offset("file", "f_path")
    mount = kernel.u64(file + path + types.offset("path", "mnt"))
    entry = kernel.u64(file + path + types.offset("path", "dentry"))
    text = "[socket]" if is_socket else _path(kernel, types, mount, entry)
    return OpenFile(number, text, _socket(kernel, types, file) if is_socket else None)


def _path(kernel: GuestKernel, types: Types, mount: int, entry: int) -> str:
    """From the file's directory entry up, over the mounts."""
    inner = types.offset("mount", "mnt")
    at, parent_at = mount - inner, types.offset("dentry", "d_parent")
    name_at = types.offset("dentry", "d_name") + types.offset("qstr", "name")
    parts: list[str] = []
    for _ in range(_DEEPEST):
        root = kernel.u64(at + inner + types.offset("vfsmount", "mnt_root"))
        parent = kernel.u64(entry + parent_at)
        if entry == root:
            above = kernel.u64(at + types.offset("mount", "mnt_parent"))
            if above == at:
                return "/" + "/".join(reversed(parts))
            entry, at = kernel.u64(at + types.offset("mount", "mnt_mountpoint")), above
        elif entry == parent:  # of a file system without a place, as pipes have
            kind = kernel.u64(entry + types.offset("dentry", "d_sb"))
            kind = kernel.u64(kind + types.offset("super_block", "s_type"))
            name = kernel.text(kernel.u64(kind + types.offset("file_system_type", "name")), _NAME)
            return "/".join([f"[{name}]", *reversed(parts)])
        else:
            parts.append(kernel.text(kernel.u64(entry + name_at), _NAME))
            entry = parent
    return ".../" + "/".join(reversed(parts))


def _socket(kernel: GuestKernel, types: Types, file: int) -> GuestSocket:
    place = kernel.u64(file + types.offset("file", "private_data"))
    sock = kernel.u64(place + types.offset("socket", "sk"))
    kind = int.from_bytes(kernel.read(place + types.offset("socket", "type"), 2), "little")
    if not sock:
        return GuestSocket(place, "?", _TYPES.get(kind, str(kind)), "", "", "")
    common = sock + types.offset("sock", "__sk_common")

    def field(name: str, size: int) -> bytes:
        return kernel.read(common + types.offset("sock_common", name), size)

    family = int.from_bytes(field("skc_family", 2), "little")
    local = remote = state = ""
    if family in (names.AF_INET, names.AF_INET6):
        size, suffix = (4, "addr") if family == names.AF_INET else (16, "")
        ours, theirs = ("skc_rcv_saddr", "skc_daddr") if suffix else ("skc_v6_rcv_saddr", "skc_v6_daddr")
        port, peer = int.from_bytes(field("skc_num", 2), "little"), int.from_bytes(field("skc_dport", 2), "big")
        local = _address(family, field(ours, size), port)
        remote = _address(family, field(theirs, size), peer)
        number = field("skc_state", 1)[0]
        states = (*_STATES, *_MORE_STATES)
        state = states[number] if kind == 1 and number < len(states) else ""
    return GuestSocket(place, _FAMILIES.get(family, str(family)), _TYPES.get(kind, str(kind)), state, local, remote)


def _address(family: int, address: bytes, port: int) -> str:
    text = names.inet_ntop(family, address)
    return f"[{text}]:{port}" if ":" in text else f"{text}:{port}"
