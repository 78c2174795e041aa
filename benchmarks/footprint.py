"""footprint: the memory that a VMM process takes for itself, guest RAM apart, while a guest runs."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable

from benchmarks import installed
from benchmarks.measure import verdict
from tests.support.tiny_guests import tiny_guest

GUEST_RAM = 64  # MiB; tells QEMU's mapping of it from the others


def private_mib(pid: int, is_guest_ram: Callable[[str, int], bool]) -> float:
    """Private MiB of a process, from /proc/PID/smaps, without mappings that `is_guest_ram(name, size)` picks."""
    total, counts = 0, True
    with open(f"/proc/{pid}/smaps") as smaps:
        for line in smaps:
            words = line.split()
            if "-" in words[0] and not words[0].endswith(":"):
                begin, end = (int(word, 16) for word in words[0].split("-"))
                counts = not is_guest_ram(" ".join(words[5:]), end - begin)
            elif words[0] in ("Private_Clean:", "Private_Dirty:", "Private_Hugetlb:") and counts:
                total += int(words[1])
    return total / 1024


def running(command: list[str], is_guest_ram: Callable[[str, int], bool]) -> float:
    """Starts a VMM whose guest says one byte on its console, and looks at it then."""
    process = subprocess.Popen(
        command, env=installed.environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    try:
        if not process.stdout.read(1):
            raise RuntimeError(f"{command[0]} ended before its guest said anything")
        time.sleep(0.2)  # what start-up needed for a moment is given back
        return private_mib(process.pid, is_guest_ram)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def main() -> bool:
    guest = str(tiny_guest("spin"))
    corral = running(
        [installed.corral(), "boot", guest, "--memory", f"{GUEST_RAM}M"], lambda name, size: "corral-ram" in name
    )
    qemu = ["qemu-system-x86_64", "-M", "microvm", "-accel", "kvm", "-m", str(GUEST_RAM), "-display", "none"]
    qemu += ["-nodefaults", "-no-user-config", "-no-reboot", "-serial", "stdio", "-kernel", guest]
    microvm = running(qemu, lambda name, size: size == GUEST_RAM << 20)
    print("\nfootprint: private memory of the VMM process beside guest RAM, a guest running (MiB)")
    print(f"  Corral        {corral:6.1f}\n  QEMU microvm  {microvm:6.1f}\n  ratio         {corral / microvm:6.2f}")
    return verdict("Corral", corral, 16, "MiB")


if __name__ == "__main__":
    sys.exit(not main())
