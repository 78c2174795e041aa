"""What all virtual machines boot here: Corral's small kernel, and its initramfs with the program added."""

from __future__ import annotations

import shlex
from pathlib import Path

from corral.compare.contenders.base import Job, Kit
from corral.files import cpio
from corral.guests import initramfs, kernel
from corral.images.build import from_folder

MARKER = b"corral: init"
FILE = 0o100755
DISK, SECOND_DISK = "/dev/vda", "/dev/vdb"
# A job's root, where it has one, is the first disk.
ENTER = """mkdir /disk && mount -t ext4 -o ro /dev/vda /disk && mount -t devtmpfs dev /disk/dev &&
mount -t proc proc /disk/proc && mount -t tmpfs tmp /disk/tmp && mount -t tmpfs tmp /disk/var/tmp"""


def kernel_path() -> Path:
    return Path(kernel.get("small").path)


def initrd(kit: Kit, job: Job) -> Path:
    """Two archives in a row, which the kernel unpacks one after the other; with a root of its own, the first alone."""
    if job.root:
        return Path(initramfs.path())
    program = job.program
    if program not in kit.images:
        base = Path(initramfs.path()).read_bytes()
        added = cpio.entry(f"bin/{program.name}", FILE, program.read_bytes())
        path = kit.folder / f"{program.name}.cpio"
        path.write_bytes(base + added + cpio.trailer())
        kit.images[program] = path
    return kit.images[program]


def root_disk(kit: Kit, root: Path) -> Path:
    """A program's root as an ext4 image, which no guest writes to."""
    if root not in kit.images:
        path = kit.folder / f"{root.name}.img"
        from_folder(str(root), str(path), None, lambda text: None)
        kit.images[root] = path
    return kit.images[root]


def command(job: Job) -> list[str]:
    if not job.root:
        return [job.inside, *job.words(DISK, DISK)]
    line = shlex.join([job.inside, *job.words(SECOND_DISK, SECOND_DISK)])
    return [f"{ENTER} && exec chroot /disk {line}"]
