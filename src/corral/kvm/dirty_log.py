"""Which pages a guest has written, as KVM logs them (api.rst, KVM_GET_DIRTY_LOG and KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2):
a page stays in the log until it is taken out of it, and only then is its next write a fault."""

from __future__ import annotations

from corral.errors import ConfigError
from corral.native import ffi, ioctl, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.kvm.system import System
    from corral.kvm.vm import Vm
    from corral.memory import GuestMemory
    from corral.native import CData

PAGE_BITS = 12
GROUP = 64  # pages of a word of a bitmap; the log is cleared by whole ones
LOG = 1  # KVM_MEM_LOG_DIRTY_PAGES


class DirtyLog:
    """Of a VM with these memory slots from now on. `bits` has a bit for each page of `memory`, in the order in which
    that has them, and as many words as corral_mirror wants. Raises ConfigError, KvmError."""

    def __init__(self, system: System, vm: Vm, memory: GuestMemory) -> None:
        if not system.capability("MANUAL_DIRTY_LOG_PROTECT2"):
            raise ConfigError("this host's KVM has no log of written pages that can be cleared in part: no checkpoints")
        self._vm, self._memory = vm, memory
        self.words = -(-(memory.size >> PAGE_BITS) // GROUP)
        self.bits = ffi.new("uint64_t[]", self.words + 1)
        vm.enable_capability(lib.KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, 1)
        self._get = ffi.new("struct kvm_dirty_log *")
        self._clear = ffi.new("struct kvm_clear_dirty_log *")
        self._slots = list(enumerate(memory.regions))
        self._put()

    def _put(self) -> None:
        for slot, (gpa, length) in self._slots:
            host = self._memory.host_address + self._memory.offset(gpa, length)
            self._vm.set_memory_slot(slot, gpa, length, host, LOG)

    def begin_anew(self) -> None:
        """Empties the log, and has KVM forget all that it knows of the guest's page tables: of a change by the host it
        is not told, where it keeps tables of its own for them."""
        for slot, _ in self._slots:
            self._vm.set_memory_slot(slot, 0, 0, 0)
        self._put()

    def read(self) -> CData:
        """Fills `bits`. Regions begin at multiples of 64 pages, whatever the size of RAM."""
        for slot, (gpa, length) in self._slots:
            self._get.slot = slot
            self._get.dirty_bitmap = self.bits + (self._memory.offset(gpa, length) >> PAGE_BITS) // GROUP
            ioctl(self._vm.fd, "KVM_GET_DIRTY_LOG", self._get)
        return self.bits

    def clear(self) -> None:
        """Takes the pages in `bits` out of the log."""
        for slot, (gpa, length) in self._slots:
            first = (self._memory.offset(gpa, length) >> PAGE_BITS) // GROUP
            words = -(-(length >> PAGE_BITS) // GROUP)
            begin = end = None
            for word in range(words):
                if self.bits[first + word]:
                    begin, end = word if begin is None else begin, word + 1
            if begin is None or end is None:
                continue
            self._clear.slot = slot
            self._clear.first_page = begin * GROUP
            self._clear.num_pages = min(end * GROUP, length >> PAGE_BITS) - begin * GROUP
            self._clear.dirty_bitmap = self.bits + first + begin
            ioctl(self._vm.fd, "KVM_CLEAR_DIRTY_LOG", self._clear)
