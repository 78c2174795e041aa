"""A vCPU's file descriptor, its kvm_run page and its state."""

from __future__ import annotations

import errno
import mmap
import os
import struct

from corral.errors import ClosedError, HostError, KvmError
from corral.native import CData, Handle, check, ffi, ioctl, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# struct kvm_cpuid_entry2: function, index, flags, eax, ebx, ecx, edx. A field at a time through cffi takes ten times
# as long, and there are ninety entries.
CPUID_ENTRY = struct.Struct("<7I12x")
KICKED, EXIT, HOOKED = lib.CORRAL_KICKED, lib.CORRAL_EXIT, lib.CORRAL_HOOKED  # what run() comes back for
_EMPTY = ffi.new("struct kvm_run *")  # the page of each vCPU that is closed


class Vcpu:
    """Owns the descriptor that KVM_CREATE_VCPU gave; every method raises KvmError.

    Registers are only to be touched while no thread is inside run(). `native` is what C has of it; when it is closed
    that has no descriptor and an empty page, so that C can do nothing with it.
    """

    def __init__(self, fd: int, vm_fd: int, mmap_size: int, ram: CData) -> None:
        try:
            self.page = mmap.mmap(fd, mmap_size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        except BaseException:
            os.close(fd)
            raise
        self._page_pointer = ffi.from_buffer(self.page)
        self.run_page = ffi.cast("struct kvm_run *", self._page_pointer)
        self._assist: CData | None = None
        self._ram = ram  # keeps the structure alive that C points to
        self._buses: tuple[CData, ...] = ()
        self.native = ffi.new("struct corral_vcpu *")
        self.native.fd = fd
        self.native.vm_fd = vm_fd
        self.native.run = self.run_page
        self.native.ram = ram
        self.fd = Handle(fd, self._give_back)

    def close(self) -> None:
        """A thread that is inside run() is made to leave, and finds no vCPU any more."""
        self.native.fd = -1
        self.fd.close(wake=lambda fd: lib.corral_vcpu_kick(self.native))

    def _give_back(self, fd: int) -> None:
        self.run_page = self.native.run = _EMPTY
        if self._assist is not None:
            self.native.assist = ffi.NULL
            ffi.release(self._assist)  # now, not when the collector finds it: it has mappings of its own
        ffi.release(self._page_pointer)
        self.page.close()
        os.close(fd)

    def held(self, function: Callable[..., Any], *arguments: object) -> Any:
        """`function(native, *arguments)`, during which the vCPU is not closed. Raises ClosedError."""
        return self.fd.call(lambda fd: function(self.native, *arguments))

    def run(self) -> int:
        """Runs the guest until it is kicked (KICKED, which is 0), or an exit is Python's (EXIT) or hooks shall see one
        first (HOOKED). Releases the GIL.

        Its thread has the vCPU held() meanwhile.
        """
        result: int = lib.corral_vcpu_run(self.native)
        if result < 0:
            if result == -errno.EBADF and self.fd.closed:
                raise ClosedError("this machine is closed")
            check("KVM_RUN", result)
        return result

    def finish(self) -> bool:
        """Has C finish the exit that run() came back for, if it was HOOKED. False: that is Python's to handle.

        On the vCPU's thread, once for each exit.
        """
        return check("finish", self.held(lib.corral_vcpu_finish)) > 0

    def kick(self) -> None:
        """Makes run() return False soon, from any thread; also a run() that has not begun yet."""
        self.held(lib.corral_vcpu_kick)

    def connect(self, ports: CData, mmio: CData, ioapic: CData = ffi.NULL) -> None:
        """Has C finish accesses to the registers in these struct corral_bus (bus.h), and tell a struct
        corral_ioapic which of its interrupts were served; all are the VM's. Before the vCPU runs."""
        self._buses = ports, mmio  # kept alive
        self.held(_connect, ports, mmio, ioapic)

    def assist(self) -> None:
        """Completes in C what this KVM's interpreter lacks (docs/assist.md). Before the vCPU runs."""
        assist = ffi.gc(self.held(lambda native: lib.corral_assist_create()), lib.corral_assist_destroy)
        if assist == ffi.NULL:
            raise HostError("no memory for a vCPU")
        self._assist = self.native.assist = assist
        self.native.finish[lib.KVM_EXIT_INTERNAL_ERROR] = lib.corral_assist_finish
        self.native.finish[lib.KVM_EXIT_SHUTDOWN] = lib.corral_assist_shutdown

    def watch_interrupts(self, lidt: tuple[int, ...], restored: bool = False) -> None:
        """Completes INT n of CPL 3 too, which this KVM does not tell of, for a kernel that does not begin its handlers
        with CLAC, as Linux does. `lidt`: where it loads its table, which it has done already if it is `restored`. After
        assist(), before the vCPU runs."""
        places = ffi.new("uint64_t[]", lidt)
        watch = lib.corral_assist_watch_on if restored else lib.corral_assist_watch
        check("KVM_SET_GUEST_DEBUG", self.held(watch, places, len(lidt)))
        self.native.finish[lib.KVM_EXIT_DEBUG] = lib.corral_assist_debug

    def get_regs(self) -> CData:
        regs = ffi.new("struct kvm_regs *")
        ioctl(self.fd, "KVM_GET_REGS", regs)
        return regs

    def set_regs(self, regs: CData) -> None:
        ioctl(self.fd, "KVM_SET_REGS", regs)

    def get_sregs(self) -> CData:
        sregs = ffi.new("struct kvm_sregs *")
        ioctl(self.fd, "KVM_GET_SREGS", sregs)
        return sregs

    def set_sregs(self, sregs: CData) -> None:
        ioctl(self.fd, "KVM_SET_SREGS", sregs)

    def set_cpuid(self, entries: list[tuple[int, int, int, int, int, int, int]]) -> None:
        """Entries as (function, index, flags, eax, ebx, ecx, edx)."""
        cpuid = ffi.new("struct kvm_cpuid2 *", {"entries": len(entries)})
        cpuid.nent = len(entries)
        ffi.buffer(cpuid.entries)[:] = b"".join(CPUID_ENTRY.pack(*entry) for entry in entries)
        ioctl(self.fd, "KVM_SET_CPUID2", cpuid)

    def set_msrs(self, values: dict[int, int]) -> None:
        """Sets all of them, or raises KvmError naming the first that KVM refuses."""
        msrs = ffi.new("struct kvm_msrs *", {"entries": len(values)})
        msrs.nmsrs = len(values)
        for i, (index, data) in enumerate(values.items()):
            msrs.entries[i].index = index
            msrs.entries[i].data = data
        done = ioctl(self.fd, "KVM_SET_MSRS", msrs)
        if done < len(values):  # KVM stops at the first it refuses (api.rst, 4.19)
            raise KvmError(
                f"KVM_SET_MSRS {list(values)[done]:#x}", errno.EINVAL, "this KVM does not let the MSR be set"
            )

    def get_msr(self, index: int) -> int:
        msrs = ffi.new("struct kvm_msrs *", {"entries": 1})
        msrs.nmsrs = 1
        msrs.entries[0].index = index
        if ioctl(self.fd, "KVM_GET_MSRS", msrs) != 1:
            raise KvmError(f"KVM_GET_MSRS {index:#x}", errno.EINVAL, "this KVM does not have the MSR")
        return int(msrs.entries[0].data)

    def set_guest_debug(self, control: int, registers: tuple[int, ...] = ()) -> None:
        """`control` is KVM_GUESTDBG_ flags, `registers` DR0 to DR7, as far as given (api.rst, 4.87). 0 ends that, and
        what the assist watches is watched again."""
        debug = ffi.new("struct kvm_guest_debug *")
        debug.control = control
        debug.arch.debugreg[0 : len(registers)] = registers
        ioctl(self.fd, "KVM_SET_GUEST_DEBUG", debug)
        if self.native.assist:
            check("KVM_SET_GUEST_DEBUG", self.held(lib.corral_assist_watch_again, control == 0))

    def get_xsave(self) -> bytearray:
        """The first 4,096 bytes of XSAVE's standard form: x87, SSE, AVX and what follows."""
        xsave = ffi.new("struct kvm_xsave *")
        ioctl(self.fd, "KVM_GET_XSAVE", xsave)
        return bytearray(ffi.buffer(xsave.region))

    def set_xsave(self, area: bytearray) -> None:
        xsave = ffi.new("struct kvm_xsave *")
        ffi.buffer(xsave.region)[:] = area
        ioctl(self.fd, "KVM_SET_XSAVE", xsave)

    def get_events(self) -> CData:
        """What the vCPU is about to take: struct kvm_vcpu_events (api.rst, 4.31)."""
        events = ffi.new("struct kvm_vcpu_events *")
        ioctl(self.fd, "KVM_GET_VCPU_EVENTS", events)
        return events

    def get_lapic(self) -> CData:
        lapic = ffi.new("struct kvm_lapic_state *")
        ioctl(self.fd, "KVM_GET_LAPIC", lapic)
        return lapic

    def set_lapic(self, lapic: CData) -> None:
        ioctl(self.fd, "KVM_SET_LAPIC", lapic)


def _connect(native: CData, ports: CData, mmio: CData, ioapic: CData) -> None:
    native.ports, native.mmio, native.ioapic = ports, mmio, ioapic
    native.finish[lib.KVM_EXIT_IOAPIC_EOI] = lib.corral_finish_ioapic_eoi
    native.finish[lib.KVM_EXIT_IO] = lib.corral_finish_pio
    native.finish[lib.KVM_EXIT_MMIO] = lib.corral_finish_mmio
