"""What a well-known tool says: the same program and libraries everywhere, in a root of their own."""

from __future__ import annotations

import shutil
from pathlib import Path

from corral.compare import patience, tools
from corral.compare.contenders.base import Contender, Job, Unsuitable
from corral.compare.measures.base import Cpus, Measure, Metrics
from corral.compare.tools import Tool

LIMIT = 120.0  # seconds
MEMORY = 256 << 20  # bytes: fio is linked with a hundred libraries


class ToolMeasure(Measure):
    def __init__(self, tool: Tool) -> None:
        self.name, self.title = tool.name, f"{tool.package}: {' '.join(tool.arguments[:2])}"
        self._tool = tool

    def take(self, contender: Contender, place: Cpus) -> Metrics:
        program = shutil.which(self._tool.package)
        if program is None:
            raise Unsuitable(f"{self._tool.package} is not installed: apt-get install {self._tool.package}")
        root = place.folder / f"root-of-{self._tool.package}"
        if not root.exists():
            tools.root(Path(program), root)
        scratch = place.folder / f"scratch-{self.name}" if self._tool.scratch else None
        if scratch:
            # Written, for what is not there yet takes another way.
            scratch.write_bytes(bytes(self._tool.scratch << 20))
        job = Job(Path(program), self._tool.arguments, scratch, root=root, memory=MEMORY)
        with contender.started(job, place.pinned) as process:
            process.succeed(patience.scaled(LIMIT))
            return self._tool.read(b"".join(contender.said(process)).decode(errors="replace"))
