"""A virtual machine, built in order. Read this first."""

from __future__ import annotations

import os

from corral import boot
from corral.arch.x86_64 import apic_ids, cpuid, layout, mptable, registers
from corral.bus import Bus
from corral.chassis import Chassis
from corral.config import MachineConfig
from corral.console import Console, Over
from corral.devices.cmos import Cmos
from corral.devices.i8042 import I8042
from corral.devices.pci_address import PciAddress
from corral.devices.pit import LatePit
from corral.devices.serial import Serial
from corral.devices.status_port import StatusPort
from corral.exits import Cause, GuestEnded
from corral.kvm.system import Kind
from corral.native import check, ffi, lib
from corral.record import record
from corral.threads import allocate_lock
from corral.undo import Undo
from corral.vcpu import VcpuThread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

    from corral.boot import Kernel
    from corral.config import DiskConfig, ShareConfig
    from corral.devices.power_button import PowerButton
    from corral.devices.virtio.blk import Disk
    from corral.devices.virtio.device import VirtioDevice
    from corral.devices.virtio.mmio import MmioTransport
    from corral.devices.virtio.p9 import Share
    from corral.irq import VirtioInterrupt
    from corral.kvm.vcpu import Vcpu


@record(frozen=True)
class Outcome:
    """How a run ended.

    `cause` is None unless the guest ended by itself, on vCPU `vcpu`. `status` is what the guest's init reported as
    the exit status of its command, None when it reported nothing.
    """

    over: Over
    cause: Cause | None = None
    detail: str = ""
    vcpu: int = 0
    status: int | None = None


class Machine:
    """One guest and all it owns. A context manager; close it on the thread that made it.

    Making one raises BootError for a kernel or initramfs that cannot be used, ConfigError, HostError and KvmError.
    Whoever is in a hurry makes the chassis first; it belongs to the machine then, also one that cannot be made.
    """

    def __init__(self, config: MachineConfig, chassis: Chassis | None = None) -> None:
        self.config = config
        self.chassis = chassis or Chassis(config.memory, config.plan.page if config.plan else 0)
        self._undo = Undo()
        self._undo.push(self.chassis.close)
        try:
            self._build(config, self._undo)
        except BaseException:
            self.close()
            raise

    def _build(self, config: MachineConfig, undo: Undo) -> None:
        """Each step needs those before it; `undo` undoes them last to first."""
        self.system, self.vm, self.memory = self.chassis.system, self.chassis.vm, self.chassis.memory
        kernel = boot.open_payload(config)
        undo.push(kernel.close)

        plan = config.plan
        if plan:
            from corral.numa.bind import bind

            bind(self.memory, plan)
        self.positions = apic_ids.placed(plan.cpus) if plan else apic_ids.flat(config.cpus)
        rsdp = self._describe_to_guest(config)
        entry = kernel.load(self.memory, os.fsencode(config.cmdline), config.initrd, rsdp)

        self._create_devices(undo)
        if config.bios:
            self._connect_bios(kernel)
        self.virtio: list[MmioTransport] = []
        self.disks = [self._create_disk(disk, undo) for disk in config.disks]
        self.shares = [self._create_share(share, undo) for share in config.shares]
        self.vcpus = [self._create_vcpu(index, undo) for index in range(config.cpus)]
        registers.enter(self.vcpus[0], self.memory, entry)
        self.chassis.connected()

        self._ended = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        undo.push(os.close, self._ended)
        self.threads = [
            VcpuThread(index, vcpu, self.ports, self.mmio_bus, self._vcpu_ended, plan.cpus[index].cpus if plan else ())
            for index, vcpu in enumerate(self.vcpus)
        ]
        self.started = self._dismissed = False
        self._starting = allocate_lock()
        undo.push(self.stop)

    @property
    def _worker_cpus(self) -> tuple[int, ...]:
        return self.config.plan.workers if self.config.plan else ()

    def _describe_to_guest(self, config: MachineConfig) -> int:
        """The tables that tell a kernel its processors and devices. Returns the address of ACPI's, 0 for none."""
        ids = [position.apic_id for position in self.positions]
        if not config.bios:  # which makes one itself, and lies where it would be
            mptable.write(self.memory, ids)
        if not config.acpi:
            return 0
        from corral.arch.x86_64 import acpi

        nodes = None
        if config.plan:
            from corral.numa.guest import topology

            nodes = topology(config.plan, ids)
        at = layout.above_bios(self.memory.low_end) if config.bios else layout.ACPI_TABLES
        return acpi.write(self.memory, ids, len(config.disks) + len(config.shares), nodes, at)

    def _create_devices(self, undo: Undo) -> None:
        self.ports, self.mmio_bus = Bus("port"), Bus("MMIO")
        self.power_button: PowerButton | None = None
        self.serial = Serial(self.vm.fd, layout.COM1_GSI)
        undo.push(self.serial.close)
        self.status_port = StatusPort()
        pit = LatePit(self.vm)
        for first, last in layout.PIT_PORTS:
            self.ports.claim(first, last, pit, first - 0x40)
        i8042 = I8042()
        for first, last in layout.I8042_PORTS:
            self.ports.claim(first, last, i8042, first - 0x60)
        self.ports.claim(*layout.RTC_PORTS, Cmos())
        if not self.config.bios:  # with one a byte of it is the reset control register
            self.ports.claim(*layout.PCI_ADDRESS_PORTS, PciAddress())
        self.ports.claim(layout.STATUS_PORT, layout.STATUS_PORT, self.status_port)
        if self.config.debug_exit is not None:
            from corral.devices.debug_exit import PORTS, DebugExit

            first = self.config.debug_exit
            self.ports.claim(first, first + PORTS - 1, DebugExit(self.status_port))
        if self.config.acpi:
            from corral.devices.acpi_power import AcpiPower

            self.ports.claim(*layout.ACPI_POWER_PORTS, AcpiPower())
            from corral.devices.power_button import PowerButton

            self.power_button = PowerButton(self.vm, layout.POWER_BUTTON_GSI)
            undo.push(self.power_button.close)

    def _connect_bios(self, kernel: Kernel) -> None:
        from corral.boot.bios import Bios
        from corral.devices.fw_cfg import FwCfg
        from corral.devices.handover import Handover, ResetControl

        assert isinstance(kernel, Bios)
        self.ports.claim(*layout.FW_CFG_PORTS, FwCfg(kernel.files))
        self.ports.claim(layout.HANDOVER_PORT, layout.HANDOVER_PORT, Handover(kernel.hand_over))
        self.ports.claim(layout.RESET_CONTROL, layout.RESET_CONTROL, ResetControl())

    def _create_disk(self, config: DiskConfig, undo: Undo) -> Disk:
        from corral.devices.virtio.blk import Disk
        from corral.disk_image import DiskImage

        image = DiskImage(config)
        undo.push(image.close)
        interrupt = self._virtio_interrupt(undo)
        name = f"blk{len(self.virtio)}"
        disk = Disk(config, image, self.memory, interrupt, self.config.cpus, name, self._worker_cpus)
        undo.push(disk.close)
        self._connect_virtio(disk, interrupt, undo)
        return disk

    def _create_share(self, config: ShareConfig, undo: Undo) -> Share:
        from corral.devices.virtio.p9 import Share

        interrupt = self._virtio_interrupt(undo)
        share = Share(config, self.memory, interrupt, self._worker_cpus)
        undo.push(share.close)
        self._connect_virtio(share, interrupt, undo)
        return share

    def _virtio_interrupt(self, undo: Undo) -> VirtioInterrupt:
        """Of the next virtio device."""
        from corral.irq import VirtioInterrupt

        interrupt = VirtioInterrupt(self.vm, layout.VIRTIO_GSIS[len(self.virtio)])
        undo.push(interrupt.close)
        return interrupt

    def _connect_virtio(self, device: VirtioDevice, interrupt: VirtioInterrupt, undo: Undo) -> None:
        from corral.devices.virtio.mmio import SIZE, MmioTransport

        transport = MmioTransport(device, interrupt)
        undo.push(transport.close)
        base = layout.virtio_mmio(len(self.virtio))
        transport.connect(self.vm, base)
        self.mmio_bus.claim(base, base + SIZE - 1, transport)
        self.virtio.append(transport)

    def _create_vcpu(self, index: int, undo: Undo) -> Vcpu:
        position = self.positions[index]
        vcpu = self.vm.create_vcpu(position.apic_id, self.memory.native)
        undo.push(vcpu.close)
        interpreted = self.system.kind is Kind.PAGETABLE
        if interpreted:
            vcpu.assist()
        caches = self.config.plan is None or self.config.plan.caches
        supported, nested = self.system.supported_cpuid(), self.config.nested
        vcpu.set_cpuid(cpuid.for_vcpu(supported, position, interpreted, caches, nested))
        registers.firmware_msrs(vcpu)
        if index == 0:
            registers.firmware_lapic(vcpu)
        self.serial.attach(vcpu, layout.COM1_PORTS)
        vcpu.claim_ports(*layout.POST_PORTS, lib.corral_pio_constant, _ALL_ONES)
        for slot, transport in enumerate(self.virtio):
            transport.attach(vcpu, layout.virtio_mmio(slot))
        return vcpu

    def start(self) -> None:
        """Starts every vCPU; does nothing the second time. From any thread."""
        check("sigaction", lib.corral_kick_init())
        with self._starting:
            if self.started:
                return
            self.started = True
            for thread in self.threads:
                thread.start()

    def pause(self) -> None:
        """Returns when every vCPU is out of the guest and stays out, or has ended; from any state."""
        for thread in self.threads:
            thread.request_pause()
        for thread in self.threads:
            thread.pause()

    def resume(self) -> None:
        for thread in self.threads:
            thread.resume()

    def stop(self) -> None:
        """Ends every vCPU, from any state; the guest's memory and registers can be looked at until close()."""
        for thread in self.threads:
            thread.request_stop()
        for thread in self.threads:
            thread.stop()

    def run(self, console: Console | None = None, timeout: float | None = None) -> Outcome:
        """start(), serve the console until the guest ends or `timeout` seconds are over, stop().

        By a plan this thread keeps off the vCPUs' CPUs meanwhile. Raises what a device or the VMM failed with, if that
        was what ended the guest.
        """
        console = console or Console()
        before = os.sched_getaffinity(0) if self._worker_cpus else None
        try:
            if before:
                os.sched_setaffinity(0, self._worker_cpus)
            self.start()
            over = console.serve(self.serial, self._ended, timeout)
        finally:
            self.stop()
            if before:
                os.sched_setaffinity(0, before)
        if over in (Over.ENDED, Over.TIMEOUT):
            console.finish(self.serial)
        for thread in self.threads:
            if thread.failure:
                raise thread.failure
        ended = next((thread for thread in self.threads if thread.end), None)
        if self._dismissed and ended is None:
            return Outcome(Over.QUIT, status=self.status_port.status)
        if over is not Over.ENDED or ended is None or ended.end is None:
            return Outcome(over, status=self.status_port.status)
        end: GuestEnded = ended.end
        return Outcome(over, end.cause, end.detail, ended.index, self.status_port.status)

    def ask_to_end(self) -> None:
        """Presses the power button, or hangs up the serial line of a guest without ACPI; what it makes of that is its
        own affair: a system shuts down. From any thread, and from a signal handler."""
        if self.power_button:
            self.power_button.press()
        else:
            self.serial.hang_up()

    def dismiss(self) -> None:
        """Ends run() from any thread, as a user does who quits."""
        self._dismissed = True
        os.eventfd_write(self._ended, 1)

    def close(self) -> None:
        """Stops the guest and gives everything back."""
        self._undo.run()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _vcpu_ended(self, thread: VcpuThread) -> None:
        os.eventfd_write(self._ended, 1)


_ALL_ONES = ffi.new("uint32_t *", 0xFFFFFFFF)
