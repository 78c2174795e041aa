"""`corral boot debian` on hardware KVM: its own kernel, systemd, a login on a pseudo-terminal, the end."""

from __future__ import annotations

import sys

import pytest

from corral.guests import distribution
from tests.nested.host import NestedHost

SESSION = [sys.executable, "-m", "tests.support.debian_session"]


@pytest.fixture(scope="module", autouse=True)
def made_outside() -> None:
    """On the real host, which has a network, before the nested one sees its files."""
    distribution.get("debian", generic=False)


def test_a_login_and_a_clean_end(host: NestedHost) -> None:
    """The disk is a copy, so that its file system can be looked at afterwards."""
    done = host.run([*SESSION, "sigterm", "1"], timeout=180)
    assert done.status == 0, done.stdout + done.stderr
    assert "clean" in done.stdout
