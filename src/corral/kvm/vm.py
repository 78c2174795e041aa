"""A virtual machine's file descriptor: memory slots, the in-kernel interrupt controllers, vCPUs."""

from __future__ import annotations

import os

from corral.kvm.vcpu import Vcpu
from corral.native import CData, Handle, ffi, ioctl, lib


class Vm:
    """Owns the descriptor that KVM_CREATE_VM gave; every method raises KvmError."""

    def __init__(self, fd: int, vcpu_mmap_size: int) -> None:
        self.fd = Handle(fd, os.close)
        self._vcpu_mmap_size = vcpu_mmap_size
        self.is_logged = False  # its memory slots have a log of written pages (dirty_log.py), and stay as they are

    def close(self) -> None:
        self.fd.close()

    def set_tss_area(self, gpa: int) -> None:
        """Three pages that VMX needs for real mode, at a guest physical address no RAM uses (api.rst, 4.32)."""
        ioctl(self.fd, "KVM_SET_TSS_ADDR", gpa)

    def set_identity_map(self, gpa: int) -> None:
        """One page that VMX needs for unpaged mode (api.rst, 4.41)."""
        ioctl(self.fd, "KVM_SET_IDENTITY_MAP_ADDR", ffi.new("uint64_t *", gpa))

    def create_irqchip(self) -> None:
        """PIC, IOAPIC and a local APIC for each vCPU, all in the kernel. Before any vCPU."""
        ioctl(self.fd, "KVM_CREATE_IRQCHIP")

    def split_irqchip(self, pins: int) -> None:
        """A local APIC for each vCPU, and nothing else in the kernel; GSIs 0 to `pins` - 1 are an IOAPIC's (api.rst,
        KVM_CAP_SPLIT_IRQCHIP). Before any vCPU."""
        self.enable_capability(lib.KVM_CAP_SPLIT_IRQCHIP, pins)

    def create_pit(self) -> None:
        """The 8254 timer with port 0x61 answered in the kernel. After the irqchip; also while vCPUs run."""
        ioctl(self.fd, "KVM_CREATE_PIT2", ffi.new("struct kvm_pit_config *", {"flags": 1}))

    def get_pit(self) -> CData:
        """The timer's struct kvm_pit_state2 (api.rst, 4.70)."""
        state = ffi.new("struct kvm_pit_state2 *")
        ioctl(self.fd, "KVM_GET_PIT2", state)
        return state

    def set_pit(self, state: CData) -> None:
        ioctl(self.fd, "KVM_SET_PIT2", state)

    def set_memory_slot(self, slot: int, gpa: int, size: int, host: int, flags: int = 0) -> None:
        """Maps `size` bytes of this process at `host` to `gpa`; all three page aligned. Size 0 removes."""
        region = ffi.new(
            "struct kvm_userspace_memory_region *",
            {
                "slot": slot,
                "flags": flags,
                "guest_phys_addr": gpa,
                "memory_size": size,
                "userspace_addr": host,
            },
        )
        ioctl(self.fd, "KVM_SET_USER_MEMORY_REGION", region)

    def enable_capability(self, capability: int, *arguments: int) -> None:
        """KVM_ENABLE_CAP on the VM; `capability` is the number, `lib.KVM_CAP_...`."""
        args = list(arguments) + [0] * (4 - len(arguments))
        ioctl(self.fd, "KVM_ENABLE_CAP", ffi.new("struct kvm_enable_cap *", {"cap": capability, "args": args}))

    def set_irq_line(self, gsi: int, level: bool) -> None:
        ioctl(self.fd, "KVM_IRQ_LINE", ffi.new("struct kvm_irq_level *", {"irq": gsi, "level": level}))

    def irqfd(self, gsi: int, fd: int) -> None:
        """A write to the eventfd `fd` raises the edge-triggered line `gsi` (api.rst, 4.75)."""
        ioctl(self.fd, "KVM_IRQFD", ffi.new("struct kvm_irqfd *", {"fd": fd, "gsi": gsi}))

    def create_vcpu(self, index: int, ram: CData) -> Vcpu:
        """vCPU with APIC id `index`, over guest RAM `ram` (a struct corral_ram that outlives it)."""
        cure = f"this KVM refuses vCPU {index}; try fewer --cpus"
        fd = ioctl(self.fd, "KVM_CREATE_VCPU", index, cure)
        return Vcpu(fd, self.fd.value, self._vcpu_mmap_size, ram)
