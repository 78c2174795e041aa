"""fio_share: 4 KiB random reads by fio in a guest, as a share of those that fio makes on the guest's own host.

Corral on this machine, natively on a pagetable KVM, and QEMU microvm in the nested host, with hardware KVM; there
Corral too. One file in the host's page cache, which a guest has as a disk: the host's fio reads it through the cache,
a guest's past its own. Shares are reported; there is no aim. In a host with hardware KVM,
`python -m benchmarks.fio_share COMMANDS` does what is done in the nested one.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from benchmarks import fio, nested
from benchmarks.measure import Samples, report
from corral.guests import cache

HOST = "the host itself"
JOBS: fio.Jobs = {name: job for name, job in fio.JOBS.items() if job[:2] == ("randread", "4k")}


def native(data: str, folder: str) -> list[str]:
    """The command that runs the jobs on the host; its job file is made in `folder`."""
    jobs = Path(folder) / "jobs"
    jobs.parent.mkdir(parents=True, exist_ok=True)
    jobs.write_text(fio.job_file(JOBS, data, direct=False))
    return [fio.program(), "--minimal", "--terse-version=3", str(jobs)]


def show(by_job: dict[str, Samples], where: str) -> None:
    for job, samples in by_job.items():
        medians = report(f"fio, {job}, {where}: time a request takes", samples, HOST, "us")
        for name, seconds in medians.items():
            if name != HOST:
                print(f"  {name}: {medians[HOST] / seconds:.2f} of the host's rate")


def main() -> bool:
    image = fio.root(JOBS, "fio_share")
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        data = f"{folder}/data"
        here = {HOST: native(data, folder), "Corral": fio.commands(image, data)["Corral"]}
        show(fio.compared(here, JOBS, data), "this machine")
    there = {HOST: native(fio.DATA, cache.folder("bench", "fio_share-jobs"))} | fio.commands(image, fio.DATA)
    show(nested.run("fio_share", there, timeout=1800, disk_mb=512), "in the nested host")
    return True


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(fio.compared(json.loads(sys.argv[1]), JOBS, fio.DATA)))
    else:
        sys.exit(not main())
