"""A distribution's kernel is found in its packages, whatever the release's layout: apt's own programs on an archive of
the same shape."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from corral.cli import main
from corral.errors import HostError
from corral.guests import kernel, kernel_package
from tests.support.archive import Package, make

RELEASE = "7.2.13+deb14-cloud-amd64"
IMAGE = f"linux-image-{RELEASE}"
META = Package("linux-image-cloud-amd64", IMAGE)
OTHERS = "kmod, initramfs-tools | linux-initramfs-tool, linux-base (>= 4)"


def files(folder: str, *names: str) -> dict[str, bytes]:
    return {f"{folder}/{name}": name.encode() for name in names}


BOOT = [f"vmlinuz-{RELEASE}", f"config-{RELEASE}", f"System.map-{RELEASE}"]
IN_LIB = f"lib/modules/{RELEASE}"
IN_USR = f"usr/lib/modules/{RELEASE}"
MODULES = ["kernel/fs/ext4.ko", "modules.order"]
LAYOUTS = {
    "debian-12": [Package(IMAGE, OTHERS, files("boot", *BOOT) | files(IN_LIB, *MODULES))],
    "debian-13": [Package(IMAGE, OTHERS, files("boot", *BOOT) | files(IN_USR, *MODULES))],
    "debian-14": [
        Package(IMAGE, f"{OTHERS}, linux-base-{RELEASE} (= 1), linux-binary-{RELEASE} (= 1), linux-modules-{RELEASE}"),
        Package(f"linux-base-{RELEASE}", "", files(IN_USR, "System.map", "config", "modules.order")),
        Package(f"linux-binary-{RELEASE}", f"linux-base-{RELEASE}", files(IN_USR, "vmlinuz")),
        Package(f"linux-modules-{RELEASE}", f"kmod, linux-base-{RELEASE}", files(IN_USR, "kernel/fs/ext4.ko")),
    ],
    "ubuntu-24.04": [
        Package(IMAGE, f"{OTHERS}, linux-modules-{RELEASE}", files("boot", BOOT[0])),
        Package(f"linux-modules-{RELEASE}", "", files("boot", *BOOT[1:]) | files(IN_LIB, *MODULES)),
    ],
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_part_is_found(layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, [META, *LAYOUTS[layout]], "Debian", "sid", monkeypatch)
    found = kernel_package.fetch(IMAGE)
    assert found.release == RELEASE
    assert Path(found.image).read_text().startswith("vmlinuz")
    assert Path(found.configuration).read_text().startswith("config")
    assert found.symbols is not None
    assert Path(found.symbols).read_text().startswith("System.map")
    assert sorted(os.listdir(found.modules))[0:2] in (["System.map", "config"], ["kernel", "modules.order"])
    assert Path(found.modules, "kernel", "fs", "ext4.ko").is_file()
    assert kernel_package.ready() == [found]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_command_line_names_a_file_that_is_there(
    layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path, [META, *LAYOUTS[layout]], "Debian", "sid", monkeypatch)
    for action in ("build", "path"):
        assert main(["kernel", action, "stock"]) == 0
        assert Path(capsys.readouterr().out.strip()).read_text().startswith("vmlinuz")
    assert main(["kernel", "list"]) == 0
    name, release, _, _, path = capsys.readouterr().out.split()
    assert (name, release) == ("stock", RELEASE)
    assert Path(path).is_file()


def test_a_layout_that_nobody_knows_is_one_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    strange = Package(IMAGE, "", files("opt/linux", *BOOT) | files(IN_USR, *MODULES))
    make(tmp_path, [META, strange], "Debian", "sid", monkeypatch)
    with pytest.raises(HostError) as caught:
        kernel_package.fetch(IMAGE)
    places = f"boot/vmlinuz-{RELEASE}, nor {IN_USR}/vmlinuz, nor {IN_LIB}/vmlinuz"
    assert str(caught.value) == f"the packages of the kernel {RELEASE} have no {places}"
    assert kernel_package.ready() == []
    assert kernel.ready() == []
    assert main(["kernel", "build", "stock"]) == 3
    captured = capsys.readouterr()
    assert captured.out == ""
    assert places in captured.err
    assert main(["kernel", "list"]) == 0


def test_what_another_release_depends_on_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = Package("linux-headers-9.9-amd64", "", files("usr/src", "headers"))
    parts = [Package(IMAGE, "linux-headers-9.9-amd64", files("boot", *BOOT) | files(IN_USR, *MODULES)), other]
    make(tmp_path, [META, *parts], "Debian", "sid", monkeypatch)
    assert not Path(kernel_package.fetch(IMAGE).folder, "usr", "src").exists()
