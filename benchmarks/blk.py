"""blk: a virtio-blk device at native speed, one bare guest under Corral and under QEMU microvm.

The guest (guests/bare) drives the device from CPL 3, where this machine's KVM runs it natively whatever its kind, and
polls. Requests a second are by the guest's own clock. CPU time is that of the VMM's threads without the vCPU's, which
spins by itself; its share of a request, the doorbell, is KVM's in either VMM.
"""

from __future__ import annotations

import fcntl
import os
import re
import statistics
import subprocess
import sys
import threading
from pathlib import Path

from benchmarks import installed
from benchmarks.measure import verdict
from corral.guests import cache
from corral.record import record
from tests.support.bare_guests import blk_guest, make_image

ROUNDS = 5
DEPTHS = (1, 4, 16, 32, 64, 128)
IMAGE_SIZE = 128 << 20
REQUESTS = {1: 20_000, 4: 60_000}  # by depth: half a second or so
MORE_REQUESTS = 150_000
MEMORY = 64  # MiB
GUARD = 20  # seconds
DIRECT_FEWER = 4
CORRAL = "Corral"
LEAST_RATE, MOST_CPU = 1.3, 0.7  # of QEMU's

_KVM_CREATE_VM, _KVM_CREATE_VCPU, _KVM_GET_TSC_KHZ = 0xAE01, 0xAE41, 0xAEA3
_VCPU = ("vcpu0", "CPU 0/KVM")  # what Corral and QEMU call that thread


@record(frozen=True)
class Sample:
    """Of one request: seconds until the next, and seconds of CPU time that the VMM took for it."""

    elapsed: float
    cpu: float


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


def cpu_times(pid: int) -> dict[str, float]:
    """Seconds that each thread of a process has run, but for the vCPU's; exact for those that sleep."""
    times = {}
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/comm") as comm, open(f"/proc/{pid}/task/{thread}/schedstat") as schedstat:
            if comm.read().rstrip("\n") not in _VCPU:
                times[thread] = int(schedstat.read().split()[0]) / 1e9
    return times


def run(command: list[str], requests: int, rate: float) -> Sample:
    """Boots the guest, has it make its requests, and then verify what it did. It waits for a byte before each."""
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        command, bufsize=0, env=installed.environment(), stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL
    )
    watchdog = threading.Timer(GUARD, process.kill)
    watchdog.start()
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        _expect(rb"ready", process)
        before = cpu_times(process.pid)
        process.stdin.write(b"r")
        ran = _expect(rb"ran (\d+) requests in (\d+) cycles with (\d+) doorbells", process)
        after = cpu_times(process.pid)
        process.stdin.write(b"v")
        _expect(rb"right: (\d+) blocks", process)
        watchdog.cancel()
    if not before.keys() <= after.keys():
        raise RuntimeError(f"{' '.join(command)}: a thread ended, and with it what it counted")
    cpu = sum(after[thread] - before.get(thread, 0) for thread in after)
    return Sample(int(ran[2]) / rate / requests, cpu / requests)


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


def measure(title: str, image: str, parameters: str, depth: int, rate: float, direct: bool) -> list[bool]:
    """Runs all contenders in turns, and prints a table of them."""
    requests = REQUESTS.get(depth, MORE_REQUESTS) // (DIRECT_FEWER if direct else 1)
    words = f"{parameters} depth={depth} requests={requests} wait"
    commands = contenders(str(blk_guest()), image, direct)
    samples: dict[str, list[Sample]] = {name: [] for name in commands}
    for _ in range(ROUNDS):
        for name, command in commands.items():
            samples[name].append(run([*command, words], requests, rate))
    rates = {name: statistics.median(1 / s.elapsed for s in found) for name, found in samples.items()}
    cpu = {name: statistics.median(s.cpu for s in found) for name, found in samples.items()}
    peer = max((name for name in commands if name != CORRAL), key=rates.__getitem__)
    print(f"\n{title}, depth {depth} ({ROUNDS} interleaved rounds; ratios to the fastest QEMU)")
    print(f"  {'':34}{'requests/s':>12}{'min':>10}{'max':>10}{'ratio':>8}{'CPU us':>10}{'ratio':>8}")
    for name, found in samples.items():
        row = f"{rates[name]:12.0f}" + "".join(f"{f(1 / s.elapsed for s in found):10.0f}" for f in (min, max))
        print(f"  {name:34}{row}{rates[name] / rates[peer]:8.2f}{cpu[name] * 1e6:10.2f}{cpu[name] / cpu[peer]:8.2f}")
    return [
        verdict("time between requests, Corral / QEMU", rates[peer] / rates[CORRAL], 1 / LEAST_RATE),
        verdict("CPU time of a request, Corral / QEMU", cpu[CORRAL] / cpu[peer], MOST_CPU),
    ]


def main() -> bool:
    rate = tsc_rate()
    chosen = [int(word) for word in os.environ.get("DEPTHS", "").split()] or DEPTHS
    met = []
    for operation in ("read", "write"):
        image = cache.folder("bench", f"blk-{operation}.img")
        os.makedirs(os.path.dirname(image), exist_ok=True)
        make_image(Path(image), IMAGE_SIZE)
        for depth in chosen:
            title = f"blk: random {operation}s of 4 KiB, page cache"
            met += measure(title, image, f"op={operation}", depth, rate, direct=False)
    return all(met)


if __name__ == "__main__":
    sys.exit(not main())
