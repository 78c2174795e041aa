"""Corral on hardware KVM: the tests of machines again, and real kernels, the distribution's unmodified ones too."""

from __future__ import annotations

import json
import sys

import pytest

from corral.guests import debian, initramfs, kernel
from tests.nested.host import NestedHost

CORRAL = [sys.executable, "-m", "corral"]


def boot(host: NestedHost, *options: str, command: str) -> tuple[int, str]:
    """Exit status and console of a guest that runs one shell command."""
    done = host.run([*CORRAL, "boot", *options, "--timeout", "180", "--", command], timeout=240)
    return done.status, done.stdout + done.stderr


def test_the_host_has_hardware_kvm(host: NestedHost) -> None:
    done = host.run([*CORRAL, "doctor", "--json"])
    assert done.status == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["kind"] == "hardware"


def test_commands_have_their_own_output_and_status(host: NestedHost) -> None:
    done = host.run(["sh", "-c", "echo out; echo err >&2; exit 9"])
    assert (done.status, done.stdout, done.stderr) == (9, "out\n", "err\n")


def test_machines(host: NestedHost) -> None:
    """Leaks over a thousand rounds are looked for on the real host only: an emulated one takes minutes for them."""
    tests = ["tests/kvm/test_machine.py", "tests/kvm/test_smp.py", "tests/kvm/test_boot_protocols.py"]
    done = host.run([sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", *tests], timeout=300)
    assert done.status == 0, done.stdout[-3000:] + done.stderr
    assert " passed" in done.stdout


def test_machines_that_a_script_drives(host: NestedHost) -> None:
    """Those of Linux too: the distribution's kernel here, whose console and memory a script reads."""
    tests = ["tests/kvm/test_scripted.py", "tests/kvm/test_scripted_points.py", "tests/kvm/test_profiler.py"]
    tests += ["tests/kvm/test_report.py", "tests/kvm/test_stat.py"]
    done = host.run([sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", *tests], 300)
    assert done.status == 0, done.stdout[-3000:] + done.stderr
    assert " passed" in done.stdout


@pytest.fixture(scope="session", autouse=True)
def made_outside() -> None:
    """What needs a network or a compiler is made on the real host, before the nested one sees its files."""
    initramfs.path()
    for name in ("small", "small-smp", "stock", "stock-generic"):
        kernel.get(name)


def test_the_distributions_cloud_kernel(host: NestedHost) -> None:
    """Without a kernel named: on hardware KVM that is the distribution's, as its package has it."""
    status, console = boot(host, command="uname -r; exit 5")
    assert status == 5, console
    assert "-cloud-amd64" in console


@pytest.mark.parametrize("cpus", [1, 2])
def test_the_small_kernel(host: NestedHost, cpus: int) -> None:
    image = kernel.get(kernel.variant(cpus)).path
    status, console = boot(host, image, "--cpus", str(cpus), command="grep -c ^processor /proc/cpuinfo; exit 7")
    assert status == 7, console
    assert f"\n{cpus}" in console.replace("\r", "")


def test_disks(host: NestedHost) -> None:
    tests = ["tests/kvm/test_disks.py"]
    done = host.run([sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", *tests], timeout=300)
    assert done.status == 0, done.stdout[-3000:] + done.stderr
    assert " passed" in done.stdout


def test_the_end_of_input_ends_the_guest(host: NestedHost) -> None:
    done = host.run([*CORRAL, "boot", kernel.get("small").path, "--timeout", "180"], timeout=240)
    assert done.status == 0, done.stdout + done.stderr
    assert "corral: init" in done.stdout


@pytest.mark.parametrize("name", ["small", "stock"])
def test_no_output_is_lost_at_the_end(host: NestedHost, name: str) -> None:
    """The terminal has kilobytes still to send when the command ends."""
    argv = [*CORRAL, "boot", kernel.get(name).path, "--timeout", "180", "--", "seq 1 3000"]
    done = host.run(argv, timeout=240)
    assert [str(number) for number in range(1, 3001)] == [line for line in done.stdout.split() if line.isdigit()][:3000]


def test_debugging(host: NestedHost) -> None:
    """gdb on a Linux guest too. The emulator delivers steps alone, so all points are done by them here."""
    debian.require_installed(["gdb"], "debugging a guest")
    tests = ["tests/kvm/test_debugger.py", "tests/kvm/test_gdb.py"]
    done = host.run([sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", *tests], timeout=300)
    assert done.status == 0, done.stdout[-3000:] + done.stderr
    assert " passed" in done.stdout
