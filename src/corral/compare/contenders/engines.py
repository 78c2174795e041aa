"""Containers by an engine, podman or Docker: an image with one file, and what the engine does around a container."""

from __future__ import annotations

import io
import os
import resource
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import ClassVar

from corral.compare.contenders import control_groups
from corral.compare.contenders.base import Contender, Job, Launch, Unsuitable, first_line
from corral.compare.processes import Measured, descendants

LIMIT = 1024  # open files, and processes
LONGEST = 60.0  # seconds that an engine may take to take an image


class _Engine(Contender):
    """Both take the same words."""

    package: ClassVar[str]
    ask: ClassVar[list[str]]

    def missing(self) -> str:
        if shutil.which(self.name) is None:
            return f"{self.name} is not installed: apt-get install {self.package}"
        try:
            done = subprocess.run(
                [self.name, *self.ask],
                capture_output=True,
                text=True,
                stdin=subprocess.DEVNULL,
                timeout=20,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"{self.name} does not answer"
        if done.returncode == 0:
            return ""
        return f"{self.name} does not work here: " + (done.stderr.strip().splitlines() or ["it does not say why"])[-1]

    def version(self) -> str:
        return first_line([self.name, "--version"])

    def launch(self, job: Job) -> Launch:
        if job.private:
            raise Unsuitable("an engine keeps its containers' layers in a place of its own, beside all others")
        image = self._image(job)
        self.kit.count += 1
        name = f"corral-compare-{os.getpid()}-{self.kit.count}"
        argv = [self.name, "run", "--rm", "--name", name, "--network", "none", "--pull", "never", *_limits()]
        if job.scratch:
            argv += ["--volume", f"{job.scratch}:/scratch"]
        words = job.words("/scratch", "")
        return Launch([*argv, image, job.inside, *words], undo=([self.name, "rm", "--force", name],))

    def remove(self) -> None:
        """Takes its images away again."""
        for image in self._images.values():
            subprocess.run(
                [self.name, "rmi", "--force", image], stdin=subprocess.DEVNULL, capture_output=True, check=False
            )

    def _image(self, job: Job) -> str:
        program = job.program
        if program not in self._images:
            tag = f"corral-compare-{os.getpid()}:{program.name}"
            self._images[program] = tag
            archive = io.BytesIO()
            with tarfile.open(fileobj=archive, mode="w") as tar:
                tar.add(job.root or program, "" if job.root else f"bin/{program.name}")
            command = [self.name, "import", "-", tag]
            done = subprocess.run(command, input=archive.getvalue(), capture_output=True, timeout=LONGEST, check=False)
            if done.returncode:
                raise Unsuitable(f"{self.name} import: {done.stderr.decode(errors='replace').strip()[-200:]}")
        return self._images[program]

    @property
    def _images(self) -> dict[Path, str]:
        images: dict[Path, str] = self.__dict__.setdefault("images", {})
        return images


def _limits() -> list[str]:
    """Modest ones: by themselves engines raise them, which may be forbidden where this runs."""
    words = []
    for name, number in (("nofile", resource.RLIMIT_NOFILE), ("nproc", resource.RLIMIT_NPROC)):
        _, hard = resource.getrlimit(number)
        limit = LIMIT if hard == resource.RLIM_INFINITY else min(LIMIT, hard)
        words += ["--ulimit", f"{name}={limit}:{limit}"]
    return words


class Podman(_Engine):
    name = "podman"
    title = "container (podman)"
    package = "podman"
    ask: ClassVar[list[str]] = ["info"]

    def remove(self) -> None:
        super().remove()
        if not self._images:
            return
        known = subprocess.run(
            [self.name, "ps", "--all", "--quiet", "--no-trunc"], capture_output=True, text=True, check=False
        )
        if known.returncode == 0:
            listed = set(known.stdout.split())
            control_groups.remove("libpod-*", lambda name: name.rpartition("-")[2] not in listed)

    def processes(self, process: Measured) -> list[int]:
        """conmon detaches itself, and becomes a child of ours."""
        return descendants(os.getpid())


class Docker(_Engine):
    name = "docker"
    title = "container (Docker)"
    package = "docker.io"
    ask: ClassVar[list[str]] = ["info", "--format", "{{.ServerVersion}}"]

    def processes(self, process: Measured) -> list[int]:
        raise Unsuitable("Docker's containers belong to its daemon, so an instance's processes are not told apart")
