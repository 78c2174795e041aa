"""What the distribution's unmodified kernels make of Corral's ACPI tables, and how they power off and reset by them."""

from __future__ import annotations

import re
import sys

import pytest

from corral.guests import initramfs, kernel
from tests.nested.host import NestedHost
from tests.support import stock_kernels
from tests.support.this_host import ThisHost

Host = ThisHost | NestedHost  # tests/nested/test_acpi.py has these tests too
CORRAL = [sys.executable, "-m", "corral"]
STOCK = sorted(kernel.STOCK_METAPACKAGES)

# Levels 0 to 3 are errors and worse, 4 warnings. From 6.12 on the driver of AMD's frequencies warns in any virtual
# machine on an AMD processor that ACPI has no _CPC: there is none, since a guest sets no frequency.
LOOK = r"""
cat /sys/devices/system/cpu/online
ls /sys/bus/platform/devices | grep LNRO
grep LNRO /proc/iomem
dmesg -r | grep -v "amd_pstate: the _CPC" \
    | grep -E "^<[0-3]>|^<4>.*(ACPI|acpi|APIC|SRAT|SLIT|pnp|PnP|IRQ|rtc|i8042|smpboot)"
dmesg | grep -E "ACPI: |ttyS0 at"
"""


@pytest.fixture(scope="module", autouse=True)
def made_outside() -> None:
    initramfs.path()
    for name in STOCK:
        kernel.get(name)


def boot(host: Host, script: str, *options: str) -> tuple[int, list[str]]:
    """Exit status and console of a guest whose shell reads a script."""
    line = f'printf %s "$0" | exec {" ".join(CORRAL)} boot --timeout 240 "$@"'
    done = host.run(["sh", "-c", line, script, *options], timeout=300)
    return done.status, (done.stdout + done.stderr).replace("\r", "").splitlines()


@pytest.mark.parametrize("name", STOCK)
def test_a_kernel_finds_its_machine_and_complains_of_nothing(host: Host, name: str) -> None:
    first, second = f"{host.own}/a", f"{host.own}/b"
    host.run(["truncate", "-s", "1M", first, second])
    options = ["--cpus", "4", "--disk", first, "--disk", second, "--root", "none"]
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
def test_reset(host: Host, name: str) -> None:
    status, console = boot(host, "reboot -f\n", kernel.get(name).path, "--cpus", "2")
    assert status == 0, console
    assert any(line.endswith("reboot: Restarting system") for line in console)


def test_a_command_that_powers_off_succeeds(host: Host) -> None:
    words = ["boot", kernel.get("stock").path, "--cpus", "2", "--timeout", "240", "--", "poweroff -f"]
    done = host.run([*CORRAL, *words], timeout=300)
    assert done.status == 0, done.stdout + done.stderr
    assert "reboot: Power down" in done.stdout


def test_without_acpi(host: Host) -> None:
    """The generic kernel reads an MP table."""
    status, console = boot(host, LOOK, kernel.get("stock-generic").path, "--acpi", "off", "--cpus", "2")
    assert status == 0, console
    assert "0-1" in console
    assert not [line for line in console if re.match(r"<[0-4]>", line)]
    assert not any("ACPI: Interpreter enabled" in line for line in console)


@pytest.mark.parametrize("name", STOCK)
def test_a_disk_by_the_kernels_own_modules(host: Host, name: str) -> None:
    """The drivers find it in the DSDT, and its interrupt arrives."""
    archive, modules = stock_kernels.with_modules(kernel.get(name), ["virtio_mmio", "virtio_blk"])
    disk = f"{host.own}/disk"
    assert host.run(["sh", "-c", f"echo written outside > {disk} && truncate -s 1M {disk}"]).status == 0
    script = "".join(f"insmod /modules/{module}\n" for module in modules)
    script += "head -c 16 /dev/vda\necho written inside | dd of=/dev/vda seek=1 conv=notrunc,fsync\n"
    options = ["--initrd", archive, "--cpus", "2", "--disk", disk, "--root", "none"]
    status, console = boot(host, script, kernel.get(name).path, *options)
    assert status == 0, console
    assert "written outside" in console
    assert host.run(["sh", "-c", f"tail -c +513 {disk} | head -c 14"]).stdout == "written inside"


def test_sixteen_cpus(host: Host) -> None:
    status, console = boot(host, LOOK, kernel.get("stock").path, "--cpus", "16")
    assert status == 0, console
    assert "0-15" in console
