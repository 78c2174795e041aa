"""What a preflight says of kernels with this or that configuration, and what it chooses for them."""

from __future__ import annotations

from pathlib import Path

import pytest

from corral import boot
from corral.kvm.system import Kind
from corral.launch import preflight
from corral.launch.preflight import Intent, Report
from tests.support import kernels
from tests.support.file_systems import SYSTEM, ext4

# A kernel with all that it takes built in; each test takes something away.
FULL = {
    **dict.fromkeys(("X86_64", "ACPI", "SMP", "X86_MPPARSE", "BLK_DEV_INITRD", "RD_GZIP", "RD_ZSTD"), "y"),
    **dict.fromkeys(("VIRTIO_MMIO", "VIRTIO_BLK", "VIRTIO_MMIO_CMDLINE_DEVICES", "EXT4_FS"), "y"),
    **dict.fromkeys(("MSDOS_PARTITION", "EFI_PARTITION", "SERIAL_8250", "SERIAL_8250_CONSOLE"), "y"),
    "NR_CPUS": "64",
}
MODULAR = {"VIRTIO_MMIO": "m", "VIRTIO_BLK": "m", "EXT4_FS": "m", "VIRTIO_MMIO_CMDLINE_DEVICES": "n"}
ALL_MODULES = [(f"lib/modules/{name}.ko", b"") for name in ("virtio_mmio", "virtio_blk", "ext4")]


@pytest.fixture
def disk(tmp_path: Path) -> str:
    path = tmp_path / "disk"
    path.write_bytes(ext4(2 << 20, tmp_path, SYSTEM))
    return str(path)


def look(folder: Path, plan: Intent, **options: str) -> Report:
    """`options` differ from FULL."""
    kernel = folder / "vmlinuz-1"
    kernel.write_bytes(kernels.bzimage(kernels.payload(kernels.vmlinux())))
    lines = (f"CONFIG_{name}={value}" for name, value in (FULL | options).items() if value != "n")
    (folder / "config-1").write_text("\n".join(lines))
    with boot.open_kernel(kernel) as opened:
        return preflight.look(opened, plan)


def hardware(*disks: str, **fields: object) -> Intent:
    return Intent(Kind.HARDWARE, disks, 0 if disks else None, **fields)  # type: ignore[arg-type]


def test_nothing_is_missing(tmp_path: Path, disk: str) -> None:
    assert look(tmp_path, hardware()).findings == ()
    report = look(tmp_path, hardware(disk, cpus=4))
    assert report.findings == ()
    assert (report.acpi, report.initrd, report.partition) == (True, None, 0)


MISSING: dict[str, tuple[dict[str, str], dict[str, object], bool, str]] = {
    "serial console": (
        {"SERIAL_8250_CONSOLE": "n"},
        {},
        True,
        "no console on a serial port.*CONFIG_SERIAL_8250_CONSOLE=y",
    ),
    "own parameters": ({"CMDLINE_OVERRIDE": "y"}, {}, True, "no parameters but those built in"),
    "virtio-mmio": ({"VIRTIO_MMIO": "n"}, {}, True, "cannot find its disks; build it with CONFIG_VIRTIO_MMIO=y"),
    "virtio-blk": ({"VIRTIO_BLK": "n"}, {}, True, "build it with CONFIG_VIRTIO_BLK=y"),
    "virtio-blk as a module": (
        {"VIRTIO_BLK": "m"},
        {},
        True,
        "needs the module virtio_blk.*no initramfs is known to have",
    ),
    "ext4": ({"EXT4_FS": "n"}, {}, True, "cannot mount ext4; build it with CONFIG_EXT4_FS=y"),
    "devices by parameter": (
        {"VIRTIO_MMIO_CMDLINE_DEVICES": "n"},
        {"acpi": False},
        True,
        "no word of disks from its command line; --acpi on",
    ),
    "any announcement": (
        {"VIRTIO_MMIO_CMDLINE_DEVICES": "n", "ACPI": "n"},
        {},
        True,
        "build it with CONFIG_VIRTIO_MMIO_CMDLINE_DEVICES=y",
    ),
    "ACPI": ({"ACPI": "n"}, {"acpi": True}, False, "built without CONFIG_ACPI; leave --acpi on out"),
    "SMP": ({"SMP": "n"}, {"cpus": 2}, False, "one of its 2 CPUs"),
    "CPUs": ({"NR_CPUS": "4"}, {"cpus": 8}, False, "uses 4 of its 8 CPUs"),
    "MP table": ({"X86_MPPARSE": "n"}, {"cpus": 2, "acpi": False}, False, "reads no MP table; --acpi on"),
    "initramfs": ({"BLK_DEV_INITRD": "n"}, {"initrd": None}, True, "takes no initramfs"),
}


@pytest.mark.parametrize("case", MISSING)
def test_missing(tmp_path: Path, disk: str, case: str) -> None:
    options, fields, fatal, message = MISSING[case]
    report = look(tmp_path, hardware(disk, **({"initrd": "none"} | fields)), **options)
    (finding,) = report.findings
    assert finding.fatal == fatal
    assert_matches(message, finding.text)


def assert_matches(pattern: str, text: str) -> None:
    import re

    assert re.search(pattern, text), text
    assert ";" in text, "what is wrong, then what to do"
    assert text.isprintable()


def test_the_way_of_telling_is_chosen(tmp_path: Path, disk: str) -> None:
    pagetable = Intent(Kind.PAGETABLE, (disk,), 0, "none")
    assert not look(tmp_path, pagetable).acpi, "parameters are cheaper"
    assert look(tmp_path, pagetable, VIRTIO_MMIO_CMDLINE_DEVICES="n").acpi
    assert not look(tmp_path, pagetable, VIRTIO_MMIO_CMDLINE_DEVICES="n", ACPI="n").acpi
    assert not look(tmp_path, hardware(), ACPI="n").acpi
    assert look(tmp_path, Intent(Kind.PAGETABLE, cpus=2), X86_MPPARSE="n").acpi
    assert not look(tmp_path, hardware(acpi=False)).acpi


def test_a_pagetable_kvm_is_told_of_but_not_with_the_small_kernel(tmp_path: Path) -> None:
    (finding,) = look(tmp_path, Intent(Kind.PAGETABLE)).findings
    assert "15 minutes" in finding.text
    assert "corral kernel path" in finding.text
    assert not finding.fatal
    assert look(tmp_path, Intent(Kind.PAGETABLE, small=True)).findings == ()


@pytest.mark.parametrize("name", ["initrd.img-1", "initramfs-1.img"])
def test_the_initramfs_beside_a_modular_kernel_is_taken(tmp_path: Path, disk: str, name: str) -> None:
    initrd = tmp_path / name
    initrd.write_bytes(kernels.zstd(kernels.cpio(ALL_MODULES)))
    report = look(tmp_path, hardware(disk), **MODULAR)
    assert (report.initrd, report.findings) == (str(initrd), ())
    assert look(tmp_path, hardware(disk)).initrd is None, "it is not needed"
    assert look(tmp_path, hardware(disk, initrd="none"), **MODULAR).initrd == "none"


def test_an_initramfs_without_the_modules(tmp_path: Path, disk: str) -> None:
    initrd = tmp_path / "initrd"
    initrd.write_bytes(kernels.cpio(ALL_MODULES[:1]))
    report = look(tmp_path, hardware(disk, initrd=str(initrd)), **MODULAR)
    texts = [finding.text for finding in report.findings]
    assert len(texts) == 2
    assert "the module virtio_blk to find its disks, and the initramfs does not have it" in texts[0]
    assert "the module ext4 to mount ext4" in texts[1]


def test_an_initramfs_that_the_kernel_cannot_unpack(tmp_path: Path) -> None:
    initrd = tmp_path / "initrd"
    initrd.write_bytes(kernels.zstd(kernels.cpio(ALL_MODULES)))
    (finding,) = look(tmp_path, hardware(initrd=str(initrd)), RD_ZSTD="n").findings
    assert finding.fatal
    assert "packed with zstd; pack it with gzip, or build the kernel with CONFIG_RD_ZSTD=y" in finding.text


def test_a_disk_without_a_root(tmp_path: Path) -> None:
    path = tmp_path / "empty"
    path.write_bytes(bytes(1 << 20))
    (finding,) = look(tmp_path, hardware(str(path))).findings
    assert finding.text.startswith(f"disk {path} holds no file system that is known")
    path.write_bytes(b"LUKS\xba\xbe" + bytes(1 << 20))
    (finding,) = look(tmp_path, hardware(str(path), initrd="none")).findings
    assert "LUKS, which Linux does not mount by itself; give its system's KERNEL and --initrd" in finding.text
    assert look(tmp_path, hardware(str(path), initrd="missing")).findings == (), "an initramfs may open it"


def test_a_library_for_the_kernels_compression(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(preflight._LIBRARIES, "gzip", ("nobody_has_this", "no-package"))
    assert look(tmp_path, hardware()).findings[0].text == "this kernel is compressed with gzip; pip install no-package"


def test_without_a_configuration_only_the_disk_is_looked_at(tmp_path: Path, disk: str) -> None:
    kernel = tmp_path / "kernel"
    kernel.write_bytes(kernels.vmlinux())
    with boot.open_kernel(kernel) as opened:
        report = preflight.look(opened, hardware(disk))
    assert (report.config, report.findings, report.acpi) == (None, (), True)


def test_the_configuration_that_the_disk_has_for_the_kernel(tmp_path: Path) -> None:
    """Of a kernel that was copied out of its system, as Alpine's are handed on: nothing lies beside it."""
    kernel, path = tmp_path / "kernel", tmp_path / "disk"
    kernel.write_bytes(kernels.bzimage(kernels.payload(kernels.vmlinux())))
    release = kernels.VERSION.split()[0].decode()
    lines = "\n".join(f"CONFIG_{name}={value}" for name, value in (FULL | MODULAR).items() if value != "n")
    path.write_bytes(ext4(2 << 20, tmp_path, {"sbin/init": b"init", f"boot/config-{release}": lines.encode()}))
    with boot.open_kernel(kernel) as opened:
        report = preflight.look(opened, hardware(str(path)))
    assert report.config is not None
    assert report.config.source == f"/boot/config-{release} of disk {path}"
    assert report.config["VIRTIO_BLK"] == "m"
    assert any("needs the module virtio_blk" in finding.text for finding in report.findings)
