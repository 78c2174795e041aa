"""Two runs beside each other: what differs, by how much, and where the samples cannot tell."""

from __future__ import annotations

from pathlib import Path

import pytest

from corral.cli import main
from corral.compare import files, two_runs
from corral.compare.samples import Results
from tests.unit.compare.test_claims import results


def run(corral: float, unit: str = "ms", rounds: int = 8, cpu: str = "one") -> Results:
    found = results("start", "first-line", unit, {"runc": 30.0, "corral": corral}, rounds)
    found.manifest = {"cpu": cpu, "KVM": "hardware"}
    return found


def test_what_became_faster_is_better_and_what_did_not_is_no_difference() -> None:
    runc, corral = two_runs.pairs(run(60.0), run(45.0))
    assert (runc.contender, runc.verdict) == ("runc", "no difference")
    assert corral.verdict == "0.750 x, better"
    assert two_runs.pairs(run(60.0, "1/s"), run(45.0, "1/s"))[1].verdict == "0.750 x, worse"


def test_too_few_samples_tell_nothing() -> None:
    assert two_runs.pairs(run(60.0, rounds=2), run(45.0, rounds=2))[1].verdict == "too few rounds"


def test_where_the_machines_differ_is_told_first_and_escaped() -> None:
    text = two_runs.text(run(60.0, cpu="one"), run(45.0, cpu="\x1b[2Jtwo"))
    assert text.startswith("cpu: one, then \\x1b[2Jtwo\n")
    assert "KVM" not in text


def test_nothing_in_common() -> None:
    assert two_runs.text(run(60.0), Results({})) == "the two have no metric in common"


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [str(tmp_path / name) for name in ("a.json", "b.json")]
    for path, value in zip(paths, (60.0, 45.0), strict=True):
        files.write_json(run(value), Path(path))
    assert main(["compare", "show", *paths]) == 0
    assert "0.750 x, better" in capsys.readouterr().out
    assert main(["compare", "show", paths[0]]) == 0
    assert capsys.readouterr().out.startswith("A VM (Corral) says its first line after 60.1 ms")
    assert main(["compare", "show"]) == 2
    assert main(["compare", "shwo", paths[0]]) == 2
    assert main(["compare", "--quick", "--short"]) == 2
