"""Watchpoints on a KVM that does not tell of accesses to data: the page is read-only for the guest, and each store to
it is an exit that C completes (csrc/vcpu/watch.c). All else runs as fast as ever.

KVM computes the new value of an instruction that reads and writes before it exits, so on two vCPUs a locked one would
not be atomic; and it cannot deliver an exception to a stack that is read-only.
"""

from __future__ import annotations

from corral.errors import ConfigError
from corral.memory import PAGE
from corral.native import ffi, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from corral.machine import Machine

MOST = 4  # watchpoints, as there are debug registers; CORRAL_WATCHES
_READ_ONLY = 2  # KVM_MEM_READONLY (api.rst, 4.35)
_FIRST_SLOT = 256  # of those that are there only while something is watched
KERNEL_HALF = 1 << 63  # of addresses, as Linux has it
_STACK = 16 << 10  # of a Linux kernel's task, and what it is aligned to


class WatchedPages:
    """Of a machine that is paused whenever something is called here."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._pages: list[int] = []
        self._slots: list[int] = []
        self._watches = ffi.new("struct corral_watches *")

    def require(self, address: int, others: int) -> None:
        """Raises ConfigError where stores to a linear address cannot be watched; `others` are watched already."""
        vcpus = self._machine.vcpus
        if not self._machine.system.capability("READONLY_MEM"):
            raise ConfigError("this host's KVM has no read-only memory, without which nothing can be watched")
        if self._machine.vm.is_logged:
            raise ConfigError("this host's KVM lets no memory be watched of a guest that has checkpoints")
        if others >= MOST:
            raise ConfigError(f"{MOST} watchpoints are there already; remove one")
        if len(vcpus) > 1:
            raise ConfigError("this host's KVM lets memory be watched for a guest with one vCPU alone; use --cpus 1")
        if address >= KERNEL_HALF and vcpus[0].get_regs().rsp // _STACK == address // _STACK:
            raise ConfigError(f"{address:#x} is on the kernel's stack, which cannot be watched with this host's KVM")

    def watch(self, places: Sequence[tuple[int, int]]) -> None:
        """Guest physical addresses and sizes, up to MOST; none for none."""
        self._watches.count = len(places)
        for watch, (gpa, size) in zip(self._watches.watch, places, strict=False):
            watch.gpa, watch.size = gpa, size
        pages = sorted({gpa - gpa % PAGE for gpa, _ in places})
        if pages == self._pages:
            return
        self._pages = pages
        for vcpu in self._machine.vcpus:
            vcpu.native.watches = self._watches if pages else ffi.NULL
            vcpu.native.finish[lib.KVM_EXIT_MMIO] = lib.corral_finish_store if pages else lib.corral_finish_mmio
        self._reshape()

    def holds(self, gpa: int) -> bool:
        """Whether stores there are exits."""
        return gpa - gpa % PAGE in self._pages

    def _reshape(self) -> None:
        """The machine's memory in new slots, where each page that is watched has its own."""
        vm, memory = self._machine.vm, self._machine.memory
        for slot in self._slots or range(len(memory.regions)):
            vm.set_memory_slot(slot, 0, 0, 0)
        self._slots = []
        if not self._pages:
            for slot, (gpa, length) in enumerate(memory.regions):
                self._put(slot, gpa, gpa + length)
            return
        for gpa, length in memory.regions:
            start = gpa
            for page in self._pages:
                if gpa <= page < gpa + length:
                    self._add(start, page)
                    self._add(page, page + PAGE, _READ_ONLY)
                    start = page + PAGE
            self._add(start, gpa + length)

    def _add(self, start: int, end: int, flags: int = 0) -> None:
        if start < end:
            self._slots.append(_FIRST_SLOT + len(self._slots))
            self._put(self._slots[-1], start, end, flags)

    def _put(self, slot: int, start: int, end: int, flags: int = 0) -> None:
        memory = self._machine.memory
        host = memory.host_address + memory.offset(start, end - start)
        self._machine.vm.set_memory_slot(slot, start, end - start, host, flags)
