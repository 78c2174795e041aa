"""A virtual machine with its interrupt controllers and its memory, which is empty; no vCPU yet.

Make it before the kernel is chosen: controllers in KVM start an SRCU grace period of the host's kernel, and the first
memory slot waits for that, 5 to 14 ms. A thread sets the slots, so the rest of the start overlaps with the wait.
Where nothing is left to overlap with, as for a guest that goes on from a snapshot in a process that has all loaded, the
slots come first: the guest runs sooner, and the end waits instead. Split controllers, local APICs alone in KVM, have
nothing wait.
"""

from __future__ import annotations

from corral.arch.x86_64 import layout
from corral.core.bus import Bus
from corral.core.ioapic import PINS, REGISTERS, Ioapic
from corral.errors import CorralError
from corral.kvm.system import System
from corral.memory import GuestMemory
from corral.startup.threads import allocate_lock, start_new_thread
from corral.startup.undo import Undo

# Without a deadline timer Linux measures that of its local APIC by an 8254's ticks.
SPLIT_NEEDS = ("SPLIT_IRQCHIP", "TSC_DEADLINE_TIMER")


_last: tuple[int, int, bool] | None = None  # what the last one was asked for with
_ahead: Shell | None = None  # one that is asked for with the same, made before it is


def asked_for(memory: int, page: int = 0, split: bool = False) -> Shell:
    """A Shell, the caller's; the one that is there already if it is of this kind."""
    global _last, _ahead
    ready, _ahead, same = _ahead, None, _last == (memory, page, split)
    _last = memory, page, split
    if ready and same:
        return ready
    if ready:
        ready.close()
    return Shell(memory, page, split)


def make_ahead() -> None:
    """What asked_for() gave last, for the next time: a process that waits for its command has time for it. It is left
    to asked_for() to tell what this host lacks."""
    global _ahead
    if _last:
        try:
            _ahead = Shell(*_last)
            _ahead.system.supported_cpuid()
        except CorralError:
            _ahead = None


class Shell:
    """A VM without vCPUs; a context manager. `memory` and `page` are GuestMemory's. Devices are claimed at `ports` and
    `mmio`. Raises ConfigError, HostError and KvmError.

    `split`: its guest needs no 8259 and no tick of an 8254 (MachineConfig). Then `ioapic` is the IOAPIC, where the KVM
    can do so; None: KVM has all interrupt controllers. `at_once`: the slots come before them.
    """

    def __init__(self, memory: int, page: int = 0, split: bool = False, at_once: bool = False) -> None:
        self.ioapic: Ioapic | None = None
        self._undo = Undo()
        self._connecting = allocate_lock()
        self._failure: Exception | None = None
        try:
            self._build(memory, page, split, at_once, self._undo)
        except BaseException:
            self.close()
            raise

    def _build(self, memory: int, page: int, split: bool, at_once: bool, undo: Undo) -> None:
        self.system = System()
        undo.push(self.system.close)
        self.vm = self.system.create_vm()
        undo.push(self.vm.close)
        self.vm.set_identity_map(layout.IDENTITY_MAP)
        self.vm.set_tss_area(layout.TSS_AREA)
        split = split and all(self.system.capability(name) for name in SPLIT_NEEDS)
        if not (split or at_once):
            self.vm.create_irqchip()
        self.memory = GuestMemory(memory, page)
        undo.push(self.memory.close)
        self._connecting.acquire()
        if split:
            self._connect()
            self.vm.split_irqchip(PINS)
            self.ioapic = Ioapic(self.vm.fd.value)
            undo.push(self.ioapic.close)
        elif at_once:
            self._connect()
            self.vm.create_irqchip()
        else:
            self._connect_meanwhile()
        undo.push(self._await_connection)
        self.ports, self.mmio = Bus("port"), Bus("MMIO")
        self._claim_for_controllers()

    def _claim_for_controllers(self) -> None:
        """The IOAPIC, and what KVM answers itself, so that no device is put there. Split controllers have no 8259: a
        system that looks finds none, as ACPI tells too."""
        for first, last in layout.PIC_PORTS:
            self.ports.claim(first, last, None, owner="the interrupt controller")
        for gpa, length in self.memory.regions:
            self.mmio.claim(gpa, gpa + length - 1, None, owner="the guest's RAM")
        in_c = self.ioapic.in_c if self.ioapic else ()
        self.mmio.claim(layout.IOAPIC, layout.IOAPIC + REGISTERS - 1, self.ioapic, owner="the IOAPIC", in_c=in_c)
        for first, last in ((layout.IOAPIC + REGISTERS, layout.IOAPIC), (layout.LOCAL_APIC, layout.LOCAL_APIC)):
            self.mmio.claim(first, last + layout.PAGE_SIZE - 1, None, owner="an interrupt controller")
        self.mmio.claim(layout.IDENTITY_MAP, layout.TSS_AREA + 0x2FFF, None, owner="KVM's own pages")

    def _connect_meanwhile(self) -> None:
        try:
            start_new_thread(self._connect, ())
        except RuntimeError:  # the host has no thread to give: then without
            self._connect()

    def _await_connection(self) -> None:
        with self._connecting:
            pass

    def _connect(self) -> None:
        try:
            for slot, (gpa, length) in enumerate(self.memory.regions):
                self.vm.set_memory_slot(slot, gpa, length, self.memory.host_address + self.memory.offset(gpa, length))
        except Exception as error:
            self._failure = error
        finally:
            self._connecting.release()

    def connected(self) -> None:
        """Returns when the VM has its memory. Raises KvmError when it could not be given any."""
        with self._connecting:
            if self._failure:
                raise self._failure

    def close(self) -> None:
        self._undo.run()

    def __enter__(self) -> Shell:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
