"""What a shell completes, by the shell itself."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from corral.cli import COMMANDS, completion, main
from corral.cli.help import of_command


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("completion")
    for shell, script in completion.completion_scripts.SCRIPTS.items():
        (folder / shell).write_text(script(completion.commands()))
    return folder


def completed(script: Path, folder: Path, *words: str) -> list[str]:
    """What bash offers for the last word."""
    program = f'source {script}; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _corral; printf "%s\\n" "${{COMPREPLY[@]}}"'
    done = subprocess.run(
        ["bash", "-c", program, "bash", "corral", *words], cwd=folder, capture_output=True, text=True, check=True
    )
    assert not done.stderr
    return sorted(filter(None, done.stdout.split("\n")))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a disk.img").touch()
    (tmp_path / "debris").touch()
    return tmp_path


def test_commands(scripts: Path, folder: Path) -> None:
    assert completed(scripts / "bash", folder, "") == sorted([*COMMANDS, "version", "--help", "--version"])
    assert completed(scripts / "bash", folder, "im") == ["image", "images"]


@pytest.mark.parametrize("command", COMMANDS)
def test_all_options_of_a_command(command: str, scripts: Path, folder: Path) -> None:
    found = completed(scripts / "bash", folder, command, "--")
    wanted = {f"--{option.name}" for option in of_command(command).options}
    assert wanted | {"--help"} <= set(found)
    assert len(found) == len(set(found))


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["boot", "deb"], ["debian", "debris"]),
        (["boot", "--memo"], ["--memory"]),
        (["boot", "--acpi", ""], ["auto", "off", "on"]),
        (["boot", "--disk", "a"], ["a disk.img"]),
        (["boot", "--memory", ""], []),
        (["boot", "--", ""], []),
        (["kernel", "b"], ["build"]),
        (["image", "from"], ["from-dir", "from-tar"]),
        (["images", ""], ["list", "prune", "rm"]),
        (["trace", "-e", ""], []),
        (["trace", "--", ""], ["boot"]),
        (["trace", "--", "boot", "--acp"], ["--acpi"]),
        (["completion", ""], ["bash", "fish", "zsh"]),
        (["help", "dis"], ["disasm", "disks"]),
    ],
)
def test_words(words: list[str], offered: list[str], scripts: Path, folder: Path) -> None:
    assert completed(scripts / "bash", folder, *words) == offered


def test_zsh_and_fish_read_theirs(scripts: Path) -> None:
    shells = [shell for shell in ("zsh", "fish") if shutil.which(shell)]
    if not shells:
        pytest.skip("neither zsh nor fish is installed")
    for shell in shells:
        done = subprocess.run([shell, "-n", str(scripts / shell)], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_zsh_has_it_in_a_completion_system(scripts: Path, tmp_path: Path) -> None:
    if not shutil.which("zsh"):
        pytest.skip("zsh is not installed")
    program = f"autoload -Uz compinit; compinit -D; source {scripts / 'zsh'}; print $_comps[corral]"
    environment = {**os.environ, "HOME": str(tmp_path)}
    done = subprocess.run(["zsh", "-f", "-c", program], capture_output=True, text=True, env=environment, check=True)
    assert (done.stdout, done.stderr) == ("_corral\n", "")


def test_fish_completes(scripts: Path, folder: Path) -> None:
    if not shutil.which("fish"):
        pytest.skip("fish is not installed")

    def offered(line: str) -> list[str]:
        program = f"source {scripts / 'fish'}; complete -C {line!r}"
        done = subprocess.run(
            ["fish", "--no-config", "-c", program], cwd=folder, capture_output=True, text=True, check=True
        )
        return [each.split("\t")[0] for each in done.stdout.splitlines()]

    assert offered("corral im") == ["image", "images"]
    assert offered("corral boot --memo") == ["--memory"]
    assert offered("corral boot --acpi ") == ["auto", "off", "on"]
    assert {"debian", "debris"} <= set(offered("corral boot deb"))
    assert offered("corral kernel b") == ["build"]


def test_a_shell_that_there_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "bsh"]) == 2
    assert "did you mean bash?" in capsys.readouterr().err
    assert main(["completion"]) == 2
