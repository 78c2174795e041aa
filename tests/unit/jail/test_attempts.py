"""Each kind of thread, as one that a guest has taken over, tries what it must not do."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from corral.native import lib
from tests.support import vmm_attempts
from tests.support.vmm_attempts import Attempts

KINDS = {
    "main": lib.CORRAL_JAIL_MAIN,
    "vcpu": lib.CORRAL_JAIL_VCPU,
    "disk": lib.CORRAL_JAIL_DISK,
    "stream": lib.CORRAL_JAIL_STREAM,
    "socket": lib.CORRAL_JAIL_SOCKET,
    "debugger": lib.CORRAL_JAIL_DEBUGGER,
    "named": lib.CORRAL_JAIL_NAMED,
    "script": lib.CORRAL_JAIL_SCRIPT,
    "files": lib.CORRAL_JAIL_FILES,
}
HAS_LANDLOCK = lib.corral_jail_landlock_abi() > 0


@pytest.fixture(scope="module")
def attempts() -> Iterator[Attempts]:
    with Attempts() as attempts:
        yield attempts


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", vmm_attempts.CALLS)
def test_a_thread_that_is_taken_over_gets_nowhere(attempts: Attempts, kind: str, name: str) -> None:
    if kind == "files" and not HAS_LANDLOCK:
        pytest.skip("this host has no Landlock, without which nothing can be named")
    status, said = attempts.outcome(KINDS[kind], name)
    if os.waitstatus_to_exitcode(status) != 1:  # it did not just fail
        assert os.waitstatus_to_exitcode(status) == lib.CORRAL_JAIL_STATUS, said
        assert said.startswith("corral: the jail refused ")
        assert said.count("\n") == 1


@pytest.mark.parametrize("name", vmm_attempts.CALLS)
def test_nor_does_one_of_a_user_who_is_not_root(attempts: Attempts, name: str) -> None:
    """Who has no namespaces. As another user the tests above are that."""
    if os.geteuid() != 0:
        pytest.skip("this user is not root, so the tests above are about that")
    status, said = attempts.outcome(KINDS["stream"], name, user=4242)
    if os.waitstatus_to_exitcode(status) != 1:
        assert os.waitstatus_to_exitcode(status) == lib.CORRAL_JAIL_STATUS, said
        assert said.startswith("corral: the jail refused ")


@pytest.mark.parametrize("user", [0, 4242])
def test_without_a_jail_they_succeed(attempts: Attempts, user: int) -> None:
    """Else the tests above would show nothing."""
    if user and os.geteuid() != 0:
        pytest.skip("root alone becomes another user")
    everyone = {"open", "openat", "memfd_create", "socket of the internet", "socket of unix", "socketpair", "fork"}
    everyone |= {"clone of a process", "executable memory", "kill of another process", "pidfd_open", "execve"}
    if user:
        everyone.remove("kill of another process")  # whose user is root
    assert {name for name in everyone if attempts.outcome(None, name, user=user)[0] != 0} == set()


@pytest.mark.parametrize("name", ["socketpair", "openat", "fork", "kill of another process"])
def test_a_jail_that_reports_lets_it_be_done_and_tells(attempts: Attempts, name: str) -> None:
    status, said = attempts.outcome(KINDS["stream"], name, reports=True)
    assert os.waitstatus_to_exitcode(status) == 0
    assert "corral: the jail would " in said
    assert " to a device's thread, " in said


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


def test_many_threads_begin_in_it() -> None:
    """The C library gives eight an arena of malloc's each, and asks for the host's CPUs before it gives a ninth."""
    done = in_a_process(
        """
        import threading
        confine.leave_namespaces()
        confine.enter()
        go = threading.Event()
        threads = [threading.Thread(target=go.wait) for _ in range(40)]
        for thread in threads:
            thread.start()
        go.set()
        for thread in threads:
            thread.join()
        print("all", flush=True)
        os._exit(0)
        """
    )
    assert (done.stdout, done.returncode) == ("all\n", 0), done.stderr


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
