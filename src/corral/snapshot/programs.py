"""A machine whose vCPUs have run programs alone since it was in a state, and goes back to it: then its privileged
registers are as they were, and need not be set."""

from __future__ import annotations

from corral.errors import CorralError
from corral.kvm.stats import Statistics
from corral.kvm.system import Kind
from corral.kvm.vcpu_state import RUNNABLE, TSC_DEADLINE
from corral.native import check, ffi, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.kvm.vcpu import Vcpu
    from corral.kvm.vcpu_state import VcpuState
    from corral.native import CData
    from corral.snapshot.machine_state import MachineState
    from corral.snapshot.parts import Parts

_PARTS = ("regs", "sregs", "events", "xsave", "lapic")


class Programs:
    """Of a machine. Where KVM counts what it emulates, which a pagetable KVM does with an interpreted kernel."""

    def __init__(self, machine: Parts) -> None:
        self._vcpus = machine.vcpus
        self._counts: list[CData] = []
        self._statistics: list[Statistics] = []
        self._state: MachineState | None = None  # whose privileged part the machine has
        self._native: list[CData] = []  # what else it has
        if machine.system.kind is not Kind.PAGETABLE:
            return
        try:
            self._counts = [self._count_of(vcpu) for vcpu in machine.vcpus]
        except CorralError:  # this KVM keeps no such count
            self._counts = []

    def _count_of(self, vcpu: Vcpu) -> CData:
        statistics = Statistics(vcpu.fd)
        self._statistics.append(statistics)
        return ffi.new("struct corral_kernel_count *", {"fd": statistics.fd, "offset": statistics.offset(_EMULATED)})

    def close(self) -> None:
        for one in self._statistics:
            one.close()

    def is_in(self, state: MachineState) -> None:
        """The machine is in this state now."""
        self._state = state if self._counts and all(map(_is_program, state.vcpus)) else None
        if self._state is None:
            return
        self._native = [_native(vcpu) for vcpu in state.vcpus]
        for vcpu, count in zip(self._vcpus, self._counts, strict=True):
            check("statistics", vcpu.held(lib.corral_only_program_ran, count))

    def go_back(self, state: MachineState) -> bool:
        """Puts the vCPUs back, if they are in that state but for what programs change. Raises KvmError."""
        if state is not self._state:
            return False
        pairs = list(zip(self._vcpus, self._counts, strict=True))
        looks = [check("statistics", vcpu.held(lib.corral_only_program_ran, count)) for vcpu, count in pairs]
        if not all(looks):
            self._state = None
            return False
        for vcpu, native in zip(self._vcpus, self._native, strict=True):
            check("KVM_RUN", vcpu.held(lib.corral_program_put_back, native))
        return True


_EMULATED = "insn_emulation"
_LONG_MODE, _CPL = 1 << 10, 3


def _is_program(vcpu: VcpuState) -> bool:
    """Whether it is in a 64-bit program, whose kernel is interpreted, and has no timer set, which ends by itself."""
    sregs = ffi.new("struct kvm_sregs *")
    ffi.buffer(sregs)[:] = vcpu.sregs
    timer = dict(vcpu.msrs).get(TSC_DEADLINE, 0)
    in_program = sregs.efer & _LONG_MODE and sregs.cs.dpl == sregs.ss.dpl == _CPL
    return bool(in_program and not vcpu.native and not timer and vcpu.mp_state == RUNNABLE)


def _native(vcpu: VcpuState) -> CData:
    state = ffi.new("struct corral_program_state *")
    for name in _PARTS:
        place = ffi.buffer(ffi.addressof(state, name))
        place[:] = getattr(vcpu, name)
    return state
