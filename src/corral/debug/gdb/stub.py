"""gdb's remote protocol over a Debugger: one connected gdb, its commands and their answers (gdb manual, annex E)."""

from __future__ import annotations

import os

from corral.core.waiting import READABLE, wait_for
from corral.debug.breakpoints import Point, PointKind, Stop, Why
from corral.debug.debugger import GuestAddressError
from corral.debug.gdb import registers
from corral.debug.gdb.packets import INTERRUPT, LONGEST, Closed, escape
from corral.debug.guest_registers import get_sregs
from corral.errors import ConfigError, KvmError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.debug.debugger import Debugger
    from corral.debug.gdb.packets import Packets

_FEATURES = f"PacketSize={LONGEST:x};qXfer:features:read+;QStartNoAckMode+;vContSupported+;swbreak+;hwbreak+"
_KINDS = {"0": PointKind.SOFTWARE, "1": PointKind.HARDWARE, "2": PointKind.WRITE, "4": PointKind.ACCESS}
_MEMORY_AT_ONCE = LONGEST // 2 - 64  # bytes, as hexadecimal digits
SIGINT, SIGTRAP, SIGABRT = 2, 5, 6


class Killed(Exception):
    """gdb wants the guest to end."""


class Detached(Exception):
    """gdb leaves the guest running."""


class GdbStub:
    """serve() is the whole life of a connection; the guest is stopped when it begins."""

    def __init__(self, debugger: Debugger, packets: Packets) -> None:
        self._debugger = debugger
        self._packets = packets
        self._threads = len(debugger.machine.vcpus)
        self._general = 0  # the vCPU that registers and memory are asked of
        self._points: dict[tuple[str, int, int], Point] = {}
        self._last = Stop(Why.PAUSE)
        self._xml = registers.target_xml().encode()

    def serve(self) -> None:
        """Raises Closed, Killed, Detached. What the VMM or a device of ours fails with passes too."""
        while True:
            packet = self._packets.read()
            if packet == INTERRUPT:
                continue  # the guest is stopped already
            try:
                answer = self._answer(packet)
            except GuestAddressError:
                answer = b"E0e"  # EFAULT
            except (ConfigError, KvmError, ValueError, IndexError, OverflowError, KeyError, UnicodeDecodeError):
                answer = b"E16"  # EINVAL
            self._packets.write(answer)
            if packet == b"QStartNoAckMode":
                self._packets.acknowledges = False

    def _answer(self, packet: bytes) -> bytes:
        if packet.startswith(b"X"):
            return self._write_binary(packet[1:])
        text = packet.decode("ascii")
        command, rest = text[:1], text[1:]
        simple = {"g": self._read_all, "G": self._write_all, "p": self._read_one, "P": self._write_one}
        simple |= {"m": self._read_memory, "M": self._write_memory, "Z": self._insert, "z": self._remove}
        simple |= {"H": self._select, "T": self._is_alive, "q": self._query, "v": self._verbose}
        simple |= {"c": self._continue, "s": self._step, "C": self._continue, "S": self._step}
        if command in simple:
            return simple[command](rest).encode("latin-1")
        if command == "?":
            return self._reply(self._last)
        if text == "QStartNoAckMode":
            return b"OK"
        if command == "D":
            self._packets.write(b"OK")
            raise Detached
        if command == "k":
            raise Killed
        return b""

    # Questions about the target.

    def _query(self, rest: str) -> str:
        name, _, argument = rest.partition(":")
        if name == "Supported":
            return _FEATURES
        if name == "Attached":
            return "1"
        if name == "C":
            return f"QC{self._general + 1:x}"
        if name == "fThreadInfo":
            return "m" + ",".join(f"{number:x}" for number in range(1, self._threads + 1))
        if name == "sThreadInfo":
            return "l"
        if name.startswith("ThreadExtraInfo,"):
            vcpu = self._vcpu(name.partition(",")[2])
            return f"vCPU {vcpu} CPL {get_sregs(self._debugger.machine.vcpus[vcpu]).cs.dpl}".encode().hex()
        if name == "Xfer" and argument.startswith("features:read:target.xml:"):
            at, length = (int(number, 16) for number in argument.rpartition(":")[2].split(","))
            part = self._xml[at : at + min(length, LONGEST // 2)]
            more = "m" if at + len(part) < len(self._xml) else "l"
            return more + escape(part).decode("latin-1")
        return ""

    def _is_alive(self, rest: str) -> str:
        self._vcpu(rest)
        return "OK"

    def _select(self, rest: str) -> str:
        """Hg: of registers and memory. Hc is what vCont replaces; c and s take the same vCPU."""
        if rest[1:] in ("0", "-1"):
            return "OK"
        self._general = self._vcpu(rest[1:])
        return "OK"

    def _vcpu(self, text: str) -> int:
        vcpu = int(text, 16) - 1
        if not 0 <= vcpu < self._threads:
            raise ValueError(f"no thread {text}")
        return vcpu

    # Registers and memory.

    def _state(self) -> registers.GdbState:
        machine = self._debugger.machine
        return registers.GdbState(machine.vcpus[self._general], machine.memory)

    def _read_all(self, rest: str) -> str:
        state = self._state()
        return "".join(registers.read(state, number) for number in range(len(registers.REGISTERS)))

    def _write_all(self, rest: str) -> str:
        state, at, parts = self._state(), 0, set()
        for register in registers.REGISTERS:
            digits = rest[at : at + 2 * register.size]
            at += 2 * register.size
            if register.put and len(digits) == 2 * register.size and "x" not in digits:
                value = int.from_bytes(bytes.fromhex(digits), "little")
                if value != register.get(state) & (1 << 8 * register.size) - 1:
                    register.put(state, value)
                    parts.add(register.part)
        for part in parts:
            state.save(part)
        return "OK"

    def _read_one(self, rest: str) -> str:
        return registers.read(self._state(), int(rest, 16))

    def _write_one(self, rest: str) -> str:
        number, _, digits = rest.partition("=")
        register = registers.REGISTERS[int(number, 16)]
        data = bytes.fromhex(digits)
        if register.put is None or len(data) != register.size:
            raise ValueError(f"{register.name} cannot be written")
        state = self._state()
        register.put(state, int.from_bytes(data, "little"))
        state.save(register.part)
        return "OK"

    def _read_memory(self, rest: str) -> str:
        address, length = (int(number, 16) for number in rest.split(","))
        return self._debugger.read(address, min(length, _MEMORY_AT_ONCE), self._general).hex()

    def _write_memory(self, rest: str) -> str:
        where, _, digits = rest.partition(":")
        address, length = (int(number, 16) for number in where.split(","))
        data = bytes.fromhex(digits)
        if len(data) != length:
            raise ValueError("not as many bytes as told")
        self._debugger.write(address, data, self._general)
        return "OK"

    def _write_binary(self, packet: bytes) -> bytes:
        where, _, data = packet.partition(b":")
        address, length = (int(number, 16) for number in where.split(b","))
        if len(data) != length:
            raise ValueError("not as many bytes as told")
        self._debugger.write(address, data, self._general)
        return b"OK"

    # Points.

    def _insert(self, rest: str) -> str:
        key = self._key(rest)
        kind, address, size = key
        if kind not in _KINDS:
            return ""
        if key not in self._points:
            self._points[key] = self._debugger.add(_KINDS[kind], address, size)
        return "OK"

    def _remove(self, rest: str) -> str:
        point = self._points.pop(self._key(rest), None)
        if point:
            self._debugger.remove(point)
        return "OK"

    def _key(self, rest: str) -> tuple[str, int, int]:
        kind, address, size = rest.partition(";")[0].split(",")
        return kind, int(address, 16), int(size, 16)

    # Running.

    def _verbose(self, rest: str) -> str:
        if rest == "Cont?":
            return "vCont;c;C;s;S"
        if rest.startswith("Kill"):
            self._packets.write(b"OK")
            raise Killed
        if not rest.startswith("Cont;"):
            return ""
        for action in rest.removeprefix("Cont;").split(";"):
            what, _, thread = action.partition(":")
            if what[:1] in ("s", "S"):
                return self._step_of(self._vcpu(thread) if thread not in ("", "-1", "0") else self._general)
        return self._continue("")

    def _continue(self, rest: str) -> str:
        """Until a point, Ctrl-C, or the guest's end. An address to go on from is not taken: no gdb sends one."""
        self._debugger.go()
        return self._wait()

    def _step(self, rest: str) -> str:
        return self._step_of(self._general)

    def _step_of(self, vcpu: int) -> str:
        """That vCPU alone; the others stay where they are."""
        self._debugger.begin_step(vcpu)
        return self._wait()

    def _wait(self) -> str:
        """Until something stops the guest; gdb's Ctrl-C does."""
        stopped = self._debugger.event.watch()
        try:
            while not self._debugger.poll(0):
                if self._packets.waiting or self._packets.fileno() in wait_for(
                    {stopped: READABLE, self._packets.fileno(): READABLE}
                ):
                    self._listen()
        finally:
            os.close(stopped)
        self._last = self._debugger.finish()
        if self._last.why is not Why.ENDED:
            self._general = self._last.vcpu
        return self._reply(self._last).decode()

    def _listen(self) -> None:
        """To gdb, while the guest runs. Raises Closed, and then the guest is stopped."""
        try:
            packet = self._packets.read()
        except Closed:
            self._debugger.interrupt()
            self._debugger.finish()
            raise
        if packet == INTERRUPT:
            self._debugger.interrupt()

    def _reply(self, stop: Stop) -> bytes:
        if stop.why is Why.ENDED:
            end = self._debugger.machine.threads[stop.vcpu].end
            return b"W00" if end is None or end.cause.clean else b"X%02x" % SIGABRT
        signal = SIGINT if stop.why is Why.PAUSE else SIGTRAP
        words = f"T{signal:02x}thread:{stop.vcpu + 1:x};"
        if stop.point:
            names = {PointKind.SOFTWARE: "swbreak:", PointKind.HARDWARE: "hwbreak:"}
            names |= {
                PointKind.WRITE: f"watch:{stop.point.address:x}",
                PointKind.ACCESS: f"awatch:{stop.point.address:x}",
            }
            words += names[stop.point.kind] + ";"
        return words.encode()
