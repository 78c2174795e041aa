"""A snapshot's file: it is refused in one line, or is a machine that can be."""

from __future__ import annotations

import hashlib
import json
import re
import struct
from typing import Any

from corral.errors import CorralError
from corral.snapshot import file, ram, resumed
from tests.fuzz.targets import MemoryFile, one_line

LONGEST = 16384
CONCERNED = (
    "corral.snapshot.file",
    "corral.snapshot.parents",
    "corral.snapshot.values",
    "corral.snapshot.resumed",
    "corral.config",
)

_file = MemoryFile()
_HEAD = 48


def one(data: bytes) -> None:
    """The first byte: whether the rest is the whole file, or the description of one whose sum is right."""
    if not data:
        return
    whole, content = data[0] & 1, data[1:]
    path = _file.put(content) if whole else _file.put(packed(content), _size(content))
    try:
        with resumed.Resumed(path) as found:
            config = found.config()
            assert "\0" not in config.kernel + config.cmdline
    except CorralError as error:
        one_line(error)


def _memory_of(text: bytes) -> int:
    """Bytes of RAM that the file has, as the description says; a page where it says nothing that can be."""
    found = re.search(rb'"memory":(\d{1,12})\b', text)
    return min(int(found[1]), 1 << 36) if found else 4096


def _size(text: bytes) -> int:
    """Of the file that has this description."""
    memory = _memory_of(text)
    own = ram.map_size(memory) if b'"parent":{' in text else 0
    return _ram_at(len(text) + (own + 4095) // 4096 * 4096) + memory


def packed(text: bytes) -> bytes:
    head = struct.pack("<8sII32s", file.MAGIC, file.VERSION, len(text), hashlib.sha256(text).digest())
    assert len(head) == _HEAD
    return head + text


def _ram_at(length: int) -> int:
    return (_HEAD + length + 4095) // 4096 * 4096


def example(kind: str) -> Any:
    """A value of that type as JSON has it, by the annotations that are read from files too."""
    if kind.endswith(" | None"):
        return example(kind.removesuffix(" | None"))
    plain: dict[str, Any] = {"int": 1, "str": "x", "bool": False, "bytes": "00"}
    if kind in plain:
        return plain[kind]
    if kind.startswith("tuple["):
        inner = kind.removeprefix("tuple[").removesuffix("]")
        return [example(one) for one in ([inner[:-5]] if inner.endswith(", ...") else inner.split(", "))]
    record = resumed.RECORDS[kind.rpartition(".")[2]]
    return {name: example(of) for name, of in record.__annotations__.items()}


_TEXT = json.dumps(example("Content"), separators=(",", ":")).encode()
# Machines that can be, without devices and with some.
_PLAIN = {"memory": 512 << 20, "debug_exit": None, "channel": ""}
_NO_DEVICES = {name: [] for name, kind in resumed.Guest.__annotations__.items() if kind.startswith("tuple[")}
_BARE = example("Content") | {"parent": None, "guest": example("Guest") | _PLAIN | _NO_DEVICES}
_BARE["state"] |= {"vcpus": [], "virtio": [], "channel": None}
_ODD_NAMES = example("Content") | {
    "parent": None,
    "guest": example("Guest") | _PLAIN | _NO_DEVICES | {"disks": [example("DiskState") | {"path": "\x1b[7m"}]},
}
SEEDS = [
    b"\0" + _TEXT,
    b"\0" + json.dumps(_BARE | {"parent": example("Parent")}, separators=(",", ":")).encode(),
    b"\0" + json.dumps(_BARE, separators=(",", ":")).encode(),
    b"\0" + json.dumps(_BARE | {"guest": example("Guest") | _PLAIN}, separators=(",", ":")).encode(),
    b"\1" + packed(_TEXT).ljust(_ram_at(len(_TEXT)) + 4096, b"\0"),
    b"\0" + json.dumps(_ODD_NAMES, separators=(",", ":")).encode(),
    b"\0" + b"[" * 3000,
    b'\0{"corral":1e999}',
]
