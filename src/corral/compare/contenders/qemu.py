"""Virtual machines by the distribution's QEMU: microvm, made to be quick, and q35, a whole PC.

They boot what Corral boots, with the same parameters, memory and initramfs.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import ClassVar

from corral.arch.x86_64 import layout
from corral.compare.contenders import guest
from corral.compare.contenders.base import Contender, Job, Launch, Unsuitable, first_line, package_missing
from corral.guests import parameters
from corral.kvm.system import host_kind

PROGRAM = "qemu-system-x86_64"
COMMON = ["-accel", "kvm", "-cpu", "host", "-display", "none", "-nodefaults", "-no-user-config", "-no-reboot"]


def _decode(status: int) -> int:
    """What init reported, from the end that isa-debug-exit makes of it; an even status is an end by other means. QEMU's
    own failure is 1, as a program's 0 is: nobody takes that for a success who has not seen the program's lines."""
    return status >> 1 if status & 1 else status or 255


class _Qemu(Contender):
    is_vm = True
    marker = guest.MARKER
    limit = 60.0
    machine: ClassVar[str]

    def missing(self) -> str:
        return package_missing(PROGRAM, "qemu-system-x86")

    def version(self) -> str:
        return first_line([PROGRAM, "--version"])

    def launch(self, job: Job) -> Launch:
        image = guest.initrd(self.kit, job.program)
        line = f"{parameters.for_kind(host_kind(), stock=False)} {parameters.for_command(guest.command(job))}"
        argv = [PROGRAM, "-M", self.machine, *COMMON, "-m", str(self.kit.memory >> 20), "-serial", "stdio"]
        argv += ["-kernel", str(guest.kernel_path()), "-initrd", str(image), "-append", line]
        # Takes what init reports to Corral's port, and ends QEMU with twice that and one.
        argv += ["-device", f"isa-debug-exit,iobase={layout.STATUS_PORT:#x},iosize=1"]
        argv += self.disk(f"file={job.scratch}") if job.scratch else []
        argv += self.disk(f"file={job.base},snapshot=on") if job.private else []
        return Launch(argv, fatal=b"KVM internal error", decode=_decode)

    def disk(self, file: str) -> list[str]:
        raise Unsuitable(f"the kernel that all guests boot finds no disk of QEMU's {self.machine}: it has no PCI")

    def files(self, job: Job) -> list[Path]:
        binary = Path(shutil.which(PROGRAM) or "/usr/bin/qemu-system-x86_64")
        return [guest.kernel_path(), guest.initrd(self.kit, job.program), binary, Path("/usr/share/qemu")]


class Microvm(_Qemu):
    name = "qemu-microvm"
    title = "VM (QEMU microvm)"
    machine = "microvm"

    def disk(self, file: str) -> list[str]:
        drive = f"{file},if=none,id=scratch,format=raw,aio=threads"
        return ["-drive", drive, "-device", "virtio-blk-device,drive=scratch"]


class Q35(_Qemu):
    name = "qemu-q35"
    title = "VM (QEMU q35)"
    machine = "q35"
