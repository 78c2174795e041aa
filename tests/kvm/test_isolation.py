"""What a guest's kernel keeps its programs from, on this host's KVM, in each way that kernel code runs there; and as
this host's own kernel does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from corral.launch.kernel import runs_natively
from tests.support.guest_tools import initramfs_with

SOURCE = Path(__file__).parents[1] / "support" / "forbidden.c"
LIMIT = 300.0  # seconds
PRIVILEGED = 11  # SIGSEGV
# By an attempt's name, where it is not SIGSEGV; a tuple is either.
OTHERS: dict[str, str | tuple[str, ...]] = {
    "int3": "signal 5",
    "ud2": "signal 4",
    "return-with-iopl": "exit 1",  # returned, without IOPL
    # WRGSBASE takes the kernel's addresses. A KVM may clear such a base at the next entry (1).
    "gs-of-the-kernel": ("exit 0", "exit 1"),
    "gs-of-nothing": ("exit 0", "exit 1"),
    "gs-of-zero": "exit 0",
    "gs-of-its-own": "exit 0",
    "step-a-syscall": "exit 0",
    "flags-at-a-syscall": "exit 0",
    "stack-of-the-kernels": "signal 4",  # past the system call, which used another stack
}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("isolation") / "forbidden"
    flags = ["-O1", "-static", "-Wall", "-Wextra", "-Werror"]
    subprocess.run(["gcc", *flags, "-o", str(target), str(SOURCE)], check=True)
    return target


def check(said: str) -> None:
    lines = said.replace("\r", "").splitlines()
    outcomes = dict(line.split(" ", 1) for line in lines if " signal " in line or " exit " in line)
    assert "over" in lines, said
    assert len(outcomes) > 70
    for name, outcome in outcomes.items():
        wanted = "exit 1" if name.startswith("syscall-into") else OTHERS.get(name, f"signal {PRIVILEGED}")
        assert outcome in ((wanted,) if isinstance(wanted, str) else wanted), f"{name}: {outcome}"


def test_this_hosts_own_kernel_refuses_it_all(program: Path) -> None:
    """So the table is right."""
    check(subprocess.run([program], capture_output=True, text=True, check=True, timeout=LIMIT).stdout)


@pytest.mark.parametrize("cpus", [1, 2])
def test_a_guests_kernel_refuses_it_all(program: Path, cpus: int) -> None:
    refuses(program, cpus, "")


@pytest.mark.long  # it takes a minute, and has told of nothing yet that the others did not
def test_an_interpreted_kernel_refuses_it_all(program: Path) -> None:
    if not runs_natively():
        pytest.skip("there is one way here, which the others take")
    refuses(program, 1, "nonative")


def refuses(program: Path, cpus: int, parameters: str) -> None:
    boot = [sys.executable, "-m", "corral", "boot", "--cpus", str(cpus), "--initrd", initramfs_with([str(program)])]
    done = subprocess.run(
        [*boot, "--append", parameters, "--", "forbidden"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    check(done.stdout)
