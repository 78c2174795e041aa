"""The preflight before a boot, and without one: `corral kernel check`. A boot by it is in tests/nested."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from corral import check_kernel
from corral.arch.x86_64.supervisor import Supervisor, supervisor_mode
from corral.guests import kernel
from corral.kvm.system import Kind, host_kind
from tests.support import kernels, root_image
from tests.support.tiny_guests import tiny_guest

CORRAL = [sys.executable, "-m", "corral"]
MIB = 1 << 20


def corral(*words: str, text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run([*CORRAL, *words], input=text, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def stranger(tmp_path: Path) -> Path:
    """Corral's small kernel, where nobody knows it for that, and its configuration beside it."""
    found = Path(kernel.get("small").path)
    shutil.copy(found, tmp_path / "vmlinux-stranger")
    shutil.copy(found.parent / "config", tmp_path / "config-stranger")
    return tmp_path / "vmlinux-stranger"


@pytest.fixture(scope="module")
def partitioned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("partitioned")
    return root_image.partitioned(folder / "disk", root_image.make(folder / "system"))


def test_what_is_missing_is_said_before_the_boot(stranger: Path, partitioned: Path) -> None:
    config = stranger.parent / "config-stranger"
    config.write_text(config.read_text().replace("CONFIG_MSDOS_PARTITION=y", ""))
    done = corral("boot", str(stranger), "--disk", str(partitioned), "--timeout", "0.1")
    assert done.returncode == 124
    assert "corral: this kernel reads no MBR partition table; build it with CONFIG_MSDOS_PARTITION=y" in done.stderr


def test_check(stranger: Path, partitioned: Path) -> None:
    done = corral("kernel", "check", str(stranger), "--disk", str(partitioned))
    assert done.returncode == 0, done.stdout
    assert "kernel         vmlinux, Linux 6." in done.stdout
    assert f"configuration  {stranger.parent}/config-stranger" in done.stdout
    assert "root           /dev/vda2: ext4, of a MBR" in done.stdout
    (stranger.parent / "config-stranger").write_text("CONFIG_X86_64=y\n")
    done = corral("kernel", "check", str(stranger), "--disk", str(partitioned), "--cpus", "2")
    assert done.returncode == 2
    assert "missing: this kernel has no console on a serial port" in done.stdout
    assert "note: this kernel uses one of its 2 CPUs" in done.stdout
    assert "missing: this kernel cannot mount ext4" in done.stdout


def test_check_tells_how_kernel_code_runs(stranger: Path) -> None:
    """Of a small kernel that is not where Corral keeps its own; for people, for programs, and for Python."""
    for config in (True, False):
        if not config:
            (stranger.parent / "config-stranger").unlink()
        said = corral("kernel", "check", str(stranger))
        assert said.returncode == 0, said.stdout + said.stderr
        found = json.loads(corral("kernel", "check", str(stranger), "--json").stdout)
        assert (found["natively"], found["failed_check"], found["boots"]) == ("itself", "", True)
        assert found["runs"] == supervisor_mode().supervisor.value
        assert found["acpi"] == (not config and host_kind() is Kind.HARDWARE)
        assert "natively, by itself" in next(
            line for line in said.stdout.splitlines() if line.startswith("kernel code")
        )
        assert check_kernel(str(stranger)).runs == found["runs"]


def test_a_small_kernel_runs_natively_by_itself_wherever_it_is(stranger: Path) -> None:
    if supervisor_mode().supervisor is not Supervisor.NATIVE:
        pytest.skip("this KVM does not run a guest's kernel natively")
    done = corral("boot", str(stranger), "--cpus", "2", "--", "grep -c ^processor /proc/cpuinfo; exit 7")
    assert (done.returncode, done.stderr) == (7, "")
    assert "\n2\n" in done.stdout.replace("\r", "")


def test_check_of_what_is_no_linux_and_of_nothing(tmp_path: Path) -> None:
    done = corral("kernel", "check", str(tiny_guest("multiboot", VERSION=1)))
    assert (done.returncode, done.stderr) == (0, "")
    assert "it is no Linux" in done.stdout
    (tmp_path / "text").write_text("no kernel\n")
    for words in (["text"], ["missing"], [], ["text", "text"], ["text", "--cpus", "x"], ["text", "--acpi", "x"]):
        done = subprocess.run(
            [*CORRAL, "kernel", "check", *words], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 2
        assert done.stderr.startswith("corral: ")
        assert done.stderr.count("\n") == 1


def test_the_stock_kernel_and_a_disk(partitioned: Path) -> None:
    done = corral("kernel", "check", kernel.get("stock").path, "--disk", str(partitioned))
    assert done.returncode == 2
    assert "told by        ACPI tables" in done.stdout, "it takes no word of disks from its command line"
    assert "needs the module virtio_mmio to find its disks, and no initramfs is known to have it" in done.stdout


def test_bad_cloud_init_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "user-data").write_text("packages: [vim]\n")
    for words in (["--cloud-init", f"{tmp_path}/user-data"], ["--cloud-init", "missing"], ["--hostname", "a b"]):
        done = corral("boot", *words)
        assert done.returncode == 2
        assert done.stderr.startswith("corral: ")
        assert done.stderr.count("\n") == 1


def test_a_kernel_whose_configuration_is_in_it(tmp_path: Path) -> None:
    import gzip

    packed = b"IKCFG_ST" + gzip.compress(b"CONFIG_X86_64=y\n") + b"IKCFG_ED"
    segments = (kernels.text_segment(), kernels.Segment(physical=32 * MIB, data=packed))
    path = tmp_path / "bzImage"
    path.write_bytes(kernels.bzimage(kernels.payload(kernels.vmlinux(segments=segments))))
    done = corral("kernel", "check", str(path))
    assert done.returncode == 2
    assert "configuration  embedded in the kernel" in done.stdout
