"""corral image as a person meets it: what it prints, its exit statuses, and what it leaves behind."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from corral.cli import main
from corral.cli.image import ACTIONS
from tests.unit.images.test_partitions import LINUX, gpt


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("corral.cli.image.leave_on_signals", lambda: None)
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "file").write_text("content")
    with tarfile.open(tmp_path / "files.tar", "w") as tar:
        tar.add(tmp_path / "files", ".")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "text").write_text("precious")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "disk.qcow2").write_bytes(b"QFI\xfb\0\0\0\3".ljust(4096, b"\0"))
    return tmp_path


@pytest.mark.parametrize("action", ACTIONS)
def test_every_action_has_help(action: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["image", action, "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: corral image {action} ")
    assert max(map(len, text.splitlines())) <= 120
    assert main(["image", "--help"]) == 0
    assert f"corral image {action} " in capsys.readouterr().out


def test_an_empty_file_system(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["image", "create", "disk.img", "1G"]) == 0
    made = capsys.readouterr()
    assert made.out.startswith("disk.img: raw, 1 GiB; takes ")
    assert made.out.endswith(" here, sparse\n")
    assert (folder / "disk.img").stat().st_size == 1 << 30
    assert (folder / "disk.img").stat().st_blocks * 512 < 8 << 20
    assert main(["image", "info", "disk.img"]) == 0
    told = capsys.readouterr().out
    assert told.startswith(made.out)
    assert "ext4, no label, UUID " in told
    assert "of 1 GiB free" in told


def test_no_file_system(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["image", "create", "--empty", "disk.img", "20G"]) == 0
    assert (folder / "disk.img").stat().st_size == 20 << 30
    assert (folder / "disk.img").stat().st_blocks == 0
    capsys.readouterr()
    assert main(["image", "info", "disk.img"]) == 0
    assert "no file system or partitions" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["from-dir", "files"], ["from-tar", "files.tar"]])
def test_from_files(words: list[str], folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["image", *words, "disk.img", "--size", "64M"]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("disk.img: raw, 64 MiB; takes ")
    assert "corral: making the image\n" in captured.err
    assert (folder / "disk.img").stat().st_mode & 0o777 == 0o666 & ~_umask()
    assert not [name for name in os.listdir(folder) if "unfinished" in name]


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_partitions_and_what_is_in_them(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["image", "create", "system.img", "16M"]) == 0
    sectors = (16 << 20) // 512
    disk = gpt((LINUX, 2048, 2047 + sectors, "root"), (LINUX, 2048 + sectors, 10 * sectors, "\x1b[2J"))
    (folder / "disk.img").write_bytes(disk.ljust(1 << 20, b"\0") + (folder / "system.img").read_bytes())
    capsys.readouterr()
    assert main(["image", "info", "disk.img"]) == 0
    text = capsys.readouterr().out
    assert "partitions: GPT\n" in text
    assert "16 MiB  Linux root\n" in text
    assert text.count("ext4, no label") == 1
    assert "not all of it is in the image" in text
    assert text.replace("\n", "").isprintable()


def test_what_is_not_raw_is_refused_by_name(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["image", "info", "disk.qcow2"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("corral: image disk.qcow2: not a raw image: qcow2; ")
    assert "qemu-img convert -f qcow2 -O raw" in captured.err
    assert captured.err.endswith("--format raw\n")
    assert main(["image", "info", "disk.qcow2", "--format", "raw"]) == 0
    assert "begins like qcow2" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [
        ["fly"],
        ["create"],
        ["create", "disk.img"],
        ["create", "disk.img", "1G", "more"],
        ["create", "disk.img", "large"],
        ["create", "disk.img", "0"],
        ["create", "disk.img", "0", "--empty"],
        ["create", "disk.img", "1K"],
        ["create", "disk.img", "17T"],
        ["create", "disk.img", "99999999T", "--empty"],
        ["create", "disk.img", "4000000T", "--empty"],
        ["create", "disk.img", "1G", "--empty=yes"],
        ["create", "disk.img", "1G", "--size", "2G"],
        ["create", "text", "1G"],
        ["create", "files", "1G"],
        ["create", "missing/disk.img", "1G"],
        ["create", "text/disk.img", "1G"],
        ["create", "", "1G"],
        ["create", "disk.img/", "1G"],
        ["create", "a\0b", "1G"],
        ["create", "n" * 300, "1G"],
        ["from-dir", "files"],
        ["from-dir", "missing", "disk.img"],
        ["from-dir", "files.tar", "disk.img"],
        ["from-dir", "files", "files/disk.img"],
        ["from-dir", ".", "disk.img"],
        ["from-dir", "files", "text"],
        ["from-dir", "files", "disk.img", "--size", "1M"],
        ["from-dir", "files", "disk.img", "--size", "-1"],
        ["from-tar", "missing", "disk.img"],
        ["from-tar", "files", "disk.img"],
        ["from-tar", "fifo", "disk.img"],
        ["from-tar", "text", "disk.img"],
        ["from-tar", "empty", "disk.img"],
        ["from-tar", "disk.qcow2", "disk.img"],
        ["from-tar", "files.tar", "files.tar"],
        ["info"],
        ["info", "missing"],
        ["info", "files"],
        ["info", "fifo"],
        ["info", "empty"],
        ["info", "text", "--format", "qcow2"],
    ],
    ids=lambda words: " ".join(words)[:40],
)
def test_bad_input_is_one_line_and_status_2(words: list[str], folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(os.listdir(folder))
    assert main(["image", *words]) == 2
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if "unpacking" not in line and "looking" not in line]
    assert len(lines) == 1
    assert lines[0].startswith("corral: ")
    assert len(lines[0]) < 400 + max(map(len, words))
    assert captured.out == ""
    assert sorted(os.listdir(folder)) == before
    assert (folder / "text").read_text() == "precious"


def test_a_missing_tool_is_status_3(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("shutil.which", lambda name, path=None: None)
    for words in (["create", "disk.img", "1G"], ["from-dir", "files", "disk.img"], ["from-tar", "files.tar", "d.img"]):
        assert main(["image", *words]) == 3
        assert "apt-get install e2fsprogs" in capsys.readouterr().err
    assert main(["image", "create", "disk.img", "1G", "--empty"]) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_nothing(number: signal.Signals, tmp_path: Path) -> None:
    archive = tmp_path / "large.tar"
    with tarfile.open(archive, "w") as tar:
        member = tarfile.TarInfo("zeros")
        for count in range(20_000):
            member = tarfile.TarInfo(f"{count}")
            member.size = 1
            tar.addfile(member, io.BytesIO(b"x"))
    command = [sys.executable, "-m", "corral", "image", "from-tar", "large.tar", "disk.img"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE)
    end = time.monotonic() + 30
    while not any("unfinished" in name for name in os.listdir(tmp_path)) and time.monotonic() < end:
        time.sleep(0.005)
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert b"Traceback" not in errors
    assert os.listdir(tmp_path) == ["large.tar"]


def test_a_boot_imports_nothing_of_it() -> None:
    script = "import sys; from corral.cli import boot; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not [name for name in done.stdout.split() if name.startswith("corral.images")]
