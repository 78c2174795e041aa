"""What a VMM in the jail tells its clerk of a dead guest, and the guest's memory: there is a report that does nothing
to a terminal, or the message is refused."""

from __future__ import annotations

import os

from corral.core.exits import Cause, Outcome, Over
from corral.debug.guest_registers import NativeMode
from corral.debug.report import full, screen, wire
from corral.debug.report.remains import Remains, VcpuRemains
from corral.jail import message
from corral.jail.message import BadMessage
from corral.memory import GuestMemoryError
from corral.native import ffi
from corral.observe.exit_trace import TracedExit
from corral.printable import printable

LONGEST = 16384
CONCERNED = (
    *("corral.jail.message", "corral.debug.report.wire", "corral.debug.report.full", "corral.debug.report.screen"),
    *("corral.debug.report.parts", "corral.debug.report.cause", "corral.debug.report.guest"),
    *("corral.arch.x86_64.page_walk", "corral.debug.disassembly"),
)

_RAM = 1 << 14  # bytes; the end of an input is the first of it
_questions, _to = os.pipe()


class Memory:
    """A guest's RAM, all of it at 0."""

    def __init__(self, data: bytes) -> None:
        self._data = data.ljust(_RAM, b"\0")

    def read(self, gpa: int, length: int) -> bytes:
        self.offset(gpa, length)
        return self._data[gpa : gpa + length]

    def offset(self, gpa: int, length: int) -> int:
        if gpa < 0 or length < 0 or gpa + length > _RAM or length > wire.MOST_READ:
            raise GuestMemoryError("not RAM")
        return gpa


def one(data: bytes) -> None:
    """A message as it is sent, and behind it RAM."""
    length = int.from_bytes(data[:4], "little")
    if length > LONGEST:
        length = len(data)
    sent, ram = data[: 4 + length], data[4 + length :]
    if len(sent) < 4 + length:  # the reader would wait for more
        sent = max(0, len(sent) - 4).to_bytes(4, "little") + sent[4:]
    os.write(_to, sent)
    try:
        headline, *fields = message.receive(_questions) or [b""]
        got = wire.unpacked(fields, "/nowhere", "quiet", Memory(ram))
        text = screen.text(got.remains, got.outcome, got.console, got.shown)
        first = headline.decode("utf-8", "replace") or text.partition("\n")[0]
        whole = full.text(got.remains, first, got.outcome.cause, got.outcome.vcpu, got.console, got.exits)
        for said in (text, whole):
            assert printable(said, keep="\n\t") == said, "the report does something to a terminal"
        assert len(whole) < 1 << 20
    except BadMessage:
        drain()


def drain() -> None:
    """What of a message was not read."""
    os.set_blocking(_questions, False)
    try:
        while os.read(_questions, 1 << 16):
            pass
    except BlockingIOError:
        pass
    os.set_blocking(_questions, True)


_PAGED = {"cr0": 0x80000001, "cr4": 0x20, "efer": 0x500, "cr3": 0x1000, "cs": {"l": 1}}
_FLAT = {"cr0": 1, "cs": {"db": 1}}


def _seed(sregs: dict[str, object], vcpus: int, native: bool, exits: int, ram: bytes) -> bytes:
    mode = NativeMode(False, False, 0x100) if native else None
    of_vcpus = tuple(
        VcpuRemains(
            ffi.new("struct kvm_regs *", {"rip": 0x20, "rsp": 0x200, "rbp": 0x210, "rflags": 2}),
            ffi.new("struct kvm_sregs *", sregs),
            ffi.new("struct kvm_vcpu_events *"),
            mode,
        )
        for _ in range(vcpus)
    )
    remains = Remains("/nowhere", "quiet", of_vcpus, Memory(b""))  # type: ignore[arg-type]
    some = [TracedExit(0, n, "IO", "C", 0x1000, 0, 1, 2, 0x3F8, 0x41, 1, 1, True) for n in range(exits)]
    outcome = Outcome(Over.ENDED, Cause.TRIPLE_FAULT, "a detail\x1b[2J\0", 0)
    fields = [b"", *wire.packed(remains, outcome, b"Kernel panic - not syncing: x\n", False, some)]
    body = b"".join(len(field).to_bytes(4, "little") + field for field in fields)
    return len(body).to_bytes(4, "little") + body + ram


_TABLE = bytes(4096) + (0x1007).to_bytes(8, "little")  # page tables that are each other's, and the code
SEEDS = [
    _seed(_FLAT, 1, False, 0, b"\x90" * 32 + b"\x0f\x0b\xe8\0\0\0\0" * 100),
    _seed(_PAGED, 2, True, 3, _TABLE),
    _seed(_PAGED, 1, False, 1, b""),
    _seed({}, 1, False, 0, b"\xcd\x10" * 300),
]
