"""Each kind of thread, as one that a guest has taken over, tries what it must not do."""

from __future__ import annotations

import os

import pytest

from corral.native import lib
from tests.support import vmm_attempts

KINDS = {
    "main": lib.CORRAL_JAIL_MAIN,
    "vcpu": lib.CORRAL_JAIL_VCPU,
    "disk": lib.CORRAL_JAIL_DISK,
    "stream": lib.CORRAL_JAIL_STREAM,
    "socket": lib.CORRAL_JAIL_SOCKET,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", vmm_attempts.CALLS)
def test_a_thread_that_is_taken_over_gets_nowhere(kind: str, name: str) -> None:
    status, said = vmm_attempts.outcome(KINDS[kind], name)
    if os.waitstatus_to_exitcode(status) != 1:  # it did not just fail
        assert os.waitstatus_to_exitcode(status) == lib.CORRAL_JAIL_STATUS, said
        assert said.startswith(b"corral: the jail refused ")
        assert said.count(b"\n") == 1


def test_without_a_jail_they_succeed() -> None:
    """Else the test above would show nothing."""
    everyone = {"open", "openat", "memfd_create", "socket of the internet", "socket of unix", "socketpair", "fork"}
    everyone |= {"clone of a process", "executable memory", "kill of another process", "pidfd_open", "execve"}
    assert {name for name in everyone if vmm_attempts.outcome(None, name)[0] != 0} == set()
