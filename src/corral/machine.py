"""A virtual machine, built in order. Read this first."""

from __future__ import annotations

import os

from corral import boot
from corral.arch.x86_64 import apic_ids, cpuid, layout, mptable, registers
from corral.backends.console import Console
from corral.config import DiskConfig, MachineConfig, ShareConfig
from corral.core.exits import GuestEnded, Outcome, Over
from corral.core.shell import Shell
from corral.core.vcpu_thread import VcpuThread
from corral.devices import timer
from corral.devices.cmos import Cmos
from corral.devices.i8042 import I8042
from corral.devices.pci_address import PciAddress
from corral.devices.serial import Serial
from corral.devices.status_port import StatusPort
from corral.errors import ClosedError, ConfigError
from corral.kvm.system import Kind
from corral.native import Event, check, ffi, lib
from corral.startup.threads import allocate_lock
from corral.startup.undo import Undo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Self

    from corral.backends.channel import Channel
    from corral.config import DeviceConfig
    from corral.core.hooks import Hooks
    from corral.devices.crt_controller import CrtController
    from corral.devices.power_button import PowerButton
    from corral.devices.virtio.blk import Disk
    from corral.devices.virtio.mmio import MmioTransport
    from corral.devices.virtio.p9 import Share
    from corral.kvm.vcpu import Vcpu
    from corral.snapshot.resumed import Resumed


class Machine:
    """One guest and all it owns. A context manager. After close() there are its configuration and its `outcome`; all
    else raises ClosedError, but stop() and close(), which find nothing to do.

    Making one raises BootError for a kernel or initramfs that cannot be used, ConfigError, HostError and KvmError.
    A shell, channel or open snapshot that is passed belongs to the machine then, even if it cannot be made.
    """

    def __init__(
        self,
        config: MachineConfig,
        shell: Shell | None = None,
        channel: Channel | None = None,
        saved: Resumed | None = None,
    ) -> None:
        self.config, self.channel, self._saved = config, channel, saved
        self.outcome: Outcome | None = None  # of the last run() that came to an end
        self.started = self.closed = self._dismissed = False
        self.unanswered = False  # the host keeps memory and descriptors: see _stop_devices
        self._starting = allocate_lock()
        self._hooks: Hooks | None = None
        self.threads: list[VcpuThread] = []
        self.waiters: list[Event] = []  # what close() and a failing hook signal: another thread may wait for it
        page, at_once = config.plan.page if config.plan else 0, bool(saved or config.snapshot)
        self.shell = shell or Shell(config.memory, page, config.split_irqchip, at_once)
        self._undo = Undo()
        self._undo.push(self.shell.close)
        if channel:
            self._undo.push(channel.close)
        if saved:
            self._undo.push(saved.close)
        try:
            self._build(config, self._undo)
        except BaseException:
            self.close()
            raise

    def _build(self, config: MachineConfig, undo: Undo) -> None:
        """Each step needs those before it; `undo` undoes them last to first."""
        check("sigaction", lib.corral_kick_init())
        self._ended = Event()
        undo.push(self._ended.close)
        self.waiters.append(self._ended)
        self.system, self.vm, self.memory = self.shell.system, self.shell.vm, self.shell.memory
        given, self._saved = self._saved, self._saved or _open_snapshot(config)
        resumed = self._saved
        kernel = resumed or boot.open_payload(config)
        if kernel is not given:
            undo.push(kernel.close)
        self.is_linux = kernel.is_linux
        if config.split_irqchip and kernel.expects_bios:
            raise ConfigError("split_irqchip: this kernel may wait for an 8254's ticks, which it would not have")
        plan = config.plan
        if plan:
            from corral.numa.bind import bind

            bind(self.memory, plan)
        self.positions = apic_ids.placed(plan.cpus) if plan else apic_ids.flat(config.cpus)
        rsdp = 0 if resumed else self._describe_to_guest(config)
        entry = kernel.load(self.memory, os.fsencode(config.cmdline), config.initrd, rsdp)
        self._create_devices(undo, kernel.expects_bios)
        self.screen: CrtController | None = None
        if not kernel.is_linux and not config.bios:  # the one is told that there is none, the other writes to COM1
            from corral.devices import crt_controller

            self.screen = crt_controller.connect(self.ports)
        if config.bios:
            from corral.boot.bios import Bios
            from corral.devices import bios_ports

            assert isinstance(kernel, Bios)
            bios_ports.claim(self.ports, kernel)
        if config.debug_exit is not None:
            from corral.devices import debug_exit

            debug_exit.connect(self.ports, config.debug_exit, self.status_port)
        self.virtio: list[MmioTransport] = []
        if config.devices:
            from corral.devices.virtio import slots

            parts = config.devices, self.vm, self.memory, self.mmio_bus, undo
            cpus, layers = self._worker_cpus, resumed.layers() if resumed else slots.NO_LAYERS
            self.virtio = slots.create(*parts, vcpus=config.cpus, cpus=cpus, channel=self.channel, layers=layers)
        self.disks: list[Disk] = self._devices_of(DiskConfig)
        self.shares: list[Share] = self._devices_of(ShareConfig)
        undo.push(self._stop_devices)
        self.vcpus: list[Vcpu] = [self._create_vcpu(index, undo) for index in range(config.cpus)]
        if entry:
            registers.enter(self.vcpus[0], self.memory, entry)
        self.lidt: tuple[int, ...] | None = None  # where its software interrupts are watched for
        if self.system.kind is Kind.PAGETABLE and not kernel.is_linux and not resumed:
            from corral.arch.x86_64 import lidt

            self.lidt = lidt.watch(self.memory, kernel.code, self.vcpus)
        self.shell.connected()
        for transport in self.virtio:
            transport.device.ready()
        if resumed:
            resumed.restore(self)

        self.threads = [
            VcpuThread(index, vcpu, self.ports, self.mmio_bus, self._vcpu_ended, plan.cpus[index].cpus if plan else ())
            for index, vcpu in enumerate(self.vcpus)
        ]
        undo.push(self.stop)
        self._allowed = os.sched_getaffinity(0) if self._worker_cpus else set()  # asked here: a jail refuses to tell

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
        return acpi.write(self.memory, ids, len(config.devices), nodes, at)

    def _create_devices(self, undo: Undo, ticks: bool) -> None:
        self.ports, self.mmio_bus = self.shell.ports, self.shell.mmio
        self.power_button: PowerButton | None = None
        ioapic = self.shell.ioapic
        self.serial = Serial(self.vm.fd.value, layout.COM1_GSI, ioapic.native if ioapic else ffi.NULL)
        undo.push(self.serial.close)
        self.ports.claim(*layout.COM1_PORTS, None, owner="the console", in_c=self.serial.in_c)
        ones = (0, 0, lib.corral_bus_constant, _ALL_ONES)
        self.ports.claim(*layout.POST_PORTS, None, owner="the POST port", in_c=(ones,))
        self.status_port = StatusPort()
        self.pit = timer.connect(self.ports, self.vm, ioapic is not None, ticks)
        self.i8042, self.cmos, self.pci_address = I8042(), Cmos(), PciAddress()
        for first, last in layout.I8042_PORTS:
            self.ports.claim(first, last, self.i8042, first - 0x60, owner="the keyboard controller")
        self.ports.claim(*layout.RTC_PORTS, self.cmos, owner="the clock")
        if not self.config.bios:  # with one a byte of it is the reset control register
            self.ports.claim(*layout.PCI_ADDRESS_PORTS, self.pci_address, owner="PCI's address register")
        self.ports.claim(*layout.PCI_DATA_PORTS, None, owner="PCI's data register")
        self.ports.claim(layout.STATUS_PORT, layout.STATUS_PORT, self.status_port, owner="the status port")
        if self.config.acpi:
            from corral.devices.acpi_power import AcpiPower

            self.ports.claim(*layout.ACPI_POWER_PORTS, AcpiPower(), owner="ACPI's power control")
            from corral.devices.power_button import PowerButton

            self.power_button = PowerButton(self.vm, layout.POWER_BUTTON_GSI)
            undo.push(self.power_button.close)

    def _devices_of(self, kind: type[DeviceConfig]) -> list[Any]:
        """Those of its devices that were made for this kind of configuration."""
        made = zip(self.config.devices, self.virtio, strict=True)
        return [transport.device for config, transport in made if isinstance(config, kind)]

    def _create_vcpu(self, index: int, undo: Undo) -> Vcpu:
        position = self.positions[index]
        vcpu = self.vm.create_vcpu(position.apic_id, self.memory.native)
        undo.push(vcpu.close)
        interpreted = self.system.kind is Kind.PAGETABLE
        if interpreted:
            vcpu.assist()
        caches = self.config.plan is None or self.config.plan.caches
        supported, nested = self.system.supported_cpuid(), self.config.nested
        entries = cpuid.for_vcpu(supported, position, interpreted, caches, nested)
        vcpu.set_cpuid(entries)
        registers.firmware_msrs(vcpu)
        if index == 0:
            registers.firmware_lapic(vcpu)
            self.cpuid = tuple(entries)
        ioapic = self.shell.ioapic
        vcpu.connect(self.ports.native, self.mmio_bus.native, ioapic.native if ioapic else ffi.NULL)
        return vcpu

    def start(self) -> None:
        """Starts every vCPU; does nothing the second time. From any thread."""
        with self._starting:
            self.require_open()
            if self.started:
                return
            self.started = True
            for thread in self.threads:
                thread.start()

    def pause(self) -> None:
        """Returns when every vCPU is out of the guest and stays out, or has ended; from any state."""
        self.require_open()
        for thread in self.threads:
            thread.request_pause()
        for thread in self.threads:
            thread.pause()
        if self._hooks:
            self._hooks.paused()

    def resume(self) -> None:
        self.require_open()
        if self._hooks:
            self._hooks.resumes()
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
        was what ended the guest; and what a hook failed with: then the guest is paused, and resume() and run() go on.
        """
        console = console or Console()
        ended = self._ended.watch()
        try:
            if self._allowed:
                os.sched_setaffinity(0, self._worker_cpus)
            self.start()
            over = console.serve(self.serial, ended, timeout)
        finally:
            os.close(ended)
            if self._hooks and self._hooks.failures:
                self.pause()
            else:
                self.stop()
            if self._allowed:
                os.sched_setaffinity(0, self._allowed)
        self.require_open()
        self.raise_failure()
        if over in (Over.ENDED, Over.TIMEOUT):
            console.finish(self.serial)
        return self._conclude(over)

    def _conclude(self, over: Over) -> Outcome:
        """The outcome, kept as well."""
        told = self.channel.status if self.channel else None
        status = self.status_port.status if told is None else told
        ended = next((thread for thread in self.threads if thread.end), None)
        if over is Over.ENDED and ended and ended.end:
            end: GuestEnded = ended.end
            self.outcome = Outcome(over, end.cause, end.detail, ended.index, status)
        else:
            self.outcome = Outcome(Over.QUIT if self._dismissed and ended is None else over, status=status)
        return self.outcome

    def ask_to_end(self) -> None:
        """Presses the power button, or hangs up the serial line of a guest without ACPI; it may do
        as it likes with that: a system shuts down. From any thread, and from a signal handler."""
        if self.power_button:
            self.power_button.press()
        else:
            self.serial.hang_up()

    def dismiss(self) -> None:
        """Ends run() from any thread, as a user does who quits."""
        self._dismissed = True
        self._ended.signal()

    def close(self) -> None:
        """Stops the guest and gives everything back, but for what the host has not answered: see _stop_devices; does
        nothing the second time. From any thread but a vCPU's: a device or a hook takes dismiss(). A run() on another
        thread ends with ClosedError."""
        for thread in self.threads:
            thread.require_another_thread()
        with self._starting:
            waiters = [] if self.closed else list(self.waiters)
            self.closed = True
        for event in waiters:
            try:
                event.signal()
            except ClosedError:  # its waiter is gone
                pass
        self._undo.run()

    def _stop_devices(self) -> None:
        """A host that does not answer a disk may still do so, into this guest's memory. Then memory and descriptors are
        kept until this process ends."""
        for transport in self.virtio:
            transport.device.request_stop()
        for transport in self.virtio:
            self.unanswered |= not transport.device.stop()
        if self.unanswered:
            _UNANSWERED.append((self, self._undo.forget()))

    def require_open(self) -> None:
        """Raises ClosedError after close()."""
        if self.closed:
            raise ClosedError("this machine is closed")

    @property
    def _condition(self) -> str:
        """What it does, for people."""
        if self.closed:
            return "closed"
        end = next((thread.end or thread.failure for thread in self.threads if thread.end or thread.failure), None)
        if end:
            return f"over: {end}"
        return self.threads[0].state.value if self.started else "not started"

    def __repr__(self) -> str:
        config = self.config
        cpus = "1 vCPU" if config.cpus == 1 else f"{config.cpus} vCPUs"
        return f"<Machine {config.kernel!r}, {config.memory >> 20} MiB, {cpus}, {self._condition}>"

    def __enter__(self) -> Self:
        self.require_open()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def hooks(self) -> Hooks:
        """What tools have attached to this machine's exits."""
        self.require_open()
        with self._starting:
            if self._hooks is None:
                from corral.core.hooks import Hooks

                self._hooks = Hooks(self.threads, self.waiters)
            return self._hooks

    def raise_failure(self) -> None:
        """Raises what a device, the VMM or a hook failed with. After a hook the guest is paused, and can go on."""
        if self._saved and not self.closed:
            self._saved.require_whole()
        for thread in self.threads:
            if thread.failure:
                raise thread.failure
        if self._hooks and self._hooks.failures:
            self._ended.clear()
            if self._dismissed or any(thread.end for thread in self.threads):
                self._ended.signal()
            self._hooks.raise_failure()

    def _vcpu_ended(self, thread: VcpuThread) -> None:
        if self._hooks:
            self._hooks.ended(thread)
        self._ended.signal()


def _open_snapshot(config: MachineConfig) -> Resumed | None:
    if config.snapshot is None:
        return None
    from corral.snapshot.resumed import Resumed

    return Resumed(config.snapshot)


_UNANSWERED: list[object] = []
_ALL_ONES = ffi.new("uint32_t *", 0xFFFFFFFF)
