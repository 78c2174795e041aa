"""What corral cp tells of a copy that takes long."""

from __future__ import annotations

import pytest

from corral.cli.cp import Shown


@pytest.mark.parametrize(
    ("total", "told"),
    [(1000, ["copying a\\x1bb, 30 %", "copying a\\x1bb, 100 %"]), (None, ["copying a\\x1bb, 0 MiB"] * 2)],
)
def test_it_is_told_after_a_second_and_now_and_then(total: int | None, told: list[str]) -> None:
    moments = iter([0.0, 0.5, 1.0, 1.1, 2.0])
    said: list[str] = []
    shown = Shown(said.append, "a\x1bb", total, lambda: next(moments))
    for size in (100, 300, 400, 1100):
        shown(size)
    assert said == told
