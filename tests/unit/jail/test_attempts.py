"""Each kind of thread, as one that a guest has taken over, tries what it must not do."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from corral.native import lib
from tests.support import vmm_attempts

KINDS = {
    "main": lib.CORRAL_JAIL_MAIN,
    "vcpu": lib.CORRAL_JAIL_VCPU,
    "disk": lib.CORRAL_JAIL_DISK,
    "stream": lib.CORRAL_JAIL_STREAM,
    "socket": lib.CORRAL_JAIL_SOCKET,
    "debugger": lib.CORRAL_JAIL_DEBUGGER,
    "script": lib.CORRAL_JAIL_SCRIPT,
    "files": lib.CORRAL_JAIL_FILES,
    "control": lib.CORRAL_JAIL_CONTROL,
}
HAS_LANDLOCK = lib.corral_jail_landlock_abi() > 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", vmm_attempts.CALLS)
def test_a_thread_that_is_taken_over_gets_nowhere(kind: str, name: str) -> None:
    if kind == "files" and not HAS_LANDLOCK:
        pytest.skip("this host has no Landlock, without which nothing can be named")
    status, said = vmm_attempts.outcome(KINDS[kind], name)
    if os.waitstatus_to_exitcode(status) != 1:  # it did not just fail
        assert os.waitstatus_to_exitcode(status) == lib.CORRAL_JAIL_STATUS, said
        assert said.startswith(b"corral: the jail refused ")
        assert said.count(b"\n") == 1


@pytest.mark.parametrize("name", vmm_attempts.CALLS)
def test_nor_does_one_of_a_user_who_is_not_root(name: str) -> None:
    """Who has no namespaces. As another user the tests above are that."""
    if os.geteuid() != 0:
        pytest.skip("this user is not root, so the tests above are about that")
    status, said = vmm_attempts.outcome(KINDS["stream"], name, user=4242)
    if os.waitstatus_to_exitcode(status) != 1:
        assert os.waitstatus_to_exitcode(status) == lib.CORRAL_JAIL_STATUS, said
        assert said.startswith(b"corral: the jail refused ")


@pytest.mark.parametrize("user", [0, 4242])
def test_without_a_jail_they_succeed(user: int) -> None:
    """Else the tests above would show nothing."""
    if user and os.geteuid() != 0:
        pytest.skip("root alone becomes another user")
    everyone = {"open", "openat", "memfd_create", "socket of the internet", "socket of unix", "socketpair", "fork"}
    everyone |= {"clone of a process", "executable memory", "kill of another process", "pidfd_open", "execve"}
    if user:
        everyone.remove("kill of another process")  # whose user is root
    assert {name for name in everyone if vmm_attempts.outcome(None, name, user=user)[0] != 0} == set()


@pytest.mark.parametrize("name", ["socketpair", "openat", "fork", "kill of another process"])
def test_a_jail_that_reports_lets_it_be_done_and_tells(name: str) -> None:
    status, said = vmm_attempts.outcome(KINDS["stream"], name, reports=True)
    assert os.waitstatus_to_exitcode(status) == 0
    assert b"corral: the jail would " in said
    assert b" to a device's thread, " in said


def test_a_jail_that_reports_tells_once_of_each_call_and_kind() -> None:
    done = in_a_process(
        """
        confine.report()
        for _ in range(3):
            os.stat("/etc/passwd"), os.getppid()
        assert os.stat("/etc/passwd").st_size > 0
        try:
            os.stat("/none-such")
        except FileNotFoundError:
            print("errors are as without")
        """
    )
    assert done.stdout == "errors are as without\n"
    assert sorted(line.split(" (")[0] for line in done.stderr.splitlines()) == [
        "corral: the jail would deny newfstatat",
        "corral: the jail would refuse getppid",
    ]


def test_no_file_grows_beyond_its_limit(tmp_path: Path) -> None:
    done = in_a_process(
        """
        file = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
        confine.limit_files(1000)
        print(os.pwrite(file, bytes(2000), 0))
        try:
            os.pwrite(file, b"x", 1000)
        except OSError as error:
            print(error.strerror)
        """,
        str(tmp_path / "file"),
    )
    assert done.stdout == "1000\nFile too large\n", done.stderr


def in_a_process(script: str, *words: str) -> subprocess.CompletedProcess[str]:
    begin = "import os, sys; from corral.jail import confine\n"
    command = [sys.executable, "-c", begin + textwrap.dedent(script), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
