"""From a folder to a file system: whose the files are, and what is refused before anything is made."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from corral.errors import BootError, ConfigError, CorralError, HostError
from corral.images import build
from tests.unit.images.conftest import Image

MIB = 1 << 20


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    top = tmp_path / "folder"
    (top / "sub").mkdir(parents=True)
    (top / "sub" / "file").write_bytes(b"content")
    (top / "sub" / "file").chmod(0o640)
    os.link(top / "sub" / "file", top / "hard")
    (top / "soft").symlink_to("/etc/passwd")
    (top / 'odd "name"\n').write_bytes(b"odd")
    os.mkfifo(top / "pipe")
    top.chmod(0o700)
    return top


def make(folder: Path, image: Image, size: int | None = None) -> None:
    build.from_folder(str(folder), str(image.path), size, lambda text: None)
    assert os.listdir(image.path.parent) == [image.path.name]
    assert image.is_sound()


def test_what_is_in_it(folder: Path, image: Image) -> None:
    make(folder, image)
    assert image.content("/sub/file") == b"content"
    assert image.stat("/sub/file")["inode"] == image.stat("/hard")["inode"]
    assert image.stat("/sub/file")["mode"] == "100640"
    assert '"/etc/passwd"' in image.ask("stat /soft")
    assert image.stat("/pipe")["mode"].startswith("010")
    assert len(image.names()) == 5
    root = image.stat("/")
    assert (root["mode"], root["uid"], root["gid"]) == ("040755", "0", "0")
    assert image.path.stat().st_blocks * 512 < 8 * MIB


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_it_is_the_same_whatever_the_hosts_mke2fs_adds_by_default(
    folder: Path, image: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = "has_journal,extent,64bit,metadata_csum,orphan_file,metadata_csum_seed"
    (tmp_path / "mke2fs.conf").write_text(f"[fs_types]\n ext4 = {{\n  features = {features}\n }}\n")
    monkeypatch.setenv("MKE2FS_CONFIG", str(tmp_path / "mke2fs.conf"))
    make(folder, image)
    (line,) = [line for line in image.ask("stats -h").splitlines() if line.startswith("Filesystem features")]
    assert "metadata_csum " in f"{line} "
    assert "orphan_file" not in line
    assert "metadata_csum_seed" not in line


def test_files_of_the_caller_become_root_s(folder: Path, image: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in (folder, folder / "sub", folder / "sub" / "file", folder / "soft"):
        os.chown(path, 1000, 1000, follow_symlinks=False)
    os.chown(folder / "pipe", 100_001, 1000)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    make(folder, image)
    for name in ("/sub", "/sub/file", "/soft", "/hard"):
        assert (image.stat(name)["uid"], image.stat(name)["gid"]) == ("0", "0")
    assert (image.stat("/pipe")["uid"], image.stat("/pipe")["gid"]) == ("100001", "1000")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_root_s_images_keep_every_owner(folder: Path, image: Image) -> None:
    os.chown(folder / "sub", 1000, 70_000)
    make(folder, image)
    assert (image.stat("/sub")["uid"], image.stat("/sub")["gid"]) == ("1000", "70000")
    assert image.stat("/sub/file")["uid"] == "0"


@pytest.mark.long
def test_many_small_files_fit(folder: Path, image: Image) -> None:
    for number in range(5000):
        (folder / f"{number}").write_bytes(b"x")
    make(folder, image)
    assert len(image.names()) == 5005


def test_sparse_files_are_counted_by_what_they_hold(folder: Path, image: Image) -> None:
    with (folder / "sparse").open("wb") as file:
        file.seek(1 << 30)
        file.write(b"end")
        file.truncate(4 << 30)
    make(folder, image, 64 * MIB)
    assert image.path.stat().st_blocks * 512 < 16 * MIB
    assert image.stat("/sparse")["mode"].startswith("100")


def test_sockets_are_no_obstacle(folder: Path, image: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)  # the name of a socket is short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
    make(folder, image)


@pytest.mark.parametrize("many", [1, 4000])
def test_what_does_not_fit(many: int, folder: Path, image: Image) -> None:
    for number in range(many):
        (folder / f"{number}").write_bytes(os.urandom(15 * MIB // many))
    with pytest.raises(ConfigError, match="--size"):
        make(folder, image, 16 * MIB)
    assert os.listdir(image.path.parent) == []


def test_an_image_in_its_own_folder(folder: Path, image: Image) -> None:
    for where in (folder / "disk.img", folder / "sub" / "disk.img"):
        with pytest.raises(ConfigError, match="hold itself"):
            build.from_folder(str(folder), str(where), None, lambda text: None)
    with pytest.raises(ConfigError, match="hold itself"):
        build.from_folder("/", str(image.path), None, lambda text: None)


@pytest.mark.parametrize("bad", ["missing", "folder/sub/file", "folder/pipe", "a\0b", ""])
def test_what_is_no_folder(bad: str, folder: Path, image: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    with pytest.raises(BootError):
        build.from_folder(bad, str(image.path), None, lambda text: None)


@pytest.mark.skipif(os.geteuid() == 0, reason="root can read everything")
def test_what_cannot_be_read(folder: Path, image: Image) -> None:
    (folder / "hard").chmod(0)
    with pytest.raises(BootError, match="cannot read"):
        make(folder, image)


@pytest.mark.parametrize("tool", ["mke2fs", "debugfs"])
def test_a_missing_tool_is_told_with_its_package(
    tool: str, folder: Path, image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    which = shutil.which
    monkeypatch.setattr("shutil.which", lambda name, path=None: None if name == tool else which(name, path=path))
    with pytest.raises(HostError, match="e2fsprogs") as caught:
        make(folder, image)
    assert caught.value.exit_status == 3
    assert os.listdir(image.path.parent) == []


@pytest.mark.parametrize("text", ["#!/bin/sh\necho broken >&2\nexit 1\n", "#!/bin/sh\nkill -9 $$\n"])
def test_a_tool_that_fails_leaves_nothing(
    text: str, folder: Path, image: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    for name in ("mke2fs", "debugfs"):
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    with pytest.raises(CorralError, match="mke2fs cannot make the image"):
        make(folder, image)
    assert os.listdir(image.path.parent) == []


@pytest.mark.parametrize("when", ["looking through the folder", "making the image"])
@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])
def test_an_interruption_leaves_nothing(
    when: str, interruption: type[BaseException], folder: Path, image: Image
) -> None:
    def progress(text: str) -> None:
        if text == when:
            raise interruption

    with pytest.raises(interruption):
        build.from_folder(str(folder), str(image.path), None, progress)
    assert os.listdir(image.path.parent) == []
