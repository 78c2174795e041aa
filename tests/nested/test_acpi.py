"""What the distribution's unmodified kernels make of Corral's ACPI tables, and how they power off and reset by them."""

from __future__ import annotations

import re
import stat
import sys
from pathlib import Path

import pytest

from corral.guests import cache, initramfs, kernel, sources
from corral.guests.initramfs import entry, trailer
from corral.guests.modules import load_order
from tests.nested.host import NestedHost

CORRAL = [sys.executable, "-m", "corral"]
STOCK = sorted(kernel.STOCK_METAPACKAGES)

# Levels 0 to 3 are errors and worse, 4 warnings.
LOOK = r"""
cat /sys/devices/system/cpu/online
ls /sys/bus/platform/devices | grep LNRO
grep LNRO /proc/iomem
dmesg -r | grep -E "^<[0-3]>|^<4>.*(ACPI|acpi|APIC|SRAT|SLIT|pnp|PnP|IRQ|rtc|i8042|smpboot)"
dmesg | grep -E "ACPI: |ttyS0 at"
"""


@pytest.fixture(scope="module", autouse=True)
def made_outside() -> None:
    initramfs.path()
    for name in STOCK:
        kernel.get(name)


def boot(host: NestedHost, script: str, *options: str) -> tuple[int, list[str]]:
    """Exit status and console of a guest whose shell reads a script."""
    line = f'printf %s "$0" | exec {" ".join(CORRAL)} boot --timeout 240 "$@"'
    done = host.run(["sh", "-c", line, script, *options], timeout=300)
    return done.status, (done.stdout + done.stderr).replace("\r", "").splitlines()


@pytest.mark.parametrize("name", STOCK)
def test_a_kernel_finds_its_machine_and_complains_of_nothing(host: NestedHost, name: str) -> None:
    host.run(["truncate", "-s", "1M", "/tmp/a", "/tmp/b"])
    options = ["--cpus", "4", "--disk", "/tmp/a", "--disk", "/tmp/b", "--root", "none"]
    status, console = boot(host, f"{LOOK}\npoweroff -f\n", kernel.get(name).path, *options)
    assert status == 0, console
    assert any(line.endswith("reboot: Power down") for line in console)
    assert "0-3" in console
    assert {"LNRO0005:00", "LNRO0005:01"} <= set(console)
    assert {"d0000000-d0000fff : LNRO0005:00", "d0001000-d0001fff : LNRO0005:01"} <= set(console)
    assert any("ACPI: Interpreter enabled" in line for line in console)
    assert any("ACPI: Using ACPI (MADT) for SMP" in line for line in console)
    assert any("00:00: ttyS0 at I/O 0x3f8" in line for line in console), "the serial port, by the DSDT"
    assert not [line for line in console if re.match(r"<[0-4]>", line)]


@pytest.mark.parametrize("name", STOCK)
def test_reset(host: NestedHost, name: str) -> None:
    status, console = boot(host, "reboot -f\n", kernel.get(name).path, "--cpus", "2")
    assert status == 0, console
    assert any(line.endswith("reboot: Restarting system") for line in console)


def test_a_command_that_powers_off_succeeds(host: NestedHost) -> None:
    done = host.run([*CORRAL, "boot", "--cpus", "2", "--timeout", "240", "--", "poweroff -f"], timeout=300)
    assert done.status == 0, done.stdout + done.stderr
    assert "-cloud-" in done.stderr, "the kernel that is booted by itself, whatever the number of CPUs"


def test_without_acpi(host: NestedHost) -> None:
    """The generic kernel reads an MP table."""
    status, console = boot(host, LOOK, "--acpi", "off", "--cpus", "2")
    assert status == 0, console
    assert "0-1" in console
    assert not [line for line in console if re.match(r"<[0-4]>", line)]
    assert not any("ACPI: Interpreter enabled" in line for line in console)


@pytest.mark.parametrize("name", STOCK)
def test_a_disk_by_the_kernels_own_modules(host: NestedHost, name: str) -> None:
    """The drivers find it in the DSDT, and its interrupt arrives."""
    archive, modules = with_modules(kernel.get(name), ["virtio_mmio", "virtio_blk"])
    assert host.run(["sh", "-c", "echo written outside > /tmp/disk && truncate -s 1M /tmp/disk"]).status == 0
    script = "".join(f"insmod /modules/{module}\n" for module in modules)
    script += "head -c 16 /dev/vda\necho written inside | dd of=/dev/vda seek=1 conv=notrunc,fsync\n"
    options = ["--initrd", archive, "--cpus", "2", "--disk", "/tmp/disk", "--root", "none"]
    status, console = boot(host, script, kernel.get(name).path, *options)
    assert status == 0, console
    assert "written outside" in console
    assert host.run(["sh", "-c", "tail -c +513 /tmp/disk | head -c 14"]).stdout == "written inside"


def with_modules(file: kernel.KernelFile, modules: list[str]) -> tuple[str, list[str]]:
    """Corral's initramfs and a kernel's modules, in the cache, where a nested host sees it; and their order."""
    order = load_order(str(Path(file.path).parents[1] / "lib" / "modules" / file.version), modules)
    folder = entry("modules", stat.S_IFDIR | 0o755)
    files = [entry(f"modules/{module}", stat.S_IFREG | 0o644, content) for module, content in order]
    content = Path(initramfs.path()).read_bytes() + b"".join([folder, *files, trailer()])
    target = cache.folder("nested", f"modules_{file.version}_{sources.digest(content)}")
    with cache.making(target) as unfinished:
        if unfinished:
            (Path(unfinished) / "initramfs.cpio").write_bytes(content)
    return str(Path(target) / "initramfs.cpio"), [module for module, _ in order]


def test_sixteen_cpus(host: NestedHost) -> None:
    status, console = boot(host, LOOK, "--cpus", "16")
    assert status == 0, console
    assert "0-15" in console
