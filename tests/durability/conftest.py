"""The seed and the effort, for whoever wants the same run again; and what the runs gave."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.durability.effort import EFFORT, SEED

_told: list[str] = []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _told:
        terminalreporter.section(f"durability: CORRAL_SEED={SEED} CORRAL_DURABILITY={EFFORT}")
        for line in _told:
            terminalreporter.write_line(line)


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Puts a line into the summary: how much was looked at."""
    return lambda text: _told.append(f"{request.node.name}: {text}")
