"""`corral boot debian` on this machine's KVM: the small kernel where kernel code is interpreted."""

from __future__ import annotations

import subprocess
import sys

import pytest

from corral.kvm.system import Kind, host_kind

SESSION = [sys.executable, "-m", "tests.support.debian_session", "--kernel"]


@pytest.mark.parametrize("how", ["sigterm", "poweroff"])
def test_a_login_and_a_clean_end(how: str) -> None:
    """Without ACPI too: there the line hangs up."""
    kernel = "small" if host_kind() is Kind.PAGETABLE else "cloud"
    done = subprocess.run([*SESSION, kernel, how], capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "clean" in done.stdout
