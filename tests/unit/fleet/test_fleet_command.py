"""corral fleet: what is wrong with its command line is one line, before Ray is asked for."""

from __future__ import annotations

import sys

import pytest

from corral.cli import main


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["upp"], "did you mean up?"),
        (["run"], "needs an IMAGE"),
        (["run", "a", "b"], "know what to do with 'b'"),
        (["run", "python:3.12", "-n", "0"], "--number 0: 1 to 1000000"),
        (["run", "python:3.12", "--share", "x"], "'x' is no number of CPUs"),
        (["run", "python:3.12", "--share", "nan"], "0.001 to 1024"),
        (["run", "python:3.12", "--kernels", "small"], "--kernels is for corral fleet boot-matrix"),
        (["run", "python:3.12", "--retries", "101"], "--retries 101: 0 to 100"),
        (["boot-matrix", "-n", "3"], "-n is for corral fleet run"),
        (["boot-matrix", "--cpus", "1,x"], "--cpus"),
        (["ps", "--", "x"], "takes no COMMAND"),
        (["up", "--guests", "0"], "--guests 0: 1 to 100000"),
        (["stop", "job", "--node"], "leave the JOB out"),
    ],
)
def test_bad_usage(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fleet", *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("words", [["ps"], ["up"], ["run", "python:3.12"], ["boot-matrix"]])
def test_without_ray_it_names_the_extra(
    words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(["fleet", *words]) == 3
    assert "pip install 'corral[ray]'" in capsys.readouterr().err


def test_another_version_of_ray_is_refused_with_those_that_work(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = type(sys)("ray")
    other.__version__ = "2.61.0"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ray", other)
    assert main(["fleet", "ps"]) == 3
    assert "Ray 2.61.0 is here, and Corral works with 2.60.0" in capsys.readouterr().err
