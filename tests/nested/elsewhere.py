"""Tests that are not about hardware KVM run on this machine's own wherever that runs a distribution's kernel at full
speed; the emulated host is for the others."""

from __future__ import annotations

import os

import pytest

from corral.arch.x86_64.supervisor import Supervisor, supervisor_mode

ALL = "CORRAL_NESTED"  # in the environment: here too

IN_TESTS_KVM = pytest.mark.skipif(
    supervisor_mode().supervisor is not Supervisor.INTERPRETED and ALL not in os.environ,
    reason=f"tests/kvm runs it on this machine's own KVM; {ALL}=1 has it here too",
)
