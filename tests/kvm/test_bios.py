"""Guests that begin as a PC does, under SeaBIOS: a disk's boot sector, a program in real mode, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from corral import Machine, MachineConfig
from corral.config import DiskConfig
from corral.guests import bios
from tests.support.tiny_guests import flat

CORRAL = [sys.executable, "-m", "corral", "boot"]
LONG = 60.0  # seconds: nothing takes so long unless it hangs


def boot(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*CORRAL, *words], capture_output=True, text=True, timeout=LONG, check=False, stdin=0)


@pytest.fixture
def disk(tmp_path: Path) -> str:
    """One that a PC boots: a sector of code, and a sector of text that it looks for."""
    text = b"from the second sector\r\n" + bytes([0x20] * 8) + b"\0"
    path = tmp_path / "disk"
    path.write_bytes(flat("boot_sector", 0x7C00).read_bytes() + text.ljust(512, b"\0") + bytes(1 << 20))
    return str(path)


def test_a_boot_sector(disk: str) -> None:
    done = boot("--bios", "--disk", f"{disk},ro", "--memory", "64M")
    assert done.returncode == 0, done.stderr
    assert "SeaBIOS" in done.stdout
    assert "from the second sector" in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.long
def test_a_program_goes_before_the_disk(disk: str, tmp_path: Path) -> None:
    """It has its words and its initrd, with several CPUs and memory above 4 GiB."""
    (tmp_path / "initrd").write_text("an initrd\r\n\0")
    program = str(flat("real_mode", 0))
    words = ["--bios", "--disk", disk, "--initrd", f"{tmp_path}/initrd", "--append", "some words"]
    done = boot(program, *words, "--cpus", "2", "--memory", "5G")
    assert done.returncode == 0, done.stderr
    for text in ("some words", "an initrd", "the rest"):
        assert text in done.stdout
    assert "from the second sector" not in done.stdout


@pytest.mark.long
def test_a_disk_without_a_boot_loader(tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(bytes(1 << 20))
    disks = (DiskConfig(f"{tmp_path}/disk"),)
    with Machine(MachineConfig(kernel="", bios=bios.get(), memory=64 << 20, disks=disks, acpi=True)) as vm:
        vm.run_until("No bootable device", timeout=LONG)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--bios"], "needs something to boot"),
        (["--bios", "--disk", "{disk}", "--", "true"], "which no BIOS boots"),
        (["--bios", "--disk", "{disk}", "--root", "0"], "leave --root out"),
        (["--bios", "--disk", "{disk}", "--append", "words"], "takes no command line"),
        (["--bios", "--disk", "{disk}", "--memory", "16M"], "needs a guest with 32M"),
        (["--bios", "{disk}"], "name it with --disk"),
        (["--bios", "/dev/null"], "is a character device"),
        (["--bios", "--disk", "{disk}", "--debug-exit", "0x510"], "overlaps fw_cfg at 0x510-0x511; QEMU's is 0xf4"),
    ],
)
def test_what_does_not_go_together_is_one_line(disk: str, words: list[str], message: str) -> None:
    done = boot(*(word.format(disk=disk) for word in words))
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
