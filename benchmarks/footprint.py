"""footprint: the memory that a VMM process takes for itself, guest RAM apart, while a guest runs."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable

from benchmarks import installed
from benchmarks.measure import verdict
from corral.guests import initramfs, kernel
from tests.support.tiny_guests import tiny_guest

GUEST_RAM = 128  # MiB; tells the mapping of it from the others
SETTLE = 0.2  # seconds; what start-up needed for a moment is given back


def memory_of(pid: int, is_guest_ram: Callable[[int], bool]) -> tuple[float, float]:
    """Private and resident MiB of a process, from /proc/PID/smaps, without what `is_guest_ram(size)` picks.

    Code that another process happens to map as well is not private; what is resident is the most that can be.
    """
    private, resident, counts = 0, 0, True
    with open(f"/proc/{pid}/smaps") as smaps:
        for line in smaps:
            words = line.split()
            if "-" in words[0] and not words[0].endswith(":"):
                begin, end = (int(word, 16) for word in words[0].split("-"))
                counts = not is_guest_ram(end - begin)
            elif counts and words[0] == "Rss:":
                resident += int(words[1])
            elif counts and words[0] in ("Private_Clean:", "Private_Dirty:", "Private_Hugetlb:"):
                private += int(words[1])
    return private / 1024, resident / 1024


def running(command: list[str], mark: bytes, is_guest_ram: Callable[[int], bool]) -> tuple[float, float]:
    """Starts a VMM, waits for `mark` on its guest's console, and looks at it then."""
    process = subprocess.Popen(
        command,
        bufsize=0,
        env=installed.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    try:
        received = b""
        while mark not in received:
            data = process.stdout.read(65536)
            if not data:
                raise RuntimeError(f"{command[0]} ended before its guest said {mark.decode()!r}")
            received += data
        time.sleep(SETTLE)
        return memory_of(process.pid, is_guest_ram)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def main() -> bool:
    tiny, linux = str(tiny_guest("spin")), kernel.get("small").path
    memory = f"{GUEST_RAM}M"
    corral = [installed.corral(), "boot", "--memory", memory]
    qemu = ["qemu-system-x86_64", "-M", "microvm", "-accel", "kvm", "-m", memory, "-display", "none", "-nodefaults"]
    qemu += ["-no-user-config", "-no-reboot", "-serial", "stdio", "-kernel", tiny]

    def ram(size: int) -> bool:
        return size == GUEST_RAM << 20

    found = {
        "Corral, a guest that spins": running([*corral, tiny], b"r", ram),
        "Corral, Linux": running([*corral, linux, "--initrd", initramfs.path()], b"corral: init", ram),
        "QEMU microvm, a guest that spins": running(qemu, b"r", ram),
    }
    print("\nfootprint: memory of the VMM process beside guest RAM, a guest running (MiB)")
    print(f"  {'':34}{'private':>10}{'resident':>10}{'ratio':>9}")
    microvm = found["QEMU microvm, a guest that spins"][1]
    for name, (private, resident) in found.items():
        print(f"  {name:34}{private:10.1f}{resident:10.1f}{resident / microvm:9.2f}")
    return verdict("Corral, all that is resident", max(found[name][1] for name in found if "Corral" in name), 16, "MiB")


if __name__ == "__main__":
    sys.exit(not main())
