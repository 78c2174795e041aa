"""This machine as a host of guests, for tests that an emulated host serves as well."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import stock_kernels
from tests.support.this_host import ThisHost


@pytest.fixture
def host(tmp_path: Path) -> ThisHost:
    """Skips the test where a distribution's kernel would take a quarter of an hour."""
    stock_kernels.skip_where_interpreted()
    return ThisHost(tmp_path)
