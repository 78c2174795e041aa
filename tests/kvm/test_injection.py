"""Unmodified kernels of Debian 12 and 13 on this host's KVM: natively where kernel code would be interpreted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import corral
from corral.arch.x86_64.supervisor import Supervisor, supervisor_mode
from corral.guests.kernel_package import KernelPackage
from tests.kvm import test_isolation as isolation
from tests.support import stock_kernels
from tests.support.guest_tools import initramfs_with

LONG = 300.0  # seconds
LOOK = (
    "uname -r; grep ^apicid /proc/cpuinfo | sort -u | grep -c .; dmesg | grep -E '(B[U]G|WARN[I]NG|O[o]ps): '; exit 5"
)

pytestmark = pytest.mark.usefixtures("full_speed")
program = isolation.program


@pytest.fixture(scope="module")
def full_speed() -> None:
    stock_kernels.skip_where_interpreted()


@pytest.fixture(params=stock_kernels.QUICK_FIRST)
def kernel(request: pytest.FixtureRequest) -> KernelPackage:
    return stock_kernels.get(request.param)


def boot(kernel: KernelPackage, *words: str, image: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "corral", "boot", image or kernel.image, "--memory", "512M", *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LONG,
        check=False,
    )


@pytest.mark.parametrize("cpus", ["1", "2"])
def test_it_runs_at_full_speed(kernel: KernelPackage, cpus: str) -> None:
    done = boot(kernel, "--cpus", cpus, "--", LOOK)
    assert done.returncode == 5, done.stdout + done.stderr
    assert "cannot run natively" not in done.stderr
    assert f"\n{kernel.release}\n{cpus}\n" in done.stdout
    assert "BUG: " not in done.stdout
    assert "WARNING: " not in done.stdout


def test_it_keeps_programs_out(kernel: KernelPackage, program: Path) -> None:
    """What Corral puts over a kernel leaves none of its doors open."""
    done = boot(kernel, "--cpus", "2", "--initrd", initramfs_with([str(program)]), "--", "forbidden")
    assert done.returncode == 0, done.stdout + done.stderr
    isolation.check(done.stdout)


def test_a_program_of_32_bits_is_refused(kernel: KernelPackage, tmp_path: Path) -> None:
    """busybox's shell takes what the kernel does not execute for a script."""
    source, made = tmp_path / "program.S", tmp_path / "program"
    source.write_text(".globl _start\n_start: mov $1, %eax\nxor %ebx, %ebx\nint $0x80\n")
    subprocess.run(["gcc", "-m32", "-nostdlib", "-static", "-o", str(made), str(source)], check=True)
    done = boot(kernel, "--initrd", initramfs_with([str(made)]), "--", "program")
    assert "syntax error" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 2


def test_the_check_says_so_without_a_boot(kernel: KernelPackage) -> None:
    found = corral.check_kernel(kernel.image)
    assert found.release == kernel.release
    assert (found.natively, found.failed_check) == ("injection", "")
    assert found.runs == supervisor_mode().supervisor.value
    assert found.boots


def test_one_that_is_built_otherwise_is_refused_by_name(
    kernel: KernelPackage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here by its configuration; the small kernel is offered. The cache is empty: what was prepared once is not looked
    at again."""
    image = tmp_path / "vmlinuz-other"
    image.write_bytes(Path(kernel.image).read_bytes())
    config = Path(kernel.configuration).read_text()
    (tmp_path / "config-other").write_text(config.replace("CONFIG_XEN_PV=y", "# CONFIG_XEN_PV is not set"))
    found = corral.check_kernel(str(image))
    assert (found.natively, found.failed_check) == ("none", "configuration")
    assert found.reason == "it is built without CONFIG_XEN_PV"
    if supervisor_mode().supervisor is Supervisor.NATIVE:
        assert found.runs == "interpreted"
        assert "Corral's small one in seconds" in found.findings[-1].text
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        done = boot(kernel, "--initrd", "none", "--timeout", "0.1", image=str(image))
        assert done.returncode == 124
        assert "cannot run natively here: it is built without CONFIG_XEN_PV (check: configuration)" in done.stderr
        assert "Corral's small one in seconds" in done.stderr
