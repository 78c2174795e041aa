"""A virtual machine by Corral that goes on from a snapshot which was made once, as `corral boot --restore` makes it."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

from corral.compare.contenders import guest
from corral.compare.contenders.base import Job, Launch, Unsuitable, clean_environment
from corral.compare.contenders.corral_vm import Corral, program

MOUNT = "mkdir /disk && mount -t ext4 -o ro /dev/vda /disk"


class CorralClone(Corral):
    name = "corral-clone"
    title = "VM (Corral, clone)"
    marker = b""

    def launch(self, job: Job) -> Launch:
        if job.scratch:
            raise Unsuitable("all that go on from one snapshot would write one disk")
        if job.placement:
            raise Unsuitable("a guest with a NUMA plan cannot be saved")
        return Launch(
            [*program(), "boot", "--restore", str(self._saved(job)), "--", *_command(job)], clean_environment()
        )

    def files(self, job: Job) -> list[Path]:
        return [guest.kernel_path(), *map(Path, program())]

    def _saved(self, job: Job) -> Path:
        """The snapshot for such jobs: a guest with the program on a disk, before its first command."""
        memory = max(self.kit.memory, job.memory) >> 20
        base = job.base if job.private else None
        key = Path(f"clone of {job.root or job.program} {memory} {job.cpus} {base}")
        if key not in self.kit.images:
            argv = ["--memory", f"{memory}M", "--cpus", str(job.cpus), "--root", "none"]
            argv += ["--disk", f"{guest.root_disk(self.kit, job.root or self._folder(job))},format=raw,ro"]
            if base:
                argv += ["--disk", f"{base},format=raw,snapshot=on"]
            path = self.kit.fresh("clone") / "snapshot"
            command = [*program(), "snapshot", str(path), "--", "boot", *argv]
            done = subprocess.run(command, capture_output=True, text=True, check=False, env=clean_environment())
            if done.returncode:
                raise Unsuitable(f"no snapshot: {done.stderr.strip()}")
            self.kit.images[key] = path
        return self.kit.images[key]

    def _folder(self, job: Job) -> Path:
        """With the program alone."""
        folder = self.kit.folder / f"disk of {job.program.name}"
        if not folder.exists():
            (folder / "bin").mkdir(parents=True)
            shutil.copy(job.program, folder / "bin")
        return folder


def _command(job: Job) -> list[str]:
    if job.root:
        return guest.command(job)
    return [f"{MOUNT} && exec /disk{shlex.join([job.inside, *job.words(guest.SECOND_DISK, guest.SECOND_DISK)])}"]
