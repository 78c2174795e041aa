"""The image writer, read back by others: isoinfo and blkid."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from corral.files import iso9660
from tests.support import packages

FILES = {
    "user-data": b"#!/bin/sh\n",
    "meta-data": bytes(range(256)) * 9,
    "network-config": b"",
    "vendor-data": b"x" * 2048,
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "image.iso"
    path.write_bytes(iso9660.image("CIDATA", FILES))
    return path


@pytest.fixture(scope="session")
def isoinfo() -> str:
    return shutil.which("isoinfo") or packages.file("genisoimage", "bin/isoinfo")


def output(*command: str) -> bytes:
    return subprocess.run(command, capture_output=True, check=True, timeout=20).stdout


def test_names_and_contents(path: Path, isoinfo: str) -> None:
    names = output(isoinfo, "-R", "-f", "-i", str(path)).decode().split()
    assert sorted(names) == sorted(f"/{name}" for name in FILES)
    for name, content in FILES.items():
        assert output(isoinfo, "-R", "-x", f"/{name}", "-i", str(path)) == content
    listing = output(isoinfo, "-R", "-l", "-i", str(path)).decode()
    assert listing.count("-r--r--r--   1    0    0") == len(FILES)


def test_names_without_rock_ridge(path: Path, isoinfo: str) -> None:
    names = output(isoinfo, "-f", "-i", str(path)).decode().split()
    assert names == ["/META_DAT.;1", "/NETWORK_.;1", "/USER_DAT.;1", "/VENDOR_D.;1"]


def test_the_label(path: Path) -> None:
    found = output("blkid", "-p", str(path)).decode()
    assert 'LABEL="CIDATA"' in found
    assert 'TYPE="iso9660"' in found


def test_the_same_files_make_the_same_image() -> None:
    image = iso9660.image("CIDATA", FILES)
    assert image == iso9660.image("CIDATA", dict(reversed(FILES.items())))
    assert len(image) % iso9660.SECTOR == 0
    assert len(image) < 64 << 10


@pytest.mark.parametrize(
    "files", [{"a" * 65: b""}, {"user-data": b"", "user-database": b""}, {f"{n}": b"" for n in range(9)}], ids=range(3)
)
def test_what_has_no_room(files: dict[str, bytes]) -> None:
    with pytest.raises(ValueError, match="cannot have these files"):
        iso9660.image("CIDATA", files)


def test_as_many_files_as_there_can_be(tmp_path: Path, isoinfo: str) -> None:
    files = {f"{n}" + "-" * 63: b"%d" % n for n in range(8)}
    path = tmp_path / "image.iso"
    path.write_bytes(iso9660.image("X", files))
    for name, content in files.items():
        assert output(isoinfo, "-R", "-x", f"/{name}", "-i", str(path)) == content
