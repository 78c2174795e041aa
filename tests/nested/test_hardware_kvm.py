"""Corral on hardware KVM: the tests of machines again, and real kernels, the distribution's unmodified ones too."""

from __future__ import annotations

import json
import re
import sys

import pytest

from corral.compare import programs
from corral.guests import initramfs, kernel
from tests.nested.host import NestedHost

CORRAL = [sys.executable, "-m", "corral"]


def boot(host: NestedHost, *options: str, command: str) -> tuple[int, str]:
    """Exit status and console of a guest that runs one shell command."""
    done = host.run([*CORRAL, "boot", *options, "--timeout", "240", "--", command], timeout=300)
    return done.status, done.stdout + done.stderr


def test_the_host_has_hardware_kvm(host: NestedHost) -> None:
    done = host.run([*CORRAL, "doctor", "--json"])
    assert done.status == 0, done.stdout + done.stderr
    facts = json.loads(done.stdout)
    assert (facts["kind"], facts["supervisor"]) == ("hardware", "hardware")


def test_commands_have_their_own_output_and_status(host: NestedHost) -> None:
    done = host.run(["sh", "-c", "echo out; echo err >&2; exit 9"])
    assert (done.status, done.stdout, done.stderr) == (9, "out\n", "err\n")


_failed: dict[tuple[str, ...], list[str]] = {}


def kvm_tests(host: NestedHost, *names: str, timeout: float = 300) -> None:
    """Runs tests of tests/kvm in the host. Of one that hangs, faulthandler tells where, before the time is over.

    Where conftest.py asks again after a failure, those that failed.
    """
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-v",
        "-p",
        "no:cacheprovider",
        "-o",
        f"faulthandler_timeout={timeout / 2}",
        "--hypothesis-profile=emulated",
    ]
    chosen = _failed.pop(names, []) or [f"tests/kvm/{name}.py" for name in names]
    done = host.run([*command, *chosen], timeout)
    _failed[names] = re.findall(r"^FAILED (.+?)(?: - .*)?$", done.stdout, re.MULTILINE)
    assert done.status == 0, done.stdout[-3000:] + done.stderr
    assert " passed" in done.stdout


def test_machines(host: NestedHost) -> None:
    """Leaks over a thousand rounds are looked for on the real host only: an emulated one takes minutes for them."""
    kvm_tests(host, "test_machine", "test_smp", "test_boot_protocols", "test_native_probe")


def test_machines_that_a_script_drives(host: NestedHost) -> None:
    """Those of Linux too: the distribution's kernel here, whose console and memory a script reads."""
    kvm_tests(host, "test_scripted", "test_scripted_points", "test_profiler", timeout=480)


def test_looking_at_machines(host: NestedHost) -> None:
    kvm_tests(host, "test_report", "test_stat", timeout=480)


@pytest.fixture(scope="session", autouse=True)
def made_outside() -> None:
    """What needs a network or a compiler is made on the real host, before the nested one sees its files."""
    initramfs.path()
    for name in ("small", "stock", "stock-generic"):
        kernel.get(name)
    for name in programs.names():
        programs.binary(name)


def test_the_distributions_cloud_kernel(host: NestedHost) -> None:
    """Without a kernel named: on hardware KVM that is the distribution's, as its package has it."""
    status, console = boot(host, command="uname -r; grep -wc svm /proc/cpuinfo; exit 5")
    assert status == 5, console
    assert "-cloud-amd64" in console
    assert "\n0" in console, "guests of the guest's are there when asked for"


@pytest.mark.parametrize("cpus", [1, 2])
def test_the_small_kernel(host: NestedHost, cpus: int) -> None:
    image = kernel.get("small").path
    command = "grep -c ^processor /proc/cpuinfo; grep -wo -m 1 svm /proc/cpuinfo; exit 7"
    status, console = boot(host, image, "--cpus", str(cpus), "--nested", command=command)
    assert status == 7, console
    assert [line for line in console.splitlines() if line in ("svm", str(cpus))] == [str(cpus), "svm"], console


def test_disks_and_workloads(host: NestedHost) -> None:
    kvm_tests(host, "test_disks", "test_workloads", timeout=480)


def test_the_end_of_input_ends_the_guest(host: NestedHost) -> None:
    done = host.run([*CORRAL, "boot", kernel.get("small").path, "--tty", "--timeout", "240"], timeout=300)
    assert done.status == 0, done.stdout + done.stderr
    assert "corral: init" in done.stdout


def test_the_streams_of_a_command_are_apart_with_the_distributions_kernel(host: NestedHost) -> None:
    """Its driver of the channel is a module, which Corral's initramfs brings."""
    command = r"uname -r; printf 'a\0\004\n'; printf err >&2; exit 5"
    done = host.run([*CORRAL, "boot", "--timeout", "240", "--", command], timeout=300)
    release, rest = done.stdout.split("\n", 1)
    assert release.endswith("-cloud-amd64")
    assert (done.status, rest, done.stderr) == (5, "a\0\4\n", "err")


@pytest.mark.parametrize("name", ["small", "stock"])
def test_no_output_is_lost_at_the_end(host: NestedHost, name: str) -> None:
    """The terminal has kilobytes still to send when the command ends."""
    argv = [*CORRAL, "boot", kernel.get(name).path, "--tty", "--timeout", "240", "--", "seq 1 3000"]
    done = host.run(argv, timeout=300)
    assert [str(number) for number in range(1, 3001)] == [line for line in done.stdout.split() if line.isdigit()][:3000]


def test_debugging(host: NestedHost) -> None:
    """gdb on a Linux guest too. The emulator delivers steps alone: points are writes to ports and read-only pages."""
    kvm_tests(host, "test_debugger", "test_gdb", timeout=480)


def test_system_calls_are_told_on_hardware_kvm(host: NestedHost) -> None:
    """A trap's exit is told there with RIP at it, and not behind it."""
    test = "tests/kvm/test_probes.py::test_each_system_call_of_a_program_is_told_with_its_arguments_and_what_came_of_it"
    done = host.run([sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", test], timeout=300)
    assert done.status == 0, done.stdout[-3000:] + done.stderr
    assert "1 passed" in done.stdout
