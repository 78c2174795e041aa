"""blk: a virtio-blk device at native speed, one bare guest under Corral and under QEMU microvm.

The guest (guests/bare) drives the device from CPL 3, where this machine's KVM runs it natively whatever its kind, and
polls. Requests a second are by the guest's own clock. CPU time is that of all threads of the VMM, kernel workers
included, but the vCPU's, where the guest polls: what a doorbell costs there is KVM's and the same for both.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

from benchmarks import installed
from benchmarks.measure import verdict, wait_until_quiet
from corral.guests import cache
from corral.startup.record import record
from tests.support.bare_guests import blk_guest, make_image

ROUNDS = 5
DEPTHS = (1, 4, 16, 32, 64, 128)
IMAGE_SIZE = 128 << 20
REQUESTS = {1: 60_000, 4: 120_000}  # by depth: long enough for the host's scheduler to have placed the threads
MORE_REQUESTS = 200_000
MEMORY = 64  # MiB
GUARD = 30  # seconds, of a run
PATIENCE = 300.0  # seconds, for all of it
DIRECT_DEPTHS, DIRECT_FEWER = (1, 16, 64), 10
CORRAL, VCPU = "Corral", ("vcpu0", "CPU 0/KVM")  # what Corral and QEMU call the vCPU's thread
LEAST_RATE, MOST_CPU = 1.3, 0.7  # of QEMU's

_CPU_CLOCK = 2  # with the complement of a process: its CPU time (linux/posix-timers.h: CPUCLOCK_SCHED)
_KVM_CREATE_VM, _KVM_CREATE_VCPU, _KVM_GET_TSC_KHZ = 0xAE01, 0xAE41, 0xAEA3


@record(frozen=True)
class Sample:
    """Of one request: seconds until the next, and seconds of CPU time, without and with the vCPU's thread."""

    elapsed: float
    cpu: float
    whole: float


def tsc_rate() -> float:
    """Cycles of the guest's clock a second."""
    descriptors = [os.open("/dev/kvm", os.O_RDWR)]
    try:
        descriptors.append(fcntl.ioctl(descriptors[-1], _KVM_CREATE_VM, 0))
        descriptors.append(fcntl.ioctl(descriptors[-1], _KVM_CREATE_VCPU, 0))
        return fcntl.ioctl(descriptors[-1], _KVM_GET_TSC_KHZ, 0) * 1e3
    finally:
        for descriptor in reversed(descriptors):
            os.close(descriptor)


def cpu_times(pid: int) -> dict[tuple[bool, str], float]:
    """Seconds that each thread of a process has run, by whether it is the vCPU's, and id; exact for one that sleeps."""
    times = {}
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/comm") as comm, open(f"/proc/{pid}/task/{thread}/schedstat") as schedstat:
            times[comm.read().rstrip("\n") in VCPU, thread] = int(schedstat.read().split()[0]) / 1e9
    return times


def run(command: list[str], requests: int, rate: float) -> Sample:
    """Boots the guest, has it make its requests, and then verify what it did. It waits for a byte before each."""
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        command, bufsize=0, env=installed.environment(), stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL
    )
    clock = (~process.pid << 3) | _CPU_CLOCK
    watchdog = threading.Timer(GUARD, process.kill)
    watchdog.start()
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        _expect(rb"ready", process)
        before, whole = cpu_times(process.pid), -time.clock_gettime(clock)
        process.stdin.write(b"r")
        ran = _expect(rb"ran (\d+) requests in (\d+) cycles with (\d+) doorbells", process)
        after, whole = cpu_times(process.pid), whole + time.clock_gettime(clock)
        process.stdin.write(b"v")
        _expect(rb"right: (\d+) blocks", process)
        watchdog.cancel()
    took = {thread: after[thread] - before.get(thread, 0) for thread in after}
    vcpu = sum(seconds for (is_vcpu, _), seconds in took.items() if is_vcpu)
    # Workers end when they have nothing to do; what they ran only their process still knows, to a tick of the vCPU's.
    others = sum(took.values()) - vcpu if before.keys() <= after.keys() else whole - vcpu
    return Sample(int(ran[2]) / rate / requests, others / requests, (others + vcpu) / requests)


def _expect(pattern: bytes, process: subprocess.Popen[bytes]) -> re.Match[bytes]:
    assert process.stdout is not None
    line = process.stdout.readline()
    match = re.fullmatch(pattern + b"\n", line)
    if not match:
        process.kill()
        raise RuntimeError(f"{process.args!r}: {line!r}")
    return match


def contenders(guest: str, image: str, direct: bool) -> dict[str, list[str]]:
    """Commands, but for the guest's own parameters at their end."""
    disk = f"{image},cache={'direct' if direct else 'writeback'}"
    commands = {CORRAL: [installed.corral(), "boot", guest, "--memory", f"{MEMORY}M", "--disk", disk, "--append"]}
    machine = ["qemu-system-x86_64", "-M", "microvm,acpi=off", "-accel", "kvm", "-m", str(MEMORY), "-display", "none"]
    machine += ["-nodefaults", "-no-user-config", "-no-reboot", "-serial", "stdio", "-name", "bare,debug-threads=on"]
    machine += ["-global", "virtio-mmio.force-legacy=off", "-kernel", guest, "-object", "iothread,id=io"]
    for aio in ("io_uring", "threads", *(["native"] if direct else [])):
        drive = f"if=none,id=disk,file={image},format=raw,cache={'none' if direct else 'writeback'},aio={aio}"
        for loop, where in (("main loop", ""), ("iothread", ",iothread=io")):
            device = ["-drive", drive, "-device", f"virtio-blk-device,drive=disk{where}"]
            commands[f"QEMU, {aio}, {loop}"] = [*machine, *device, "-append"]
    return commands


class Measurement:
    """Tables of all contenders, who take turns while nobody else uses the machine, as long as there is patience."""

    def __init__(self) -> None:
        self._rate = tsc_rate()
        self._patience = PATIENCE

    def table(self, title: str, image: str, operation: str, depth: int, direct: bool = False) -> list[bool]:
        requests = REQUESTS.get(depth, MORE_REQUESTS) // (DIRECT_FEWER if direct else 1)
        words = f"op={operation} depth={depth} requests={requests} wait"
        commands = contenders(str(blk_guest()), image, direct)
        samples: dict[str, list[Sample]] = {name: [] for name in commands}
        for _ in range(ROUNDS):
            for name, command in commands.items():
                self._patience = wait_until_quiet(self._patience)
                samples[name].append(run([*command, words], requests, self._rate))
        print(f"\n{title}, depth {depth} ({ROUNDS} interleaved rounds; ratios to the fastest QEMU)")
        if not self._patience:
            print("  (other programs kept this machine busy)")
        return _compare(samples, verdicts=not direct)


def _compare(samples: dict[str, list[Sample]], verdicts: bool) -> list[bool]:
    def median(name: str, value: str) -> float:
        return statistics.median(getattr(sample, value) for sample in samples[name])

    peers = [name for name in samples if name != CORRAL]
    peer = min(peers, key=lambda name: median(name, "elapsed"))
    thrifty = min(peers, key=lambda name: median(name, "cpu"))
    print(f"  {'':28}{'requests/s':>12}{'min':>9}{'max':>9}{'ratio':>7}{'CPU us':>9}{'ratio':>7}{'with vCPU':>11}")
    for name, found in samples.items():
        rates = [1 / median(name, "elapsed"), *(f(1 / sample.elapsed for sample in found) for f in (min, max))]
        cpu, whole = median(name, "cpu"), median(name, "whole")
        row = f"{rates[0]:12.0f}{rates[1]:9.0f}{rates[2]:9.0f}{median(peer, 'elapsed') * rates[0]:7.2f}"
        print(f"  {name:28}{row}{cpu * 1e6:9.2f}{cpu / median(peer, 'cpu'):7.2f}{whole * 1e6:11.2f}")
    if "--json" in sys.argv:
        print(json.dumps({name: [[s.elapsed, s.cpu, s.whole] for s in found] for name, found in samples.items()}))
    if not verdicts:
        return []
    return [
        verdict("time between requests", median(CORRAL, "elapsed") / median(peer, "elapsed"), round(1 / LEAST_RATE, 2)),
        verdict("CPU time, to the thriftiest", median(CORRAL, "cpu") / median(thrifty, "cpu"), MOST_CPU),
    ]


def main() -> bool:
    depths = [int(word) for word in sys.argv[1:] if word.isdigit()]
    measurement, met = Measurement(), []
    for operation in ("read", "write"):
        image = cache.folder("bench", f"blk-{operation}.img")
        os.makedirs(os.path.dirname(image), exist_ok=True)
        make_image(Path(image), IMAGE_SIZE)
        for depth in depths or DEPTHS:
            met += measurement.table(f"blk: random {operation}s of 4 KiB, page cache", image, operation, depth)
    for depth in depths or DIRECT_DEPTHS:  # that is this machine's disk more than a VMM: no figure is asked for
        title = "blk: random reads of 4 KiB, past the page cache"
        measurement.table(title, cache.folder("bench", "blk-read.img"), "read", depth, direct=True)
    return all(met)


if __name__ == "__main__":
    sys.exit(not main())
