"""The command line that a guest gets: whose words come first."""

from __future__ import annotations

from pathlib import Path

import pytest

from corral.cli.boot import machine_config
from tests.support import kernels

DISK = "virtio_mmio.device=4K@0xd0000000:5"


def words(tmp_path: Path, kernel: bytes, *options: str) -> list[str]:
    (tmp_path / "kernel").write_bytes(kernel)
    (tmp_path / "disk").write_bytes(bytes(1 << 20))
    command = [str(tmp_path / "kernel"), "--disk", str(tmp_path / "disk"), "--initrd", "none", "--acpi", "off"]
    config = machine_config([*command, "--append", "one two", *options])
    assert config is not None
    return config.cmdline.split()


@pytest.mark.parametrize(
    "kernel", [kernels.multiboot_elf(kernels.multiboot()), kernels.pvh_guest()], ids=["multiboot", "pvh"]
)
def test_a_kernels_own_words_come_first(tmp_path: Path, kernel: bytes) -> None:
    """Its arguments may count by their place."""
    assert words(tmp_path, kernel)[:3] == ["one", "two", DISK]


def test_what_is_entered_as_linux_is_and_is_none_gets_no_parameters_of_linux(tmp_path: Path) -> None:
    text = kernels.Segment(data=b"\xf4", physical=1 << 20, virtual=1 << 20)
    kernel = kernels.vmlinux(segments=(text,), entry=1 << 20)
    assert words(tmp_path, kernel) == ["one", "two", DISK, "root=/dev/vda", "rw", "rootwait"]


@pytest.mark.parametrize("protocol", ["linux", "pvh"])
def test_of_linuxs_parameters_the_users_come_last(tmp_path: Path, protocol: str) -> None:
    """The last one counts."""
    note = kernels.pvh_note(kernels.LOAD_ADDRESS)
    kernel = kernels.vmlinux(segments=(kernels.text_segment(), note))
    found = words(tmp_path, kernel, "--protocol", protocol)
    assert found[-2:] == ["one", "two"]
    assert DISK in found
    assert ("console=ttyS0" in found) == (protocol == "linux")
