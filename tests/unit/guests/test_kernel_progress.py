"""The progress of the small kernel's build."""

from __future__ import annotations

import time

import pytest

from corral.guests import kernel


def test_it_tells_what_is_done_and_how_long_the_rest_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(kernel, "BUILD_LINES", 1000)
    told: list[str] = []
    show = kernel._build_progress(told.append)
    for lines, seconds in ((0, 0), (40, 10), (250, 100), (800, 200), (999, 250), (1200, 260)):
        now = 1000.0 + seconds
        show(lines, "  CC      a.o")
    assert told == [
        "small kernel: building, 0 %",
        "small kernel: building, 4 %",
        "small kernel: building, 5 min left, 25 %",
        "small kernel: building, 50 s left, 80 %",
        "small kernel: building, 0 s left, 99 %",
        "small kernel: building, 0 s left, 99 %",
    ]
