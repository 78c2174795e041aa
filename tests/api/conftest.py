"""Where `make api` has installed the programs."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def environment() -> Callable[[str], Path]:
    """The folder `bin` of a program's environment, by its name on PyPI."""

    def find(name: str) -> Path:
        folder = os.environ.get("CORRAL_API_CLIENTS", "")
        found = Path(folder) / name / "bin"
        if not folder or not found.is_dir():
            pytest.skip(f"{name} is not installed: make api")
        return found

    return find
