"""Registers of a vCPU that is paused or over, by name: `vm.regs.rip`, `vm.regs.cs.base`, `vm.regs.msr[0x10]`."""

from __future__ import annotations

from corral.errors import ConfigError
from corral.native import CData
from corral.toolkit.page_walk import EFER_LMA
from corral.vcpu import State

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from corral.kvm.vcpu import Vcpu
    from corral.vcpu import VcpuThread

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
    that KVM refuses KvmError."""

    def __init__(self, thread: VcpuThread, free: Callable[[], bool]) -> None:
        object.__setattr__(self, "_thread", thread)
        object.__setattr__(self, "_free", free)

    _thread: VcpuThread
    _free: Callable[[], bool]

    def vcpu(self) -> Vcpu:
        if self._free() and self._thread.state not in (State.STOPPED, State.FAILED):
            raise ConfigError(f"vCPU {self._thread.index} runs: its registers are there after pause()")
        return self._thread.vcpu

    def __dir__(self) -> list[str]:
        return [*GENERAL, *CONTROL, *SEGMENTS, "msr", "bits"]

    def __getattr__(self, name: str) -> Any:
        if name in GENERAL:
            return int(getattr(self.vcpu().get_regs(), name))
        if name in CONTROL:
            return int(getattr(self.vcpu().get_sregs(), name))
        if name in SEGMENTS:
            return Segment(self, name)
        raise _unknown(name, self)

    def __setattr__(self, name: str, value: int) -> None:
        vcpu = self.vcpu()
        if name in GENERAL:
            regs = vcpu.get_regs()
            _set(regs, name, value)
            vcpu.set_regs(regs)
        elif name in CONTROL:
            sregs = vcpu.get_sregs()
            _set(sregs, name, value)
            vcpu.set_sregs(sregs)
        else:
            raise _unknown(name, self)

    @property
    def bits(self) -> int:
        """Of the code that it executes: 16, 32 or 64."""
        return code_bits(self.vcpu().get_sregs())

    @property
    def msr(self) -> Msrs:
        return Msrs(self)

    def values(self) -> dict[str, int]:
        """All general and control registers, from one moment."""
        vcpu = self.vcpu()
        regs, sregs = vcpu.get_regs(), vcpu.get_sregs()
        return {name: getattr(regs, name) for name in GENERAL} | {name: getattr(sregs, name) for name in CONTROL}

    def __repr__(self) -> str:
        return " ".join(f"{name}={value:#x}" for name, value in self.values().items())


class Segment:
    """`base`, `limit`, and except for gdt and idt `selector`, `type`, `present`, `dpl`, `db`, `s`, `l`, `g`, `avl`,
    `unusable`."""

    def __init__(self, registers: Registers, name: str) -> None:
        object.__setattr__(self, "_registers", registers)
        object.__setattr__(self, "_name", name)

    _registers: Registers
    _name: str

    def __getattr__(self, name: str) -> int:
        return int(getattr(getattr(self._registers.vcpu().get_sregs(), self._name), name))

    def __setattr__(self, name: str, value: int) -> None:
        vcpu = self._registers.vcpu()
        sregs = vcpu.get_sregs()
        _set(getattr(sregs, self._name), name, value)
        vcpu.set_sregs(sregs)


class Msrs:
    """By number, or by one of the names in MSRS."""

    def __init__(self, registers: Registers) -> None:
        self._registers = registers

    def __getitem__(self, which: int | str) -> int:
        return self._registers.vcpu().get_msr(_msr(which))

    def __setitem__(self, which: int | str, value: int) -> None:
        self._registers.vcpu().set_msrs({_msr(which): value})


def code_bits(sregs: CData) -> int:
    """16, 32 or 64, by a struct kvm_sregs."""
    if sregs.cs.l and sregs.efer & EFER_LMA:
        return 64
    return 32 if sregs.cr0 & 1 and sregs.cs.db else 16


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
