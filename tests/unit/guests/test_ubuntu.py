"""`corral boot ubuntu` by the sources of a host that has them: apt's own programs, on an archive of the same shape.

Only the root file system is not mmdebstrap's: the archive has no base system.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from corral.errors import HostError
from corral.guests import apt_suite, cache, debian, distribution_build
from tests.support import kernels

RELEASE = "6.8.0-31-generic"
SETTINGS = """
APT::Sandbox::User "";
APT::Architectures { "amd64"; };
Dir::Etc::sourcelist "FOLDER/sources.list";
Dir::Etc::sourceparts "-";
Dir::Etc::preferencesparts "-";
Dir::State "FOLDER/state";
Dir::State::status "/dev/null";
Dir::Cache "FOLDER/cache";
"""


def package(pool: Path, name: str, files: dict[str, bytes], depends: str = "") -> str:
    """Builds it into `pool`; returns its entry of the archive's index."""
    tree = pool / f"{name}.tree"
    control = f"Package: {name}\nVersion: 1\nArchitecture: amd64\nMaintainer: tests\nDescription: a test\n"
    control += f"Depends: {depends}\n" if depends else ""
    for path, content in {"DEBIAN/control": control.encode(), **files}.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_bytes(content)
    target = pool / f"{name}_1_amd64.deb"
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "--build", str(tree), str(target)], check=True, capture_output=True
    )
    data = target.read_bytes()
    return f"{control}Filename: pool/{target.name}\nSize: {len(data)}\nSHA256: {hashlib.sha256(data).hexdigest()}\n\n"


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host with Ubuntu's sources, and nothing else, for apt."""
    folder = tmp_path / "archive"
    pool = folder / "pool"
    pool.mkdir(parents=True)
    modules = f"lib/modules/{RELEASE}/kernel"
    disk = b"\x7fELF...\0depends=\0name=virtio_blk\0"
    index = package(pool, "linux-image-virtual", {}, f"linux-image-{RELEASE}")
    image = kernels.bzimage(kernels.payload(kernels.vmlinux(), "zstd"))
    index += package(pool, f"linux-image-{RELEASE}", {f"boot/vmlinuz-{RELEASE}": image})
    files = {f"{modules}/virtio_blk.ko.zst": kernels.zstd(disk), f"boot/config-{RELEASE}": b"CONFIG_X86_64=y\n"}
    index += package(pool, f"linux-modules-{RELEASE}", files)
    packages = folder / "dists" / "noble" / "main" / "binary-amd64" / "Packages"
    packages.parent.mkdir(parents=True)
    packages.write_text(index)
    digest = hashlib.sha256(index.encode()).hexdigest()
    lines = ["Origin: Ubuntu", "Suite: noble", "Codename: noble", "Components: main", "Architectures: amd64"]
    lines += ["Date: Thu, 25 Apr 2024 15:10:33 UTC", "SHA256:"]
    lines += [f" {digest} {len(index)} main/binary-amd64/Packages"]
    (folder / "dists" / "noble" / "Release").write_text("\n".join(lines) + "\n")
    for part in ("state/lists/partial", "cache/archives/partial"):
        (tmp_path / part).mkdir(parents=True)
    (tmp_path / "sources.list").write_text(f"deb [trusted=yes] file:{folder} noble main\n")
    (tmp_path / "apt.conf").write_text(SETTINGS.replace("FOLDER", str(tmp_path)))
    monkeypatch.setenv("APT_CONFIG", str(tmp_path / "apt.conf"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "corral"))
    subprocess.run(["apt-get", "update"], check=True, capture_output=True)
    return folder


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
