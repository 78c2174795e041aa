"""Interrupts from outside, by the ways that real ones take."""

from __future__ import annotations

from corral.arch.x86_64 import layout
from corral.errors import ConfigError
from corral.native import ffi, ioctl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.kvm.vm import Vm
    from corral.machine import Machine

NMI = 4 << 8  # delivery mode (SDM 3A, 11.11.2)
LINES = 24  # of the IOAPIC


def inject(machine: Machine, vector: int | None, line: int | None, nmi: bool, vcpu: int) -> None:
    """One of vector, line and NMI, as ScriptedMachine.inject() has it. Raises ConfigError."""
    if (vector is not None) + (line is not None) + nmi != 1:
        raise ConfigError("inject() takes one of vector=, line= and nmi=True")
    if line is not None:
        edge(machine.vm, line)
    else:
        message(machine.vm, len(machine.vcpus), vcpu, vector)


def edge(vm: Vm, line: int) -> None:
    """Raises and lowers an interrupt line."""
    if not 0 <= line < LINES:
        raise ConfigError(f"there is no interrupt line {line}; 0 to {LINES - 1} are there")
    vm.set_irq_line(line, True)
    vm.set_irq_line(line, False)


def message(vm: Vm, vcpus: int, vcpu: int, vector: int | None) -> None:
    """A vector, or without one an NMI, to one local APIC; also while it runs."""
    if not 0 <= vcpu < vcpus:
        raise ConfigError(f"there is no vCPU {vcpu}; there are {vcpus}")
    if vector is not None and not 16 <= vector <= 255:
        raise ConfigError(f"{vector} is no vector that an APIC delivers; 16 to 255 are")
    data = NMI if vector is None else vector
    msi = ffi.new("struct kvm_msi *", {"address_lo": layout.LOCAL_APIC | vcpu << 12, "data": data})
    ioctl(vm.fd, "KVM_SIGNAL_MSI", msi)
