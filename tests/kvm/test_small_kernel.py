"""The small kernel and our init on this host's KVM: what programs find there, and every way to end a guest."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from corral.guests import initramfs, kernel, parameters
from corral.launch.kernel import runs_natively
from tests.support.guest_tools import initramfs_with

LONG = 300.0  # seconds

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


GS_BASE = Path(__file__).parents[1] / "support" / "gs_base.c"
NOT_HERE = 77  # its status where programs have no WRGSBASE


def run(
    command: str, cpus: int = 1, interpreted: bool = False, initrd: str | None = None
) -> subprocess.CompletedProcess[bytes]:
    """What `corral boot -- command` does, with this kernel on every kind of host."""
    boot = [sys.executable, "-m", "corral", "boot", kernel.get("small").path, "--initrd", initrd or initramfs.path()]
    boot += ["--append", parameters.NONATIVE] * interpreted
    return subprocess.run(
        [*boot, "--memory", "128M", "--cpus", str(cpus), "--", command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=LONG,
        check=False,
    )


# Where its code is interpreted it takes half a minute.
@pytest.mark.parametrize(
    ("cpus", "interpreted"), [(1, False), (2, False), pytest.param(1, True, marks=pytest.mark.long)]
)
def test_what_programs_find(cpus: int, interpreted: bool) -> None:
    if interpreted and not runs_natively():
        pytest.skip("there is one way here, which the others take")
    done = run(WHAT_PROGRAMS_FIND, cpus, interpreted)
    lines = done.stdout.decode().replace("\r\n", "\n").splitlines()
    said = [line for line in lines if not line.startswith("[")]  # as the kernel does if the CPU has a known fault
    assert done.returncode == 0, done
    assert said[0] == "corral: init"
    assert said[1] == "corral"
    assert said[2].split() == ["ext4"]
    assert said[3].split()[1] == "virtblk"
    mounted = {line.split()[2] for line in said if " on /" in line}
    assert {"/", "/dev", "/proc", "/tmp"} <= mounted
    assert said[said.index("/dev/ttyS0") + 1] == str(cpus)
    assert "file" in said
    assert "nothing wrong" in said


# How a guest ends is init's doing.
@pytest.mark.parametrize("command", ["poweroff; sleep 100", "reboot; sleep 100"])
def test_busybox_ends_the_guest(command: str) -> None:
    done = run(command)
    assert done.returncode == 0, done
    assert b"reboot: Restarting system" in done.stdout


def test_a_shell_that_is_killed_does_not_hold_the_guest() -> None:
    done = run("sleep 100 & kill -9 $$")
    assert done.returncode == 128 + 9, done


# The kernel does it without init.
@pytest.mark.parametrize(("command", "status"), [("poweroff -f", 0), ("reboot -f", 4)])
def test_a_power_off_is_no_failure(command: str, status: int) -> None:
    done = run(command)
    assert done.returncode == status, done


@pytest.mark.parametrize("interpreted", [False, pytest.param(True, marks=pytest.mark.long)])
def test_each_processor_has_its_own_number_and_all_the_same_features(interpreted: bool) -> None:
    """Natively what CPUID answers is kept, but for what differs."""
    if interpreted and not runs_natively():
        pytest.skip("there is one way here, which the others take")
    done = run("grep ^apicid /proc/cpuinfo; grep ^flags /proc/cpuinfo | sort -u | wc -l", 3, interpreted)
    said = done.stdout.decode().replace("\r\n", "\n").replace("\t", "")
    assert "apicid: 0\napicid: 1\napicid: 2\n1\n" in said, done


@pytest.mark.parametrize("cpus", [1, 2])
def test_a_program_has_its_own_gs_base(cpus: int, tmp_path: Path) -> None:
    program = tmp_path / "gs_base"
    flags = ["-O1", "-static", "-Wall", "-Wextra", "-Werror"]
    subprocess.run(["gcc", *flags, "-o", str(program), str(GS_BASE)], check=True)
    here = subprocess.run([program], check=False, timeout=LONG).returncode
    if here == NOT_HERE or not runs_natively():
        pytest.skip("this CPU or the host's kernel has no WRGSBASE, or the guest's kernel does not know of it")
    assert here == 0
    done = run("gs_base", cpus, initrd=initramfs_with([str(program)]))
    assert done.returncode == 0, done.stdout
