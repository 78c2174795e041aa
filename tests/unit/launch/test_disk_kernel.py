"""Which kernel boots a disk that is named without one, and with which words."""

from __future__ import annotations

from pathlib import Path

import pytest

from corral.cli.boot import machine_config
from corral.config import MachineConfig
from corral.errors import BootError, ConfigError
from corral.guests import default
from corral.guests import kernel as kernel_store
from corral.guests.kernel import KernelFile
from corral.kvm.system import Kind
from corral.launch import disk_kernel, image_kernel
from corral.launch import kernel as launch_kernel
from tests.support import kernels
from tests.support.file_systems import LINUX, LVM, MIB, disk, ext4
from tests.unit.launch.test_preflight import ALL_MODULES, FULL, MODULAR

BZIMAGE = kernels.bzimage(kernels.payload(kernels.vmlinux()))
INITRAMFS = kernels.cpio(ALL_MODULES)
PV = (bytes(0x200) + b"LABELONE").ljust(MIB, b"\0")
XFS = b"XFSB".ljust(MIB, b"\0")


def text_of(options: dict[str, str]) -> bytes:
    return "\n".join(f"CONFIG_{name}={value}" for name, value in options.items() if value != "n").encode()


OWN = {
    "boot/vmlinuz-6.1-x": BZIMAGE,
    "boot/initrd.img-6.1-x": INITRAMFS,
    "boot/config-6.1-x": text_of(FULL | MODULAR),
}
BUSYBOX = {"sbin/init -> ../bin/busybox": b"", "bin/busybox": b"x"}
SYSTEMD = {"sbin/init -> /lib/systemd/systemd": b"", "lib/systemd/systemd": b"x"}


@pytest.fixture(autouse=True)
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of its own, hardware KVM, and a small kernel that nothing is built for."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    of_kind(monkeypatch, Kind.HARDWARE)
    small = KernelFile("small", "6.1", "/small/vmlinux", None)
    monkeypatch.setattr(default.Choice, "get", lambda self, progress: small)


def of_kind(monkeypatch: pytest.MonkeyPatch, kind: Kind) -> None:
    for module in (disk_kernel, launch_kernel):
        monkeypatch.setattr(module, "host_kind", lambda: kind)


def boot(path: str, *words: str) -> MachineConfig:
    config = machine_config(["--disk", path, *words])
    assert config is not None
    return config


def test_on_hardware_its_own_kernel_and_initramfs(tmp_path: Path) -> None:
    path = disk(tmp_path / "disk", (LINUX, ext4(4 * MIB, tmp_path, BUSYBOX | OWN)))
    config = boot(path)
    kernel = Path(config.kernel)
    assert kernel.parent.parent == tmp_path / "cache" / "corral" / "from-disks"
    assert kernel.read_bytes() == BZIMAGE
    assert config.initrd == str(kernel.parent / "initrd.img-6.1-x")
    assert Path(config.initrd).read_bytes() == INITRAMFS
    assert " root=/dev/vda1 rw rootfstype=ext4 rootwait" in config.cmdline
    assert "console=ttyS0" in config.cmdline
    assert config.acpi
    assert boot(path, "--kernel", "small").kernel == "/small/vmlinux"


def test_where_kernel_code_is_interpreted_the_small_one_unless_it_cannot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_kind(monkeypatch, Kind.PAGETABLE)
    path = disk(tmp_path / "disk", (LINUX, ext4(4 * MIB, tmp_path, BUSYBOX | OWN)))
    config = boot(path)
    assert (config.kernel, config.initrd, config.acpi) == ("/small/vmlinux", None, False)
    assert "root=/dev/vda1 rw" in config.cmdline
    assert "rootwait" not in config.cmdline
    assert boot(path, "--kernel", "image").kernel.endswith("/vmlinuz-6.1-x")
    path = disk(tmp_path / "disk", (LINUX, ext4(4 * MIB, tmp_path, SYSTEMD | OWN)))
    assert boot(path).kernel.endswith("/vmlinuz-6.1-x"), "systemd does not run on the small one"
    boots = ext4(4 * MIB, tmp_path, {name.removeprefix("boot/"): content for name, content in OWN.items()})
    path = disk(tmp_path / "disk", (LINUX, boots), (LINUX, XFS))
    config = boot(path)
    assert config.kernel.endswith("/vmlinuz-6.1-x"), "the small one has no XFS"
    assert " root=/dev/vda2 rw rootfstype=xfs" in config.cmdline


def test_a_root_that_has_to_be_opened_is_named_by_the_boot_loader(tmp_path: Path) -> None:
    entry = b"linux /vmlinuz-6.1-x\noptions root=/dev/mapper/a-root ro rd.lvm.lv=a/root quiet\n"
    files = {name.removeprefix("boot/"): content for name, content in OWN.items()} | {"loader/entries/a.conf": entry}
    config = boot(disk(tmp_path / "disk", (LINUX, ext4(4 * MIB, tmp_path, files)), (LVM, PV)))
    assert "root=/dev/mapper/a-root rd.lvm.lv=a/root" in config.cmdline
    assert "/dev/vda" not in config.cmdline
    assert config.initrd is not None


def test_without_a_kernel_of_its_own_the_small_one(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(ext4(4 * MIB, tmp_path, BUSYBOX))
    assert boot(str(path)).kernel == "/small/vmlinux"
    with pytest.raises(BootError, match=r"no kernel in a /boot that Corral can read.*; name a KERNEL"):
        boot(str(path), "--kernel", "image")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (PV, "holds LVM, which Linux does not mount by itself; give its system's KERNEL"),
        (XFS, "Corral's small kernel cannot mount XFS; name a KERNEL that can"),
        (bytes(MIB), "holds no file system that is known"),
        (None, "holds ext4 and nothing that starts: none of /sbin/init.*--root none"),
    ],
)
def test_what_cannot_start_is_told_before_a_kernel_is_made(
    tmp_path: Path, content: bytes | None, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*arguments: object) -> None:
        raise AssertionError("a kernel was made")

    monkeypatch.setattr(default.Choice, "get", never)
    monkeypatch.setattr(kernel_store, "get", never)
    path = disk(tmp_path / "disk", (LINUX, ext4(2 * MIB, tmp_path, ["data"]) if content is None else content))
    with pytest.raises(BootError, match=f"(partition 1 of disk {path} )?{message}"):
        boot(path)
    with pytest.raises(BootError, match=message):
        boot(path, "--kernel", "small")


def test_words_of_the_user_go_before_what_is_found(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(ext4(2 * MIB, tmp_path, ["data", "my/init"]))
    assert boot(str(path), "--append", "init=/my/init").kernel == "/small/vmlinux"
    path.write_bytes(bytes(MIB))
    assert boot(str(path), "--append", "root=/dev/vda").cmdline.endswith(" root=/dev/vda")


def test_names_of_kernels_that_a_disk_has_not(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(ext4(4 * MIB, tmp_path, BUSYBOX))
    (tmp_path / "kernel").write_bytes(BZIMAGE)
    with pytest.raises(ConfigError, match="a disk boots with image, the kernel on it, or small, Corral's own"):
        boot(str(path), "--kernel", "cloud")
    with pytest.raises(ConfigError, match="of a distribution or of a disk with a system; there is neither"):
        machine_config(["--kernel", "cloud"])
    with pytest.raises(ConfigError, match="the KERNEL is named already"):
        machine_config([str(tmp_path / "kernel"), "--kernel", "small"])


def test_a_few_kernels_are_kept(tmp_path: Path) -> None:
    path, used = tmp_path / "disk", []
    for number in range(image_kernel.KEPT + 2):
        files = BUSYBOX | OWN | {"boot/initrd.img-6.1-x": INITRAMFS + bytes(512 * number)}
        path.write_bytes(ext4(4 * MIB, tmp_path, files))
        used.append(Path(boot(str(path)).kernel).parent)
        assert used[-1] == Path(boot(str(path)).kernel).parent, "the same content is the same folder"
    assert [folder.exists() for folder in used] == [False] * 2 + [True] * image_kernel.KEPT
