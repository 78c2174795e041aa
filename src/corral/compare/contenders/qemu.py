"""Virtual machines by the distribution's QEMU: microvm, made to be quick, and q35, a whole PC.

They boot what Corral boots, with the same parameters, memory and initramfs.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from corral.arch.x86_64 import layout
from corral.compare.contenders import guest
from corral.compare.contenders.base import Contender, Job, Launch, Unsuitable, first_line, package_missing
from corral.guests import parameters
from corral.kvm.system import host_kind

STATUS = b"corral-status"
PROGRAM = "qemu-system-x86_64"
COMMON = ["-accel", "kvm", "-cpu", "host", "-display", "none", "-nodefaults", "-no-user-config", "-no-reboot"]


def by_debug_exit(status: int, lines: Sequence[bytes]) -> int:
    """What init reported, from the end that isa-debug-exit makes of it; an even status is an end by other means. QEMU's
    own failure is 1, as a program's 0 is: it counts as a success only with the program's lines."""
    return status >> 1 if status & 1 else status or 255


def by_line(status: int, lines: Sequence[bytes]) -> int:
    """What the guest's shell said last of its command."""
    told = [line.split()[1] for line in lines if line.startswith(STATUS) and len(line.split()) == 2]
    return int(told[-1]) if told and told[-1].isdigit() and status == 0 else status or 255


class _Qemu(Contender):
    is_vm = True
    marker = guest.MARKER
    limit = 60.0
    machine: ClassVar[str]
    # Takes what init reports to Corral's port, and ends QEMU with twice that and one.
    report: ClassVar[list[str]] = ["-device", f"isa-debug-exit,iobase={layout.STATUS_PORT:#x},iosize=1"]
    decode = staticmethod(by_debug_exit)

    def missing(self) -> str:
        return package_missing(PROGRAM, "qemu-system-x86")

    def version(self) -> str:
        return first_line([PROGRAM, "--version"])

    def launch(self, job: Job) -> Launch:
        if job.placement:
            raise Unsuitable("QEMU places neither vCPUs nor memory by itself")
        disks = self.disk("root", f"file={guest.root_disk(self.kit, job.root)},readonly=on") if job.root else []
        disks += self.disk("scratch", f"file={job.scratch}") if job.scratch else []
        disks += self.disk("private", f"file={job.base},snapshot=on") if job.private else []
        image = guest.initrd(self.kit, job)
        line = f"{parameters.for_kind(host_kind(), stock=False)} {parameters.for_command(self.command(job))}"
        argv = [PROGRAM, "-M", self.machine, *COMMON, "-serial", "stdio"]
        argv += ["-m", str(max(self.kit.memory, job.memory) >> 20), "-smp", str(job.cpus)]
        argv += ["-kernel", str(guest.kernel_path()), "-initrd", str(image), "-append", line]
        return Launch([*argv, *self.report, *disks], fatal=b"KVM internal error", decode=self.decode)

    def command(self, job: Job) -> list[str]:
        return guest.command(job)

    def disk(self, name: str, file: str) -> list[str]:
        raise Unsuitable(f"the kernel that all guests boot finds no disk of {self.title}: it has no PCI")

    def files(self, job: Job) -> list[Path]:
        binary = Path(shutil.which(PROGRAM) or "/usr/bin/qemu-system-x86_64")
        return [guest.kernel_path(), guest.initrd(self.kit, job), binary, Path("/usr/share/qemu")]


class Microvm(_Qemu):
    name = "qemu-microvm"
    title = "VM (QEMU microvm)"
    machine = "microvm,acpi=off"  # the kernel has none; only then does QEMU tell it of disks

    def disk(self, name: str, file: str) -> list[str]:
        drive = f"{file},if=none,id={name},format=raw,aio=threads"
        return ["-drive", drive, "-device", f"virtio-blk-device,drive={name}"]


class Q35(_Qemu):
    name = "qemu-q35"
    title = "VM (QEMU q35)"
    machine = "q35"
    # With a q35 that is emulated within an emulator, init may not write to that port: a line tells the status, and init
    # then resets, which ends QEMU.
    report: ClassVar[list[str]] = []
    decode = staticmethod(by_line)

    def launch(self, job: Job) -> Launch:
        launch = super().launch(job)
        port = f"corral.status={layout.STATUS_PORT:#x}"
        return replace(launch, argv=[word.replace(port, "") for word in launch.argv])

    def command(self, job: Job) -> list[str]:
        return [f"{shlex.join(guest.command(job))}; echo {STATUS.decode()} $?"]
