"""The table that a run of several parts ends with."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.__main__ import CORES, at_once
from tests.support.results import Part, table

JUNIT = """<testsuites><testsuite>
<testcase classname="tests.unit.test_a" name="test_one" time="1"/>
<testcase classname="tests.unit.test_a" name="test_two"><skipped message="no disk&#10;  here">x</skipped></testcase>
<testcase classname="tests.unit.test_a" name="test_three"><skipped message="no disk here">x</skipped></testcase>
<testcase classname="tests.unit.test_b" name="test_four"><failure message="assert 1 == 2">x</failure></testcase>
<testcase classname="tests.unit.test_b" name="test_five"><error message="setup">x</error></testcase>
<testcase classname="tests.nested.test_c" name="test_six">
<properties><property name="repeated" value="the host died"/></properties></testcase>
</testsuite></testsuites>"""


@pytest.fixture
def part(tmp_path: Path) -> Part:
    (tmp_path / "unit.xml").write_text(JUNIT)
    part = Part("unit", seconds=75.5, status=2, last_line="make: *** [Makefile:1: unit] Error 1")
    part.read([tmp_path / "unit.xml"])
    return part


def test_each_part_has_a_line_and_each_reason_is_told_once(part: Part) -> None:
    assert table([part, Part("lint", 5, 0)], 80.25).splitlines() == [
        "part    time  result   passed  failed  skipped  repeated",
        "unit    1:15  failed        2       2        2         1",
        "lint    0:05  ok",
        "",
        "skipped:",
        "  unit: 2 x no disk here",
        "",
        "repeated:",
        "  unit: tests.nested.test_c.test_six: the host died",
        "",
        "failed:",
        "  unit: tests.unit.test_b.test_four",
        "  unit: tests.unit.test_b.test_five",
        "",
        "============== 2 failed, 2 passed, 2 skipped in 80.25s (0:01:20) ===============",
    ]


def test_a_part_without_tests_that_fails_is_an_error() -> None:
    lines = table([Part("lint", 5, 2, "make: *** [Makefile:1: lint] Error 1")], 5).splitlines()
    assert lines[1] == "lint    0:05  failed"
    assert "  lint: make: *** [Makefile:1: lint] Error 1" in lines
    assert " 1 error in 5.00s " in lines[-1]


def test_a_part_that_cannot_run_here_says_why() -> None:
    lines = table([Part("debian13", 0.1, 0, "debian13: skipped: a chroot takes root")], 1).splitlines()
    assert lines[1] == "debian13    0:00  skipped"
    assert "  debian13: 1 x a chroot takes root" in lines
    assert " no tests ran in 1.00s " in lines[-1]


def test_a_file_that_was_cut_off_counts_for_nothing(tmp_path: Path) -> None:
    (tmp_path / "kvm.xml").write_text(JUNIT[:200])
    part = Part("kvm", 1, 2, "Killed")
    part.read([tmp_path / "kvm.xml"])
    assert (part.passed, part.failed, part.result) == (0, [], "failed")


def test_a_part_more_runs_where_all_wait_for_guests() -> None:
    assert at_once({"kvm-1", "kvm-2", "unit"}) == CORES + 1
    assert at_once({"kvm-1", "fuzz"}) == CORES
