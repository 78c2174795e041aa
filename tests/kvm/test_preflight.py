"""The preflight before a boot, and without one: `corral kernel check`."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from corral.guests import kernel
from tests.support import kernels, root_image
from tests.support.tiny_guests import tiny_guest
from tests.unit.images.test_partitions import mbr

CORRAL = [sys.executable, "-m", "corral"]
MIB = 1 << 20
LINUX = 0x83


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
    """A disk with a root file system on its second partition."""
    folder = tmp_path_factory.mktemp("partitioned")
    system = root_image.make(folder / "system").read_bytes()
    path = folder / "disk"
    with open(path, "wb") as file:
        file.write(mbr((0xEF, 2048, 2048), (LINUX, 4096, len(system) // 512)))
        file.seek(4096 * 512)
        file.write(system)
    return path


def test_any_kernel_and_any_disk(stranger: Path, partitioned: Path) -> None:
    """The partition, its file system and how the kernel hears of its disk are found, not named."""
    done = corral("boot", str(stranger), "--disk", str(partitioned), text="mount\ncat /proc/cmdline\n")
    assert done.returncode == 0, done.stderr
    assert "/dev/vda2 on / type ext4" in done.stdout.replace("/dev/root", "/dev/vda2")
    assert " root=/dev/vda2 rw" in done.stdout
    assert "acpi=off" in done.stdout
    assert "virtio_mmio.device=" in done.stdout


def test_what_is_missing_is_said_before_the_boot(stranger: Path, partitioned: Path) -> None:
    config = stranger.parent / "config-stranger"
    config.write_text(config.read_text().replace("CONFIG_MSDOS_PARTITION=y", ""))
    # Whatever its configuration says, this kernel boots.
    done = corral("boot", str(stranger), "--disk", str(partitioned), text="echo in the guest\n")
    assert "corral: this kernel reads no MBR partition table; build it with CONFIG_MSDOS_PARTITION=y" in done.stderr
    assert "in the guest" in done.stdout


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


def test_a_cloud_init_disk_is_the_last_one(stranger: Path, partitioned: Path, tmp_path: Path) -> None:
    (tmp_path / "user-data").write_text("#cloud-config\nhostname: x\n")
    words = ["--disk", str(partitioned), "--cloud-init", f"{tmp_path}/user-data", "--hostname", "web-1"]
    script = "head -c 32774 /dev/vdb | tail -c 6; echo; cat /sys/block/vdb/ro /sys/block/vdb/serial; mount\n"
    done = corral("boot", str(stranger), *words, text=script)
    output = done.stdout.replace("\r", "")
    assert "\nCD001\n" in output.replace("\x01", ""), done.stderr
    assert "\n1\ncidata" in output
    assert " on / type ext4" in output


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
