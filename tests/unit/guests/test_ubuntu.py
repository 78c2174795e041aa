"""`corral boot ubuntu` by the sources of a host that has them: apt's own programs, on an archive of the same shape.

Only the root file system is not mmdebstrap's: the archive has no base system.
"""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest

from corral.errors import HostError
from corral.guests import apt_suite, cache, debian, distribution_build
from tests.support import kernels
from tests.support.archive import Package, make

RELEASE = "6.8.0-31-generic"


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host with Ubuntu's sources, and nothing else, for apt."""
    modules = f"lib/modules/{RELEASE}/kernel"
    disk = b"\x7fELF...\0depends=\0name=virtio_blk\0"
    image = kernels.bzimage(kernels.payload(kernels.vmlinux(), "zstd"))
    files = {f"{modules}/virtio_blk.ko.zst": kernels.zstd(disk), f"boot/config-{RELEASE}": b"CONFIG_X86_64=y\n"}
    packages = [
        Package("linux-image-virtual", f"linux-image-{RELEASE}"),
        Package(f"linux-image-{RELEASE}", f"kmod, linux-modules-{RELEASE}", {f"boot/vmlinuz-{RELEASE}": image}),
        Package(f"linux-modules-{RELEASE}", files=files),
    ]
    return make(tmp_path, packages, "Ubuntu", "noble", monkeypatch)


def test_its_sources_are_found(archive: Path) -> None:
    assert apt_suite.find("ubuntu", "noble").sources == (f"deb file:{archive}/ noble main",)


def test_a_release_that_its_archive_lacks_is_one_line(archive: Path) -> None:
    with pytest.raises(HostError, match="the release jammy of ubuntu") as caught:
        apt_suite.find("ubuntu", "jammy")
    assert "\n" not in str(caught.value)


def test_it_is_made(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(debian, "require_installed", lambda packages, what_for: asked.extend(packages))

    def root(suite: str, where: apt_suite.Suite, modules: str, tar: str, progress: object) -> None:
        assert (suite, os.path.basename(modules)) == ("noble", RELEASE)
        with tarfile.open(tar, "w") as file:
            file.addfile(tarfile.TarInfo("etc"))

    monkeypatch.setattr(distribution_build, "_root", root)
    into = Path(cache.folder("distributions", "ubuntu-noble.unfinished-1"))
    into.mkdir(parents=True)
    distribution_build.build("ubuntu", "noble", False, str(into), lambda text: None)
    assert asked == ["mmdebstrap", "e2fsprogs"]
    assert (into / "release").read_text() == f"{RELEASE}\n"
    assert (into / "vmlinux").read_bytes() == kernels.vmlinux()
    assert (into / f"config-{RELEASE}").read_bytes() == b"CONFIG_X86_64=y\n"
    initramfs = (into / "initramfs.cpio").read_bytes()
    assert b"modules/00\0" in initramfs
    assert b"name=virtio_blk" in initramfs
    assert b"modules/01\0" not in initramfs, "the others are built in"
    assert (into / "root.img").stat().st_size == 4 << 30


def test_an_apt_that_does_not_read_the_hosts_configuration_is_told_of_it(archive: Path, tmp_path: Path) -> None:
    with open(tmp_path / "apt.conf", "a") as file:
        file.write('Acquire::Check-Valid-Until "false";\nAcquire::http::Proxy "http://localhost:3142";\n')
        file.write('Acquire::http::Proxy::other.invalid "DIRECT";\nAcquire::Retries "9";\n')
    told = ['Acquire::http::Proxy "http://localhost:3142";', 'Acquire::Check-Valid-Until "false";']
    assert sorted(line for line in apt_suite.fetching() if "Check-Date" not in line) == sorted(told)
