"""Which Debian a kernel is from, by its own word."""

from __future__ import annotations

import pytest

from corral.guests import releases


@pytest.mark.parametrize(
    ("release", "suite"),
    [
        ("6.1.0-50-cloud-amd64", "bookworm"),
        ("6.12.117+deb13-amd64", "trixie"),
        ("6.12.117+deb13-cloud-amd64", "trixie"),
        ("6.12.43+deb12-amd64", None),  # of backports
        ("6.12.5+bpo-amd64", None),
        ("6.1.176-corral", None),
        ("6.8.0-60-generic", None),
        ("6.12+deb", None),
        ("", None),
    ],
)
def test_a_kernels_release_names_its_debian(release: str, suite: str | None) -> None:
    assert releases.of_kernel(release) == suite
