"""`corral boot debian` on this machine's KVM: the small kernel where kernel code is interpreted."""

from __future__ import annotations

import subprocess
import sys

from corral.kvm.system import Kind, host_kind

SESSION = [sys.executable, "-m", "tests.support.debian_session", "--kernel"]


def test_a_login_and_a_clean_end() -> None:
    """When it is asked from outside, without ACPI too: there the line hangs up."""
    kernel = "small" if host_kind() is Kind.PAGETABLE else "cloud"
    done = subprocess.run([*SESSION, kernel, "sigterm"], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "clean" in done.stdout
