"""A virtual machine by Corral, as `corral boot` makes it."""

from __future__ import annotations

import sys
from pathlib import Path

import corral
from corral.compare.contenders import guest
from corral.compare.contenders.base import Contender, Job, Launch, clean_environment
from corral.errors import HostError
from corral.guests import kernel
from corral.kvm.system import Kind, System, host_kind

PLACED = {
    "": [],
    "flat": ["--numa", "none", "--pin", "none"],
    "pinned": ["--numa", "none"],
    "nodes": ["--numa", "spread", "--pin", "none"],
    "placed": ["--numa", "spread"],
}


class Corral(Contender):
    name = "corral"
    title = "VM (Corral)"
    is_vm = True
    marker = guest.MARKER
    limit = 60.0

    def missing(self) -> str:
        try:
            System().close()
        except HostError as error:
            return str(error)
        return ""

    def version(self) -> str:
        return f"corral {corral.__version__}"

    def launch(self, job: Job) -> Launch:
        argv = [*program(), "boot", _kernel(job), "--initrd", str(guest.initrd(self.kit, job))]
        argv += ["--memory", f"{max(self.kit.memory, job.memory) >> 20}M"]
        argv += ["--cpus", str(job.cpus), *PLACED[job.placement]]
        if job.root:
            argv += ["--disk", f"{guest.root_disk(self.kit, job.root)},format=raw,ro"]
        if job.scratch:
            argv += ["--disk", f"{job.scratch},format=raw"]
        if job.private:
            argv += ["--disk", f"{job.base},format=raw,snapshot=on"]
        return Launch([*argv, "--", *guest.command(job)], clean_environment())

    def files(self, job: Job) -> list[Path]:
        package = Path(corral.__file__).parent
        return [guest.kernel_path(), guest.initrd(self.kit, job), package, *map(Path, program())]


def _kernel(job: Job) -> str:
    """The one that all guests boot; where placement counts, one that knows nodes, as far as this KVM's speed allows."""
    if not job.placement:
        return str(guest.kernel_path())
    return kernel.get("small" if host_kind() is Kind.PAGETABLE else "stock").path


def program() -> list[str]:
    """The `corral` command of this installation, else its module."""
    command = Path(sys.executable).with_name("corral")
    return [str(command)] if command.exists() else [sys.executable, "-m", "corral"]
