"""Registers of a vCPU that is paused or over, by name: `vm.regs.rip`, `vm.regs.cs.base`, `vm.regs.msr[0x10]`."""

from __future__ import annotations

from corral.core.vcpu_thread import State
from corral.debug import guest_registers
from corral.errors import ClosedError, ConfigError
from corral.native import CData

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    from corral.core.vcpu_thread import VcpuThread
    from corral.kvm.vcpu import Vcpu
    from corral.memory import GuestMemory

    class HasRegisters(Protocol):
        """A machine (machine.py), as far as its registers need it."""

        threads: list[VcpuThread]
        memory: GuestMemory
        last_registers: list[tuple[CData, CData]]

        @property
        def running(self) -> bool: ...


GENERAL = (
    *("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rbp"),
    *(f"r{number}" for number in range(8, 16)),
    *("rip", "rflags"),
)
CONTROL = ("cr0", "cr2", "cr3", "cr4", "cr8", "efer", "apic_base")
SEGMENTS = ("cs", "ds", "es", "fs", "gs", "ss", "tr", "ldt", "gdt", "idt")
MSRS = {
    "star": 0xC0000081,
    "lstar": 0xC0000082,
    "cstar": 0xC0000083,
    "fmask": 0xC0000084,
    "fs_base": 0xC0000100,
    "gs_base": 0xC0000101,
    "kernel_gs_base": 0xC0000102,
    "tsc_aux": 0xC0000103,
    "tsc": 0x10,
}


class Registers:
    """Each access is a call to KVM. An unknown name raises AttributeError, a vCPU that runs ConfigError, and a value
    that KVM refuses KvmError. Of a machine that is closed the last general and control registers and segments can be
    read still; all else raises ClosedError."""

    def __init__(self, machine: HasRegisters, vcpu: int) -> None:
        object.__setattr__(self, "_machine", machine)
        object.__setattr__(self, "_index", vcpu)

    _machine: HasRegisters
    _index: int

    def vcpu(self) -> Vcpu:
        thread = self._machine.threads[self._index]
        if self._machine.running and thread.state not in (State.STOPPED, State.FAILED):
            raise ConfigError(f"vCPU {self._index} runs: its registers are there after pause()")
        return thread.vcpu

    def regs(self) -> CData:
        """struct kvm_regs: the general registers."""
        try:
            return guest_registers.get_regs(self.vcpu(), self._machine.memory)
        except ClosedError:
            return self._last()[0]

    def sregs(self) -> CData:
        """struct kvm_sregs: control registers and segments."""
        try:
            return guest_registers.get_sregs(self.vcpu())
        except ClosedError:
            return self._last()[1]

    def _last(self) -> tuple[CData, CData]:
        last = self._machine.last_registers
        if not last:
            raise ClosedError("this machine is closed")
        return last[self._index]

    def __dir__(self) -> list[str]:
        return [*GENERAL, *CONTROL, *SEGMENTS, "msr", "bits"]

    def __getattr__(self, name: str) -> Any:
        if name in GENERAL:
            return int(getattr(self.regs(), name))
        if name in CONTROL:
            return int(getattr(self.sregs(), name))
        if name in SEGMENTS:
            return SegmentRegister(self, name)
        raise _unknown(name, self)

    def __setattr__(self, name: str, value: int) -> None:
        vcpu, memory = self.vcpu(), self._machine.memory
        if name in GENERAL:
            regs = guest_registers.get_regs(vcpu, memory)
            _set(regs, name, value)
            guest_registers.set_regs(vcpu, memory, regs)
        elif name in CONTROL:
            sregs = guest_registers.get_sregs(vcpu)
            _set(sregs, name, value)
            guest_registers.set_sregs(vcpu, sregs)
        else:
            raise _unknown(name, self)

    @property
    def bits(self) -> int:
        """Of the code that it executes: 16, 32 or 64."""
        return guest_registers.code_bits(self.sregs())

    @property
    def msr(self) -> Msrs:
        return Msrs(self)

    def values(self) -> dict[str, int]:
        """All general and control registers, from one moment."""
        regs, sregs = self.regs(), self.sregs()
        return {name: getattr(regs, name) for name in GENERAL} | {name: getattr(sregs, name) for name in CONTROL}

    def __repr__(self) -> str:
        return " ".join(f"{name}={value:#x}" for name, value in self.values().items())


class SegmentRegister:
    """`base`, `limit`, and except for gdt and idt `selector`, `type`, `present`, `dpl`, `db`, `s`, `l`, `g`, `avl`,
    `unusable`."""

    def __init__(self, registers: Registers, name: str) -> None:
        object.__setattr__(self, "_registers", registers)
        object.__setattr__(self, "_name", name)

    _registers: Registers
    _name: str

    def __repr__(self) -> str:
        segment = getattr(self._registers.sregs(), self._name)
        fields = ("base", "limit") if self._name in ("gdt", "idt") else ("selector", "base", "limit", "type", "dpl")
        return f"<{self._name} {' '.join(f'{field}={getattr(segment, field):#x}' for field in fields)}>"

    def __getattr__(self, name: str) -> int:
        return int(getattr(getattr(self._registers.sregs(), self._name), name))

    def __setattr__(self, name: str, value: int) -> None:
        vcpu = self._registers.vcpu()
        sregs = guest_registers.get_sregs(vcpu)
        _set(getattr(sregs, self._name), name, value)
        guest_registers.set_sregs(vcpu, sregs)


class Msrs:
    """By number, or by one of the names in MSRS."""

    def __init__(self, registers: Registers) -> None:
        self._registers = registers

    def __repr__(self) -> str:
        return f"<MSRs by number, or {', '.join(MSRS)}>"

    def __getitem__(self, which: int | str) -> int:
        return self._registers.vcpu().get_msr(_msr(which))

    def __setitem__(self, which: int | str, value: int) -> None:
        self._registers.vcpu().set_msrs({_msr(which): value})


def require_vcpu(vcpu: int, count: int) -> None:
    """Raises ConfigError for a vCPU that a machine with so many has not."""
    if not 0 <= vcpu < count:
        most = f"0 to {count - 1}" if count > 1 else "0 alone"
        raise ConfigError(f"there is no vCPU {vcpu}: this machine has {most}")


def _msr(which: int | str) -> int:
    if isinstance(which, int):
        return which
    if which not in MSRS:
        raise ConfigError(f"there is no MSR {which!r} by name; there are {', '.join(MSRS)}, and all by number")
    return MSRS[which]


def _set(structure: CData, name: str, value: int) -> None:
    try:
        setattr(structure, name, value)
    except OverflowError:
        raise ConfigError(f"{value:#x} does not fit into {name}") from None


def _unknown(name: str, registers: Registers) -> AttributeError:
    return AttributeError(f"there is no register {name!r}; there are {', '.join(registers.__dir__())}")
