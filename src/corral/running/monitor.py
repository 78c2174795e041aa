"""What tools ask QEMU's monitor for, by QMP's human-monitor-command: registers and memory, in QEMU's own form."""

from __future__ import annotations

import re

from corral import __version__
from corral.arch.x86_64 import page_walk
from corral.introspect.subject import tables
from corral.memory import GuestMemoryError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.introspect.subject import Subject, Tables, Values

MOST = 1 << 14  # bytes of memory in an answer
_LOOK = re.compile(r"(xp?)(?:\s*/\s*([0-9]{0,6})([a-z]{0,3}))?\s+(0x[0-9a-fA-F]{1,16}|[0-9]{1,20})\Z")
_SIZES = {"b": 1, "h": 2, "w": 4, "g": 8}
_LINE = 16  # bytes
_GENERAL = (
    *("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp"),
    *(f"r{number}" for number in range(8, 16)),
)


def answer(seen: Subject, line: str, vcpu: int, status: str) -> str:
    """To a line of the monitor; what is not known is told in the answer, as QEMU does."""
    words = line.split()
    if vcpu >= len(seen.vcpus):
        return f"invalid CPU index {vcpu}\r\n"
    if words[:2] == ["info", "registers"]:
        numbers = range(len(seen.vcpus)) if words[2:] == ["-a"] else [vcpu]
        return "".join(f"\r\nCPU#{number}\r\n{_registers(seen.vcpus[number])}" for number in numbers)
    if words == ["info", "status"]:
        return f"VM status: {status}\r\n"
    if words == ["info", "version"]:
        return f"Corral {__version__}\r\n"
    if words[:2] == ["info", "mtree"]:
        return _memory_tree(seen)
    if words[:1] == ["gpa2hva"]:
        return "gpa2hva is not told: the guest's process is in a jail, into which no other can look\r\n"
    if look := _LOOK.match(line.strip()):
        return _memory(seen, vcpu, look)
    return f"unknown command: '{(words or [''])[0][:40]}'\r\n"


def _registers(vcpu: Values) -> str:
    def line(*names: str) -> str:
        return " ".join(f"{name.upper():3}={vcpu[name]:016x}" for name in names) + "\r\n"

    text = "".join(line(*_GENERAL[at : at + 4]) for at in range(0, len(_GENERAL), 4))
    text += f"RIP={vcpu['rip']:016x} RFL={vcpu['rflags']:08x} CPL={vcpu['cs'] & 3}\r\n"
    for name in ("es", "cs", "ss", "ds", "fs", "gs"):
        text += f"{name.upper():3}={vcpu[name]:04x} {vcpu[f'{name}_base']:016x}\r\n"
    text += "".join(f"{name.upper():3}=     {vcpu[f'{name}_base']:016x}\r\n" for name in ("gdt", "idt"))
    text += f"CR0={vcpu['cr0']:08x} CR2={vcpu['cr2']:016x} CR3={vcpu['cr3']:016x} CR4={vcpu['cr4']:08x}\r\n"
    return text + f"EFER={vcpu['efer']:016x}\r\n"


def _memory_tree(seen: Subject) -> str:
    lines = ["FlatView #0", ' AS "memory", root: system', " Root memory region: system"]
    for start, size in seen.memory.regions:
        lines.append(f"  {start:016x}-{start + size - 1:016x} (prio 0, ram): ram")
    return "".join(f"{line}\r\n" for line in [*lines, ""])


def _memory(seen: Subject, vcpu: int, look: re.Match[str]) -> str:
    count, letters = int(look[2] or 1), look[3] or "xw"
    size = next((_SIZES[letter] for letter in letters if letter in _SIZES), 4)
    address = int(look[4], 0)
    if set(letters) - set(_SIZES) - {"x"}:
        return "only hexadecimal numbers of a size b, h, w or g are told\r\n"
    if count * size > MOST:
        return f"at most {MOST} bytes of memory are told at a time\r\n"
    physical = look[1] == "xp"
    data = _read(seen, address, count * size, None if physical else tables(seen.vcpus[vcpu]))
    text = ""
    for at in range(0, count * size, _LINE):
        values = [
            f" 0x{int.from_bytes(data[one : one + size], 'little'):0{size * 2}x}"
            for one in range(at, min(at + _LINE, count * size), size)
            if one + size <= len(data)
        ]
        text += f"{address + at:016x}:{''.join(values)}"
        if at + _LINE > len(data) and len(data) < count * size:
            return f"{text} Cannot access memory\r\n"
        text += "\r\n"
    return text


def _read(seen: Subject, address: int, length: int, by: Tables | None) -> bytes:
    if by is not None:
        return page_walk.read(seen.memory, by, address, length)
    try:
        return seen.memory.read(address, length)
    except GuestMemoryError:
        return b""
