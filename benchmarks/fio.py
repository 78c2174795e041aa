"""fio: the same fio in the same guest kernel on the same image, in turns under Corral and under QEMU microvm.

In a nested host, whose own disk has the image, in page cache: what is compared is the work of the two VMMs, not a
disk's. QEMU with io_uring; its better one of with and without an I/O thread counts. In a host with hardware KVM,
`python -m benchmarks.fio COMMANDS` does what is done in the nested one.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from benchmarks import installed, nested
from benchmarks.measure import Samples, report, verdict
from corral.guests import cache, debian, kernel, parameters
from corral.images.build import from_folder
from corral.kvm.system import Kind
from tests.nested.host import DISK
from tests.support import root_image

ROUNDS = 5
LIMIT = 120.0  # seconds, of one guest
DEATHS = 2  # of a guest, that are made good by another run
MEMORY = "256M"
SIZE = 64  # MiB, of the image that fio works on
DATA = f"{DISK}/data"  # the image, in the nested host

Jobs = dict[str, tuple[str, str, int]]  # by name: fio's rw, block size, depth
JOBS: Jobs = {
    "4 KiB random read, depth 1": ("randread", "4k", 1),
    "4 KiB random read, depth 32": ("randread", "4k", 32),
    "4 KiB random write, depth 1": ("randwrite", "4k", 1),
    "4 KiB random write, depth 32": ("randwrite", "4k", 32),
    "1 MiB sequential read, depth 4": ("read", "1m", 4),
    "1 MiB sequential write, depth 4": ("write", "1m", 4),
}

GLOBAL = """[global]
ioengine=libaio
thread=1
time_based=1
ramp_time=500ms
runtime=3s
norandommap=1
stonewall
"""

SCRIPT = """#!/bin/sh
fio --minimal --terse-version=3 /jobs
"""

# Fields of fio's terse format, version 3, of which a line is a job (fio's HOWTO): requests per second.
NAME, READS, WRITES = 2, 7, 48


def program() -> str:
    """fio, installed if need be."""
    fio = shutil.which("fio")
    if fio is None:
        debian.require_installed(["fio"], "the fio benchmark")
        fio = "/usr/bin/fio"
    return fio


def job_file(jobs: Jobs, path: str, direct: bool) -> str:
    """Text: jobs one after the other on the device or file at `path`, past the page cache or through it."""
    text = f"{GLOBAL}filename={path}\ndirect={direct:d}\n"
    for index, (kind, size, depth) in enumerate(jobs.values()):
        text += f"[{index}]\nrw={kind}\nbs={size}\niodepth={depth}\n"
    return text


def root(jobs: Jobs, name: str) -> Path:
    """A root file system with fio, the libraries it is linked with, and jobs for the second disk."""
    fio = program()
    target = cache.folder("bench", f"{name}-{kernel.get('small').version}")
    image = Path(target) / "root.img"
    with tempfile.TemporaryDirectory() as folder:
        tree = root_image.tree(Path(folder) / "root")
        linked = subprocess.run(["ldd", fio], check=True, capture_output=True, text=True).stdout
        for word in [fio, *(word for word in linked.split() if word.startswith("/"))]:
            copy = tree / word.lstrip("/")
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(word, copy)
        (tree / "jobs").write_text(job_file(jobs, "/dev/vdb", direct=True))
        (tree / "fio.sh").write_text(SCRIPT)
        (tree / "fio.sh").chmod(0o755)
        Path(target).mkdir(parents=True, exist_ok=True)
        image.unlink(missing_ok=True)
        from_folder(str(tree), str(image), None, lambda _: None)
    return image


def commands(image: Path, data: str) -> dict[str, list[str]]:
    """Guests of `image`, whose second disk is `data`."""
    small = kernel.get("small").path
    run = "corral.run=/fio.sh"
    corral = [installed.corral(), "boot", small, "--memory", MEMORY, "--append", run]
    corral += ["--disk", f"{image},snapshot=on", "--disk", f"{data},serial=data"]
    qemu = ["qemu-system-x86_64", "-M", "microvm,acpi=off", "-accel", "kvm", "-cpu", "host", "-m", MEMORY]
    qemu += ["-display", "none", "-nodefaults", "-no-user-config", "-no-reboot", "-serial", "stdio"]
    qemu += ["-global", "virtio-mmio.force-legacy=false", "-kernel", small]
    linux = f"{parameters.for_kind(Kind.HARDWARE, stock=False)} root=/dev/vda rw rootwait {run}"
    qemu += ["-append", linux]
    options = "if=none,format=raw,cache=writeback,aio=io_uring"
    own = ["-drive", f"id=data,file={data},{options}", "-device", "virtio-blk-device,drive=data,serial=data"]
    system = ["-drive", f"id=root,file={image},{options},snapshot=on", "-device", "virtio-blk-device,drive=root"]
    thread = ["-object", "iothread,id=io"]
    own_thread = [*own[:-1], own[-1] + ",iothread=io"]
    return {
        "Corral": corral,
        "QEMU microvm": [*qemu, *system, *own],
        "QEMU microvm, I/O thread": [*qemu, *system, *thread, *own_thread],
    }


def once(command: list[str], jobs: Jobs) -> dict[str, float]:
    """By job, seconds a request takes. A guest is ended as soon as it has told."""
    pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
    process = subprocess.Popen(command, stdin=nothing, stdout=pipe, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    watchdog = threading.Timer(LIMIT, process.kill)
    watchdog.start()
    try:
        said: list[str] = []
        while sum(line.startswith("3;fio") for line in said) < len(jobs):
            said.append(process.stdout.readline())
            if not said[-1]:
                raise RuntimeError(f"{command[0]} ended before fio did; it said: {''.join(said)[-3000:]!r}")
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()
        process.stdout.close()
    rows = [line.split(";") for line in said if line.startswith("3;fio")]
    names = list(jobs)
    return {names[int(row[NAME])]: 1 / (float(row[READS]) + float(row[WRITES])) for row in rows}


def repeated(command: list[str], jobs: Jobs) -> dict[str, float]:
    """once(), again when the guest died: the emulated host makes guests of either VMM die now and then. Told of."""
    for _ in range(DEATHS):
        try:
            return once(command, jobs)
        except RuntimeError as error:
            print(str(error), file=sys.stderr)
    return once(command, jobs)


def compared(contenders: dict[str, list[str]], jobs: Jobs, data: str) -> dict[str, Samples]:
    """By job, on a new file `data`. In the host that has the KVM."""
    Path(data).write_bytes(os.urandom(SIZE << 20))
    samples: dict[str, Samples] = {job: {name: [] for name in contenders} for job in jobs}
    for _ in range(ROUNDS):
        for name, command in contenders.items():
            for job, seconds in repeated(command, jobs).items():
                samples[job][name].append(seconds)
    return samples


def main() -> bool:
    met = True
    by_job: dict[str, Samples] = nested.run("fio", commands(root(JOBS, "fio"), DATA), timeout=1800, disk_mb=512)
    for job, samples in by_job.items():
        peer = min(list(samples)[1:], key=lambda name: statistics.median(samples[name]))
        medians = report(f"fio, {job}, in the nested host: time a request takes", samples, peer, "us")
        met &= verdict(f"Corral / {peer}", medians["Corral"] / medians[peer], 1 / 1.2)
    return met


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(compared(json.loads(sys.argv[1]), JOBS, DATA)))
    else:
        sys.exit(not main())
