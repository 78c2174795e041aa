"""One nested host for all tests: it takes seconds to start."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.nested.host import NestedHost


@pytest.fixture(scope="session")
def host() -> Iterator[NestedHost]:
    with NestedHost() as host:
        yield host
