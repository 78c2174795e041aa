"""Files of the distribution's packages, for tests."""

from __future__ import annotations

import pytest

from corral.errors import HostError
from corral.guests import debian


def file(package: str, pattern: str) -> str:
    """As debian.file(); the test is skipped where the package can't be had, and fails where it has no such file."""
    try:
        debian.fetch(package)
    except HostError as error:
        pytest.skip(str(error))
    return debian.file(package, pattern)


def dependency(package: str, prefix: str) -> str:
    """As debian.dependency(); the test is skipped where the package can't be had."""
    try:
        debian.candidate(package)
    except HostError as error:
        pytest.skip(str(error))
    return debian.dependency(package, prefix)
