"""Is Corral worse than it was?"""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest

from corral.cli import main
from corral.compare import experiment, files
from corral.compare.check import changes
from corral.compare.samples import Results, Sample
from corral.errors import ConfigError


def results(middle: float, unit: str = "ms", count: int = 10, seed: int = 1, cpu: str = "one") -> Results:
    chance = random.Random(seed)
    values = [middle * math.exp(chance.gauss(0, 0.01)) for _ in range(count)]
    samples = [
        Sample(contender, "start", "first-line", value, unit, index, 0.0)
        for index, value in enumerate(values)
        for contender in ("native", "corral")
    ]
    return Results({"native": "native", "corral": "Corral"}, samples, manifest={"cpu": cpu, "KVM": "hardware"})


@pytest.mark.parametrize(
    ("middle", "unit", "worse"),
    [
        (100, "ms", False),
        (103, "ms", False),
        (120, "ms", True),
        (80, "ms", False),
        (120, "1/s", False),
        (80, "1/s", True),
    ],
)
def test_worse_is_what_is_significant_and_over_five_percent(middle: float, unit: str, worse: bool) -> None:
    (change,) = changes(results(100, unit), results(middle, unit, seed=2))
    assert change.is_regression is worse
    assert ("WORSE" in str(change)) is worse


def test_a_large_change_that_chance_explains_is_none() -> None:
    noise = results(100)
    noise.samples = [
        Sample("corral", "start", "first-line", value, "ms", index, 0.0)
        for index, value in enumerate([50, 220, 60, 300, 90, 130, 400, 45, 200, 160])
    ]
    before = results(100)
    before.samples = [
        Sample("corral", "start", "first-line", value, "ms", index, 0.0)
        for index, value in enumerate([40, 210, 55, 290, 85, 90, 380, 60, 70, 150])
    ]
    (change,) = changes(before, noise)
    assert change.worse > 0.05
    assert not change.is_regression


def test_baselines_that_are_none() -> None:
    with pytest.raises(ConfigError, match="made with cpu 'other'"):
        changes(results(1, cpu="other"), results(1))
    with pytest.raises(ConfigError, match="too few"):
        changes(results(1), results(1, count=2))
    nothing = Results({}, manifest=results(1).manifest)
    with pytest.raises(ConfigError, match="nothing of Corral"):
        changes(results(1), nothing)


@pytest.mark.parametrize(("middle", "status"), [(100, 0), (120, 1)])
def test_the_command_tells_by_its_status(
    middle: float, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def run(request: object, found: Results, progress: object) -> None:
        vars(found).update(vars(results(middle, seed=2)))

    monkeypatch.setattr(experiment, "run", run)
    files.write_json(results(100), tmp_path / "before.json")
    words = ["--check", str(tmp_path / "before.json"), "--out", str(tmp_path / "now")]
    assert main(["compare", *words]) == status
    assert ("WORSE" if status else "as before") in capfd.readouterr().out.splitlines()[-1]
    assert (tmp_path / "now" / "report.html").exists()
