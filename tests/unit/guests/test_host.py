"""What a guest that looks like its host is made of: which kernel, which file systems."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from corral.errors import HostError
from corral.guests import host, parameters


def kernel(root: Path, release: str, age: int, driver: str = "kernel/net/9p/9pnet_virtio.ko\n") -> None:
    (root / "boot").mkdir(exist_ok=True)
    image = root / "boot" / f"vmlinuz-{release}"
    image.write_bytes(b"")
    os.utime(image, (1e9 - age, 1e9 - age))
    (root / "modules" / release).mkdir(parents=True)
    (root / "modules" / release / "modules.order").write_text(driver)


def found(root: Path, running: str) -> str | None:
    result = host.find(running, str(root / "boot"), (str(root / "none"), str(root / "modules")))
    assert result is None or result.modules == str(root / "modules" / result.release)
    return result and result.release


def test_the_kernel_that_runs_comes_first(tmp_path: Path) -> None:
    kernel(tmp_path, "1", age=3)
    kernel(tmp_path, "2", age=1)
    kernel(tmp_path, "3", age=2)
    assert found(tmp_path, "3") == "3"
    assert found(tmp_path, "gone") == "2"


def test_a_kernel_without_its_modules_or_9p_is_none(tmp_path: Path) -> None:
    assert found(tmp_path, "1") is None
    kernel(tmp_path, "1", age=1, driver="kernel/net/ipv6.ko\n")
    (tmp_path / "boot" / "vmlinuz-2").write_bytes(b"")
    assert found(tmp_path, "1") is None
    (tmp_path / "modules" / "1" / "modules.builtin").write_text("kernel/net/9p/9pnet_virtio.ko\n")
    assert found(tmp_path, "2") == "1"


def test_a_kernel_beside_its_modules(tmp_path: Path) -> None:
    kernel(tmp_path, "1", age=1)
    kernel(tmp_path, "2", age=9)
    (tmp_path / "boot" / "vmlinuz-2").rename(tmp_path / "modules" / "2" / "vmlinuz")
    assert found(tmp_path, "2") == "2"
    assert found(tmp_path, "gone") == "1", "the newest"
    result = host.find("2", str(tmp_path / "none"), (str(tmp_path / "modules"),))
    assert result is not None
    assert result.image == str(tmp_path / "modules" / "2" / "vmlinuz")


def test_a_kernel_that_is_for_root_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel(tmp_path, "1", age=1)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(HostError, match="chmod a\\+r"):
        found(tmp_path, "1")


def test_modules_that_are_compressed(tmp_path: Path) -> None:
    kernel(tmp_path, "1", age=1, driver="kernel/net/9p/9pnet_virtio.ko.zst\n")
    assert found(tmp_path, "1") == "1"


def line(path: str, kind: str) -> str:
    return f"27 1 254:0 / {path} rw,relatime shared:1 - {kind} /dev/vda rw"


def test_file_systems_of_disks_are_shared_each_by_itself(tmp_path: Path) -> None:
    (tmp_path / "with space").mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "a,b").mkdir()
    other = str(tmp_path / "with space")
    mountinfo = [
        *(line("/proc", "proc"), line("/", "rootfs"), line("/", "ext4"), line("/tmp", "tmpfs")),
        *(line(other.replace(" ", "\\040"), "xfs"), line(f"{tmp_path}/file", "ext4")),
        *(line(f"{tmp_path}/a,b", "ext4"), line(f"{tmp_path}/gone", "ext4")),
    ]
    assert host.mounts("\n".join(mountinfo)) == ["/", other]


def test_no_more_than_there_are_places_for(tmp_path: Path) -> None:
    folders = [tmp_path / str(number) for number in range(20)]
    for folder in folders:
        folder.mkdir()
    assert len(host.mounts("\n".join([line("/", "ext4"), *(line(str(path), "ext4") for path in folders)]))) == 9


def test_a_root_that_no_guest_can_look_like() -> None:
    with pytest.raises(HostError, match="root is of the kind tmpfs"):
        host.mounts(line("/", "tmpfs"))


def test_a_container_s_root_of_layers() -> None:
    assert host.mounts(line("/", "overlay")) == ["/"]


def test_its_parameters() -> None:
    words = parameters.for_host(["/", "/a b"], "/x%y")
    assert words == "corral.mounts=/,/a%20b corral.cwd=/x%25y"
