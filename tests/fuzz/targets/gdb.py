"""What comes over a connection for gdb: each whole packet has one answer, and what is none ends the connection."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

from corral.debug.breakpoints import Point, Stop, Why
from corral.debug.debugger import GuestAddressError
from corral.debug.gdb.packets import LONGEST as LONGEST_PACKET
from corral.debug.gdb.packets import Closed, Packets
from corral.debug.gdb.stub import Detached, GdbStub, Killed
from corral.errors import ConfigError
from corral.native import CData, ffi

LONGEST = 4096
CONCERNED = ("corral.debug.gdb.packets", "corral.debug.gdb.stub", "corral.debug.gdb.registers")

_READABLE, _NEVER = os.eventfd(1), os.eventfd(0)
_SAID = re.compile(rb"(?:[+-]|\$[^$#]*#[0-9a-f]{2})*")
_ANSWER = re.compile(rb"\$[^$#]*#")
_RAM = 1 << 16


class Connection:
    """A socket that gives an input, piece by piece, and takes all that is sent."""

    def __init__(self, data: bytes) -> None:
        self._data, self.said = data, b""

    def setblocking(self, on: bool) -> None: ...

    def fileno(self) -> int:
        return _READABLE

    def recv(self, size: int) -> bytes:
        size = min(size, 1 + self._data[0] % 64) if self._data else 0
        data, self._data = self._data[:size], self._data[size:]
        return data

    def send(self, data: memoryview) -> int:
        self.said += data
        return len(data)


class Vcpu:
    def held(self, read: object) -> int:
        return 0

    def get_regs(self) -> CData:
        return ffi.new("struct kvm_regs *", {"rip": 0x1000})

    def get_sregs(self) -> CData:
        return ffi.new("struct kvm_sregs *")

    def get_xsave(self) -> bytearray:
        return bytearray(4096)

    def get_msr(self, number: int) -> int:
        return 7

    def set_regs(self, regs: CData) -> None: ...
    def set_sregs(self, sregs: CData) -> None: ...
    def set_xsave(self, xsave: bytearray) -> None: ...


class Machine:
    def __init__(self) -> None:
        self.vcpus = [Vcpu(), Vcpu()]
        self.memory = None
        self.threads: list[Any] = []


class Event:
    def watch(self) -> int:
        return os.dup(_NEVER)


class Debugger:
    """A guest with 64 KiB of RAM, whose vCPUs stop as soon as they run."""

    def __init__(self) -> None:
        self.machine, self.event = Machine(), Event()
        self.points: list[Point] = []
        self._looks: Iterator[bool] = iter(())

    def _require(self, address: int, length: int) -> None:
        if address < 0 or length < 0 or address + length > _RAM:
            raise GuestAddressError(f"{address:#x} is not mapped to the guest's RAM")

    def read(self, address: int, length: int, vcpu: int) -> bytes:
        self._require(address, length)
        return bytes(length)

    def write(self, address: int, data: bytes, vcpu: int) -> None:
        self._require(address, len(data))

    def add(self, kind: Any, address: int, size: int = 1) -> Point:
        self._require(address, size)
        if len(self.points) > 8:
            raise ConfigError("no debug register is left")
        self.points.append(Point(kind, address, size, None))
        return self.points[-1]

    def remove(self, point: Point) -> None:
        self.points.remove(point)

    def go(self) -> None:
        self._looks = iter((False, True))

    def begin_step(self, vcpu: int) -> None:
        assert 0 <= vcpu < len(self.machine.vcpus)
        self.go()

    def poll(self, timeout: float) -> bool:
        return next(self._looks, True)

    def interrupt(self) -> None: ...

    def finish(self) -> Stop:
        return Stop(Why.PAUSE)


def one(data: bytes) -> None:
    connection = Connection(data)
    try:
        GdbStub(Debugger(), Packets(connection, _NEVER)).serve()  # type: ignore[arg-type]
    except (Closed, Detached, Killed):
        pass
    assert _SAID.fullmatch(connection.said), connection.said[-200:]
    for answer in _ANSWER.findall(connection.said):
        assert len(answer) <= LONGEST_PACKET + 2


def packets(*contents: bytes) -> bytes:
    return b"".join(b"$%s#%02x" % (content, sum(content) & 0xFF) for content in contents)


SEEDS = [
    packets(b"qSupported:multiprocess+;swbreak+", b"QStartNoAckMode") + b"+",
    packets(b"?", b"g", b"p0", b"P0=0100000000000000", b"G" + b"00" * 64, b"qC", b"qfThreadInfo", b"qsThreadInfo"),
    packets(b"m1000,10", b"M1000,2:abcd", b"X1000,2:}]x", b"Hg2", b"Hc-1", b"T2", b"qThreadExtraInfo,1", b"qAttached"),
    packets(b"Z0,1000,1", b"Z1,1000,1", b"Z2,1000,8", b"Z4,1000,4", b"z0,1000,1", b"z2,1000,8", b"vCont?"),
    packets(b"vCont;c", b"vCont;s:1;c", b"c", b"s", b"C05", b"S05", b"vMustReplyEmpty", b"D"),
    packets(b"qXfer:features:read:target.xml:0,ffb", b"qXfer:features:read:target.xml:ffb,ffb", b"vKill;1"),
    b"\x03" + packets(b"c") + b"\x03" + packets(b"k") + b"-+",
    b"GET / HTTP/1.1\r\n\r\n",
]
