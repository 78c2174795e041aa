"""A container by bubblewrap: namespaces of its own, and a root with the program alone."""

from __future__ import annotations

import shutil
from pathlib import Path

from corral.compare.contenders.base import Contender, Job, Launch, first_line, package_missing


class Bubblewrap(Contender):
    name = "bubblewrap"
    title = "container (bubblewrap)"

    def missing(self) -> str:
        return package_missing("bwrap", "bubblewrap")

    def version(self) -> str:
        return first_line(["bwrap", "--version"])

    def launch(self, job: Job) -> Launch:
        argv = ["bwrap", "--unshare-all", "--die-with-parent", "--new-session"]
        argv += ["--ro-bind", str(job.root), "/"] if job.root else ["--ro-bind", str(job.program), job.inside]
        argv += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]
        layers: tuple[Path, ...] = ()
        if job.scratch:
            argv += ["--bind", str(job.scratch), "/scratch"]
        if job.private:
            # This program has no overlays before 0.11: a folder of its own, beside the root that all share.
            own = self.kit.fresh("bubblewrap")
            layers = (own,)
            argv += ["--bind", str(own), "/own"]
        argv += ["--", job.inside, *job.words("/scratch", "/own/private")]
        return Launch(argv, layers=layers)

    def files(self, job: Job) -> list[Path]:
        return [job.program, Path(shutil.which("bwrap") or "/usr/bin/bwrap")]
