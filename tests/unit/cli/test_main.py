"""The command as a person meets it, as far as no KVM is needed: one line for what is wrong, never a traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import corral
from corral.cli import COMMANDS, main
from corral.errors import HostError


def test_without_a_command_there_is_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    without = capsys.readouterr().out
    for word in ("-h", "--help", "help"):
        assert main([word]) == 0
        assert capsys.readouterr().out == without
    assert all(name in without for name in COMMANDS)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"corral {corral.__version__}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_its_exit_status(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"usage: corral {command}")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    return tmp_path


@pytest.mark.parametrize(
    "words",
    [
        ["frobnicate"],
        ["--frobnicate"],
        ["boot", "--frobnicate"],
        ["boot", "vmlinux", "another"],
        ["boot", "--memory", "0"],
        ["boot", "--memory", "-5"],
        ["boot", "--memory", "lots"],
        ["boot", "--memory", "64T"],
        ["boot", "--memory", "1000000T"],
        ["boot", "--memory", "9" * 1000],
        ["boot", "--memory", "٣G"],
        ["boot", "--memory", "4097K"],
        ["boot", "--memory"],
        ["boot", "--cpus", "0"],
        ["boot", "--cpus", "65"],
        ["boot", "--cpus", "-1"],
        ["boot", "--cpus", "1.5"],
        ["boot", "--cpus", "9" * 1000],
        ["boot", "--timeout", "0"],
        ["boot", "--timeout", "-1"],
        ["boot", "--timeout", "nan"],
        ["boot", "--timeout", "inf"],
        ["boot", "--timeout", "soon"],
        ["boot", "--acpi", "maybe"],
        ["boot", "--console", "tape"],
        ["boot", "--console", "file:"],
        ["boot", "--console", "file:folder"],
        ["boot", "--console", "file:fifo"],
        ["boot", "--console", "file:missing/file"],
        ["doctor", "please"],
        ["doctor", "--json=yes"],
        ["kernel", "fly"],
        ["kernel", "build", "windows"],
        ["kernel", "path", "small", "stock"],
    ],
    ids=lambda words: " ".join(words)[:40],
)
def test_bad_input_is_one_line_and_status_2(
    words: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("corral: ")
    assert captured.err.count("\n") == 1
    assert len(captured.err) < 400 + max(map(len, words))
    assert captured.out == ""
    assert not (folder / "file").exists()


def test_what_is_wrong_is_told_before_a_file_is_touched(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    (folder / "log").write_text("precious")
    assert main(["boot", "--cpus", "0", "--console", "file:log"]) == 2
    assert main(["boot", "--acpi", "", "--console", "file:log"]) == 2
    assert (folder / "log").read_text() == "precious"


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_no_reader_of_our_output_is_quiet(unbuffered: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "corral", "--help"], stdout=write, stderr=subprocess.PIPE, timeout=30, check=False
    )
    os.close(write)
    assert done.stderr == b""
    assert done.returncode == 141


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_descriptors(closed: str) -> None:
    script = f'"{sys.executable}" -m corral boot --cpus 0 {closed}'
    assert subprocess.run(["sh", "-c", script], timeout=30, check=False).returncode == 2
    version = ["sh", "-c", f'"{sys.executable}" -m corral --version {closed}']
    assert subprocess.run(version, timeout=30, check=False).returncode == 0


def test_ctrl_c_is_status_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(words: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("corral.cli.doctor.run", interrupted)
    assert main(["doctor"]) == 130
    assert capsys.readouterr().err == ""


def test_what_the_host_lacks_is_status_3(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def lacking(words: list[str]) -> int:
        raise HostError("no KVM; get some")

    monkeypatch.setattr("corral.cli.doctor.run", lacking)
    assert main(["doctor"]) == 3
    assert capsys.readouterr().err == "corral: no KVM; get some\n"


def test_a_bug_of_ours_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(words: list[str]) -> int:
        raise ZeroDivisionError

    monkeypatch.setattr("corral.cli.doctor.run", broken)
    with pytest.raises(ZeroDivisionError):
        main(["doctor"])


def test_doctor_for_programs_says_what_it_says_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["doctor", "--json"])
    facts = json.loads(capsys.readouterr().out)
    assert status == (3 if facts["problems"] else 0)
    assert main(["doctor"]) == status
    text = capsys.readouterr().out
    assert facts["cpu"] in text
    assert f"{facts['memory'] / (1 << 30):.1f} GiB" in text
    assert all(problem in text for problem in facts["problems"])
    assert len(facts["nodes"]) == text.count("NUMA node")
