"""A process of the host, with nothing around it: what everything else is compared with."""

from __future__ import annotations

from corral.compare.contenders.base import Contender, Job, Launch


class Native(Contender):
    name = "native"
    title = "native process"

    def launch(self, job: Job) -> Launch:
        own = self.kit.fresh("native") if job.private else None
        words = job.words(str(job.scratch), f"{own}/private")
        return Launch([str(job.program), *words], layers=(own,) if own else ())
