"""`corral boot debian` on hardware KVM: its own kernel, systemd, a login on a pseudo-terminal, the end."""

from __future__ import annotations

import sys

import pytest

from corral.guests import distribution
from tests.nested.host import NestedHost
from tests.support import debian_session

SESSION = [sys.executable, "-m", "tests.support.debian_session"]


@pytest.fixture(scope="module", autouse=True)
def made_outside() -> None:
    """Made on the real host, which has a network, before the nested one sees its files."""
    debian_session.packed(distribution.get("debian", generic=False))


def test_a_login_and_a_clean_end(host: NestedHost) -> None:
    done = host.run([*SESSION, "sigterm"], timeout=900)
    assert done.status == 0, done.stdout + done.stderr
    assert "clean" in done.stdout
