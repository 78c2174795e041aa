"""Contenders by what they would run; whether it runs is tested on both kinds of KVM."""

from __future__ import annotations

import json
import stat
import subprocess
from pathlib import Path

import pytest

from corral.cli import main
from corral.compare import experiment
from corral.compare.contenders import ALL, Job, Kit, Launch, Unsuitable, choose
from corral.compare.contenders.base import PLACEMENTS
from corral.compare.contenders.bubblewrap import Bubblewrap
from corral.compare.contenders.corral_vm import PLACED
from corral.compare.contenders.engines import Docker, Podman
from corral.compare.contenders.native import Native
from corral.compare.contenders.qemu import Microvm, by_debug_exit, by_line
from corral.compare.contenders.runc import Runc
from corral.errors import ConfigError

PROGRAM = Path("/bin/true")


def test_names_are_unique_and_choosing_keeps_the_order() -> None:
    names = [contender.name for contender in ALL]
    assert len(set(names)) == len(names)
    assert choose([]) == list(ALL)
    assert [contender.name for contender in choose(["corral", "native"])] == ["native", "corral"]
    with pytest.raises(ConfigError, match="no contender 'xen'"):
        choose(["xen"])


def test_a_program_finds_its_disk_and_its_private_place(tmp_path: Path) -> None:
    job = Job(PROGRAM, ("{scratch}", "{private}", "4"), scratch=tmp_path / "disk", base=tmp_path / "base")
    kit = Kit(tmp_path, 64 << 20)
    native = Native(kit).launch(job)
    assert native.argv[1:] == [str(tmp_path / "disk"), f"{native.layers[0]}/private", "4"]
    wrapped = Bubblewrap(kit).launch(job)
    assert wrapped.argv[-4:] == ["/bin/true", "/scratch", "/own/private", "4"]
    assert str(wrapped.layers[0]) in wrapped.argv
    assert Native(kit).launch(job).layers != native.layers


def test_a_bundle_for_runc(tmp_path: Path) -> None:
    launch = Runc(Kit(tmp_path, 0)).launch(Job(PROGRAM, ("{private}",)))
    bundle = Path(launch.argv[launch.argv.index("--bundle") + 1])
    configuration = json.loads((bundle / "config.json").read_text())
    assert configuration["process"]["args"] == ["/bin/true", "/own/private"]
    assert configuration["root"]["readonly"]
    (overlay,) = [mount for mount in configuration["mounts"] if mount["type"] == "overlay"]
    assert f"upperdir={launch.layers[0]}" in overlay["options"]
    assert launch.undo[0][-1] == launch.argv[-1], "what is started is also taken away"


def test_exit_statuses_that_come_through_qemu() -> None:
    assert [by_debug_exit(status, []) for status in (1, 15, 155, 0, 2, -6)] == [0, 7, 77, 255, 2, -6]
    assert by_line(0, [b"x\n", b"corral-status 7\r\n"]) == 7
    assert by_line(0, [b"corral-status\n", b"corral-status x\n"]) == 255
    assert by_line(-9, [b"corral-status 0\n"]) == -9


def test_a_placement_is_corrals_alone(tmp_path: Path) -> None:
    kit = Kit(tmp_path, 64 << 20)
    assert set(PLACED) == {"", *PLACEMENTS}
    with pytest.raises(Unsuitable, match="places neither"):
        Microvm(kit).launch(Job(PROGRAM, placement="flat"))


@pytest.mark.parametrize("engine", [Podman, Docker])
def test_an_engine_that_does_not_work_is_absent_with_the_reason(
    engine: type[Podman], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "is not installed: apt-get install" in experiment.probe(engine(Kit(tmp_path, 0)))
    program = tmp_path / engine.name
    program.write_text("#!/bin/sh\necho the daemon sleeps >&2\nexit 1\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    assert experiment.probe(engine(Kit(tmp_path, 0))).endswith("does not work here: the daemon sleeps")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--only", "lunch"], "nothing to measure by the name 'lunch'"),
        (["--contenders", "xen"], "no contender 'xen'"),
        (["--runs", "0"], "it must be 1 to 1000"),
        (["--runs", "many"], "not a number"),
        (["--memory", "1M"], "32M at least"),
        (["--pin", "9999"], "name CPUs among"),
        (["--pin", "x"], "name CPUs among"),
        (["--out", "/dev/null"], "is a file"),
        (["--check", "/nowhere"], "cannot read '/nowhere'"),
        (["--check", "/dev/null"], "no JSON"),
        (["start"], "does not know what to do"),
    ],
)
def test_mistakes_are_told_before_anything_runs(
    words: list[str], message: str, capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["compare", *words]) == 2
    told = capfd.readouterr()
    assert (told.out, told.err.count("\n")) == ("", 1)
    assert message in told.err
    assert not list(tmp_path.iterdir())


def test_the_list(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "--list"]) == 0
    told = capfd.readouterr().out
    assert all(
        f"\n  {name} " in told for name in ("native", "runc", "corral", "qemu-q35", "start", "rate-50", "ledger")
    )


def test_what_ends_a_contender_is_made_up_for_when_it_was_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kit = Kit(tmp_path, 0)
    launch = Launch(["/bin/true"], undo=(["touch", str(tmp_path / "undone")],))

    def interrupted(*words: object, **options: object) -> None:
        raise KeyboardInterrupt

    running = Native(kit).running(launch)
    with monkeypatch.context() as patch:
        running.__enter__()
        patch.setattr(subprocess, "run", interrupted)
        with pytest.raises(KeyboardInterrupt):
            running.__exit__(None, None, None)
    assert not (tmp_path / "undone").exists()
    kit.tidy_up(kit.pending)
    assert (tmp_path / "undone").exists()
    assert kit.pending == []
