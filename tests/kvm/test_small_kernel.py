"""The small kernel and our init on this host's KVM: what programs find there, and every way to end a guest."""

from __future__ import annotations

import subprocess
import sys

import pytest

from corral.guests import initramfs, kernel, parameters
from corral.kvm.system import host_kind

LONG = 300.0  # seconds

CPUS = {"small": 1, "small-smp": 2}

WHAT_PROGRAMS_FIND = """
hostname
grep -w ext4 /proc/filesystems
grep -w virtblk /proc/devices
mount
tty
grep -c ^processor /proc/cpuinfo
: > /tmp/file && ls /tmp
dmesg | grep -E '(BUG|WARNING|Oops): ' || echo nothing wrong
"""


def ready(name: str) -> kernel.KernelFile:
    found = {file.name: file for file in kernel.ready()}
    if name not in found:
        pytest.skip(f"kernel {name} is not built: corral kernel build {name}")
    return found[name]


def run(image: kernel.KernelFile, command: str) -> subprocess.CompletedProcess[bytes]:
    """What `corral boot -- command` does, with this kernel."""
    line = f"{parameters.for_kind(host_kind(), stock=False)} {parameters.for_command([command])}"
    boot = [sys.executable, "-m", "corral", "boot", image.path, "--initrd", initramfs.path()]
    return subprocess.run(
        [*boot, "--memory", "128M", "--cpus", str(CPUS[image.name]), "--append", line],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=LONG,
        check=False,
    )


@pytest.mark.parametrize("name", kernel.VARIANTS)
def test_what_programs_find(name: str) -> None:
    done = run(ready(name), WHAT_PROGRAMS_FIND)
    said = done.stdout.decode().replace("\r\n", "\n").splitlines()
    assert done.returncode == 0, done
    assert said[0] == "corral: init"
    assert said[1] == "corral"
    assert said[2].split() == ["ext4"]
    assert said[3].split()[1] == "virtblk"
    mounted = {line.split()[2] for line in said if " on /" in line}
    assert {"/", "/dev", "/proc", "/tmp"} <= mounted
    assert said[said.index("/dev/ttyS0") + 1] == str(CPUS[name])
    assert "file" in said
    assert "nothing wrong" in said


# How a guest ends is init's doing, and each of the kernels ended so above.
@pytest.mark.parametrize("command", ["poweroff; sleep 100", "reboot; sleep 100"])
def test_busybox_ends_the_guest(command: str) -> None:
    done = run(ready("small"), command)
    assert done.returncode == 0, done
    assert b"reboot: Restarting system" in done.stdout


def test_a_shell_that_is_killed_does_not_hold_the_guest() -> None:
    done = run(ready("small"), "sleep 100 & kill -9 $$")
    assert done.returncode == 128 + 9, done
