"""The kernel that a disk's own system boots, and what belongs to it, as distributions lay them out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from corral.images import boot_folder, root
from corral.images.volumes import DiskVolumes
from tests.support.file_systems import LINUX, LVM, MIB, disk, ext4

SYSTEM = {"sbin/init": b"init"}
PV = (bytes(0x200) + b"LABELONE").ljust(MIB, b"\0")

LAYOUTS: dict[str, tuple[Mapping[str, bytes], tuple[str, str, str]]] = {
    "Debian": (
        {f"boot/{name}": b"x" for name in ("vmlinuz-6.1.0-9-amd64", "vmlinuz-6.1.0-10-amd64")}
        | {f"boot/{name}": b"x" for name in ("initrd.img-6.1.0-9-amd64", "initrd.img-6.1.0-10-amd64")}
        | {f"boot/{name}": b"x" for name in ("config-6.1.0-9-amd64", "config-6.1.0-10-amd64")}
        | {"vmlinuz -> boot/vmlinuz-6.1.0-10-amd64": b""},
        ("/boot/vmlinuz-6.1.0-10-amd64", "/boot/initrd.img-6.1.0-10-amd64", "/boot/config-6.1.0-10-amd64"),
    ),
    "SUSE, and the link says which": (
        {f"boot/{name}": b"x" for name in ("vmlinuz-6.4-1-default", "vmlinuz-6.4-2-default", "initrd-6.4-1-default")}
        | {"boot/vmlinuz -> vmlinuz-6.4-1-default": b""},
        ("/boot/vmlinuz-6.4-1-default", "/boot/initrd-6.4-1-default", ""),
    ),
    "Arch": (
        {f"boot/{name}": b"x" for name in ("vmlinuz-linux", "initramfs-linux.img", "initramfs-linux-fallback.img")},
        ("/boot/vmlinuz-linux", "/boot/initramfs-linux.img", ""),
    ),
    "Alpine": (
        {f"boot/{name}": b"x" for name in ("vmlinuz-virt", "initramfs-virt", "config-6.18.5-0-virt")},
        ("/boot/vmlinuz-virt", "/boot/initramfs-virt", "/boot/config-6.18.5-0-virt"),
    ),
    "Fedora, and what is for rescue": (
        {f"boot/{name}": b"x" for name in ("vmlinuz-6.9.1.fc40.x86_64", "vmlinuz-0-rescue-abc")}
        | {f"boot/{name}": b"x" for name in ("initramfs-6.9.1.fc40.x86_64.img", "initramfs-0-rescue-abc.img")},
        ("/boot/vmlinuz-6.9.1.fc40.x86_64", "/boot/initramfs-6.9.1.fc40.x86_64.img", ""),
    ),
    "with its modules": (
        {
            "usr/lib/modules/6.12.9/vmlinuz": b"x",
            "usr/lib/modules/6.12.10/vmlinuz": b"x",
            "usr/lib/modules/6.12.10/config": b"x",
            "boot/initrd.img-6.12.10": b"x",
            "lib -> usr/lib": b"",
        },
        (
            "/usr/lib/modules/6.12.10/vmlinuz",
            "/boot/initrd.img-6.12.10",
            "/usr/lib/modules/6.12.10/config",
        ),
    ),
}


def find(path: str) -> boot_folder.BootFiles | None:
    with DiskVolumes(path) as opened:
        return boot_folder.find(opened, root.of(opened))


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts_of_distributions(tmp_path: Path, name: str) -> None:
    files, expected = LAYOUTS[name]
    path = tmp_path / "disk"
    path.write_bytes(ext4(4 * MIB, tmp_path, SYSTEM | dict(files)))
    found = find(str(path))
    assert found is not None
    assert (found.kernel, found.initramfs, found.config) == expected
    assert found.words == ()


def test_a_boot_partition_says_what_the_root_is(tmp_path: Path) -> None:
    entry = (
        b"title Some Linux\nlinux /vmlinuz-5.14\ninitrd /initramfs-5.14.img\n"
        b"options root=/dev/mapper/rhel-root ro crashkernel=1G rd.lvm.lv=rhel/root rhgb quiet\n"
    )
    boot = {"vmlinuz-5.14": b"k", "initramfs-5.14.img": b"i", "loader/entries/abc-5.14.conf": entry}
    found = find(disk(tmp_path / "disk", (LINUX, ext4(4 * MIB, tmp_path, boot)), (LVM, PV)))
    assert found is not None
    assert (found.kernel, found.initramfs) == ("//vmlinuz-5.14", "//initramfs-5.14.img")
    assert found.words == ("root=/dev/mapper/rhel-root", "rd.lvm.lv=rhel/root")


def test_grub_says_so_too_and_nothing_else_gets_through(tmp_path: Path) -> None:
    lines = (
        b"menuentry 'x' {\n\tlinux\t/boot/vmlinuz-5 root=UUID=1 ro init=/bin/other modules=ext4,virtio quiet\n}\n"
        b"menuentry 'y' {\n\tlinux /boot/vmlinuz-6 root=\"$x\" rd.break=\"a init=\x1b[2J modules='q' rd.shell=1\n}\n"
    )
    for kernel, words in ((5, ("root=UUID=1", "init=/bin/other", "modules=ext4,virtio")), (6, ("rd.shell=1",))):
        path = tmp_path / "disk"
        path.write_bytes(ext4(4 * MIB, tmp_path, {f"boot/vmlinuz-{kernel}": b"k", "boot/grub/grub.cfg": lines}))
        found = find(str(path))
        assert found is not None
        assert found.words == words


def test_no_kernel(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    for files in (SYSTEM, SYSTEM | {"boot/vmlinuz-6": b""}, SYSTEM | {"boot/vmlinuz-6 -> /nowhere": b""}):
        path.write_bytes(ext4(4 * MIB, tmp_path, files))
        assert find(str(path)) is None
    assert find(disk(tmp_path / "disk", (LVM, PV))) is None
    path.write_bytes(bytes(MIB))
    assert find(str(path)) is None
