"""A Linux guest that runs guest.c on one disk, in this process or for `corral boot`."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from corral.backends.console import Console
from corral.config import DiskConfig, MachineConfig
from corral.core.exits import Cause, Over
from corral.devices.virtio import blk
from corral.files import cpio
from corral.guests import kernel, parameters
from corral.kvm.system import host_kind
from corral.machine import Machine
from corral.native import CData
from tests.support.tiny_guests import cache

SOURCE = Path(__file__).with_name("guest.c")
PORT = 0x600  # guest.c's
MEMORY = 64 << 20
HANGS = 120.0  # seconds: nothing takes so long unless it hangs


def initrd() -> Path:
    """An initramfs with guest.c as its init, kept in the cache."""
    flags = ["-O2", "-Wall", "-Wextra", "-Werror", "-static", "-s"]
    target = cache() / f"durability-{hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]}.cpio"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        program, temporary = target.with_suffix(f".{os.getpid()}.elf"), target.with_suffix(f".{os.getpid()}")
        subprocess.run(["gcc", *flags, str(SOURCE), "-o", str(program)], check=True)
        parts = [
            cpio.entry("dev", stat.S_IFDIR | 0o755),
            cpio.entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1)),
            cpio.entry("init", stat.S_IFREG | 0o755, program.read_bytes()),
            cpio.trailer(),
        ]
        temporary.write_bytes(b"".join(parts))
        program.unlink()
        temporary.replace(target)
    return target


def file_system(path: Path) -> Path:
    """A small ext4 with a journal: each check of it takes milliseconds."""
    options = ["-b", "1024", "-J", "size=1", "-N", "64", "-E", "lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0"]
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", *options, str(path), "4M"], check=True, capture_output=True)
    return path


def words(workload: str, steps: int) -> list[str]:
    """Of the command line, for guest.c."""
    return [f"workload={workload}", f"steps={steps}"]


@dataclass
class StepPort:
    """Where the guest tells of each step, while it waits."""

    on_step: Callable[[int], None]

    def read(self, offset: int, size: int) -> int:
        return (1 << 8 * size) - 1

    def write(self, offset: int, size: int, value: int) -> None:
        self.on_step(value)


@contextmanager
def seams(**fields: Any) -> Iterator[None]:
    """Disks that are made meanwhile get these fields of corral_blk_config."""

    def create(disk: blk.Disk) -> CData:
        for name, value in fields.items():
            setattr(disk._native_config, name, value)
        return original(disk)

    original = blk.Disk._create
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blk.Disk, "_create", create)
        yield


def run(disk: DiskConfig, workload: str, steps: int, on_step: Callable[[int], None] = lambda step: None) -> str:
    """Runs the guest to its end; what it said. It is a clean end, or an AssertionError."""
    cmdline = [
        parameters.for_kind(host_kind(), stock=False),
        parameters.for_initrd(host_kind(), stock=False),
        parameters.for_devices(1),
        *words(workload, steps),
    ]
    config = MachineConfig(
        kernel=kernel.get("small").path, initrd=str(initrd()), cmdline=" ".join(cmdline), memory=MEMORY, disks=(disk,)
    )
    said = os.memfd_create("console")
    try:
        with Machine(config) as machine:
            machine.ports.claim(PORT, PORT + 3, StepPort(on_step))
            outcome = machine.run(Console(output=said), HANGS + 3 * steps)
        text = os.pread(said, 1 << 20, 0).decode(errors="replace").replace("\r", "")
    finally:
        os.close(said)
    assert (outcome.over, outcome.cause) == (Over.ENDED, Cause.RESET), text
    assert text.rstrip().endswith("over") or "\nover\n" in text, text
    return text
