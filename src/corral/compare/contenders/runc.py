"""A container by runc, the runtime below Docker and containerd: a bundle with a root that all instances share."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from corral.compare.contenders import control_groups
from corral.compare.contenders.base import Contender, Job, Launch, first_line, package_missing

NAMESPACES = ("pid", "mount", "ipc", "uts", "network")


class Runc(Contender):
    name = "runc"
    title = "container (runc)"

    def missing(self) -> str:
        return package_missing("runc", "runc")

    def version(self) -> str:
        return first_line(["runc", "--version"])

    def launch(self, job: Job) -> Launch:
        bundle = self.kit.fresh("runc")
        own = bundle / "upper" if job.private else None
        (bundle / "config.json").write_text(json.dumps(self._configuration(job, bundle, own)))
        name = f"{self._prefix}{bundle.name}"
        state = ["runc", "--root", str(self.kit.folder / "runc-state")]
        run = [*state, "run", "--bundle", str(bundle), name]
        return Launch(run, undo=([*state, "delete", "--force", name],), layers=(own,) if own else ())

    def files(self, job: Job) -> list[Path]:
        return [job.program, Path(shutil.which("runc") or "/usr/sbin/runc")]

    def remove(self) -> None:
        """The control groups of containers that were interrupted before runc knew that it had them."""
        control_groups.remove(f"{self._prefix}*")

    @property
    def _prefix(self) -> str:
        return f"corral-compare-{os.getpid()}-"

    def _root(self, job: Job) -> Path:
        """The folder that every instance has as its root, read-only."""
        if job.root:
            return job.root
        program = job.program
        root = self.kit.folder / f"root-{program.name}"
        if not root.exists():
            for name in ("bin", "proc", "dev", "own", "tmp"):
                (root / name).mkdir(parents=True)
            shutil.copy2(program, root / "bin" / program.name)
            (root / "scratch").touch()
        return root

    def _configuration(self, job: Job, bundle: Path, own: Path | None) -> dict[str, Any]:
        """config.json of the OCI runtime specification; without root with a user namespace."""
        root = self._root(job)
        mounts: list[dict[str, Any]] = [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
            {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=1777"]},
        ]
        if job.scratch:
            options = ["bind", "rw"]
            mounts.append({"destination": "/scratch", "type": "bind", "source": str(job.scratch), "options": options})
        if own:
            # An overlay over the shared root, in the container's own mount namespace: it goes with the container.
            (bundle / "work").mkdir()
            own.mkdir()
            layers = [f"lowerdir={root}", f"upperdir={own}", f"workdir={bundle}/work"]
            mounts.append({"destination": "/own", "type": "overlay", "source": "overlay", "options": layers})
        linux: dict[str, Any] = {"namespaces": [{"type": name} for name in NAMESPACES]}
        if os.geteuid():
            linux["namespaces"].append({"type": "user"})
            linux["uidMappings"] = [{"containerID": 0, "hostID": os.geteuid(), "size": 1}]
            linux["gidMappings"] = [{"containerID": 0, "hostID": os.getegid(), "size": 1}]
        return {
            "ociVersion": "1.0.2",
            "process": {
                "user": {"uid": 0, "gid": 0},
                "args": [job.inside, *job.words("/scratch", "/own/private")],
                "env": ["PATH=/bin"],
                "cwd": "/",
                "noNewPrivileges": True,
            },
            "root": {"path": str(root), "readonly": True},
            "hostname": "container",
            "mounts": mounts,
            "linux": linux,
        }
