"""What all virtual machines boot here: Corral's small kernel, and its initramfs with the program added."""

from __future__ import annotations

from pathlib import Path

from corral.compare.contenders.base import Job, Kit
from corral.guests import initramfs, kernel

MARKER = b"corral: init"
FILE = 0o100755
DISK = "/dev/vda"


def kernel_path() -> Path:
    return Path(kernel.get("small").path)


def initrd(kit: Kit, program: Path) -> Path:
    """Two archives in a row, which the kernel unpacks one after the other."""
    if program not in kit.images:
        base = Path(initramfs.path()).read_bytes()
        added = initramfs.entry(f"bin/{program.name}", FILE, program.read_bytes())
        path = kit.folder / f"{program.name}.cpio"
        path.write_bytes(base + added + initramfs.trailer())
        kit.images[program] = path
    return kit.images[program]


def command(job: Job) -> list[str]:
    return [f"/bin/{job.program.name}", *job.words(DISK, DISK)]
