"""How kernel code runs on a host: what is tested, what of it is kept, and whose word is taken."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from corral.arch.x86_64 import native_probe, supervisor
from corral.arch.x86_64.native_probe import REQUIREMENTS, Finding
from corral.arch.x86_64.supervisor import Supervisor, SupervisorMode, supervisor_mode
from corral.errors import HostError
from corral.kvm.system import Kind
from corral.native import SHIM, lib

PASSED = Finding(lib.CORRAL_PROBE_PASSED, 0)
KEPT = b"this host\n0 0\n"


def start() -> SupervisorMode:
    """What the next process is told."""
    supervisor._told.clear()
    return supervisor_mode()


class Host:
    """A pagetable KVM whose self-test ends as a test wants it to; and its only user's cache."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.finding: Finding | Exception = PASSED
        self.tests = 0

    def run(self) -> Finding:
        self.tests += 1
        if isinstance(self.finding, Exception):
            raise self.finding
        return self.finding

    def keeps(self, content: bytes) -> None:
        self.path.parent.mkdir(exist_ok=True)
        self.path.write_bytes(content)
        self.path.chmod(0o600)

    def is_tested_again(self) -> bool:
        """Whether the next start does not take what is kept."""
        before = self.tests
        assert start().supervisor is Supervisor.NATIVE
        return self.tests > before


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Host:
    made = Host(tmp_path / "corral" / f"supervisor-{os.geteuid()}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(supervisor, "host_kind", lambda: Kind.PAGETABLE)
    monkeypatch.setattr(supervisor, "_key", lambda: "this host")
    monkeypatch.setattr(supervisor, "_told", [])
    monkeypatch.setattr(native_probe, "run", made.run)
    return made


def test_a_host_is_tested_once(host: Host) -> None:
    first = start()
    assert (first.supervisor, first.reason) == (Supervisor.NATIVE, start().reason)
    assert host.tests == 1
    assert host.path.read_bytes() == KEPT
    assert host.path.stat().st_mode & 0o777 == 0o600


def test_a_process_looks_once(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    first = start()
    monkeypatch.setattr(supervisor, "_key", lambda: pytest.fail("looked at the host"))
    assert supervisor_mode() is first


def test_what_is_kept_needs_no_test(host: Host) -> None:
    host.keeps(KEPT)
    assert not host.is_tested_again()


def test_a_test_again_replaces_what_was_kept(host: Host) -> None:
    start()
    host.finding = Finding(lib.CORRAL_PROBE_HELD, 0)
    assert supervisor_mode(again=True).supervisor is Supervisor.INTERPRETED
    assert start().supervisor is Supervisor.INTERPRETED
    assert host.tests == 2


def test_another_boot_of_the_host_is_tested(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    start()
    monkeypatch.setattr(supervisor, "_key", lambda: "another boot")
    assert host.is_tested_again()
    assert not host.is_tested_again()


@pytest.mark.parametrize("number", REQUIREMENTS)
def test_each_failure_is_a_sentence_that_is_kept(number: int, host: Host) -> None:
    host.finding = Finding(number, 0xABC)
    told, kept = start(), start()
    assert told == kept
    assert host.tests == 1
    assert told.supervisor is Supervisor.INTERPRETED
    if number == lib.CORRAL_PROBE_SIGNATURE:
        assert told.reason == "this KVM has no native supervisor mode"
    else:
        assert f"fails the test that {REQUIREMENTS[number]} (it saw 0xabc, not 0x" in told.reason


def test_every_check_has_its_own_sentence() -> None:
    assert sorted(REQUIREMENTS) == list(range(1, lib.CORRAL_PROBE_OFF + 1))
    assert len(set(REQUIREMENTS.values())) == len(REQUIREMENTS)


@pytest.mark.parametrize(
    "number", [lib.CORRAL_PROBE_PASSED, lib.CORRAL_PROBE_SIGNATURE, lib.CORRAL_PROBE_HALT, 1 << 63]
)
def test_a_guest_that_did_not_come_to_an_end_is_a_failure_that_is_not_kept(number: int, host: Host) -> None:
    host.finding = Finding(number, 0, "hung")
    assert not host.finding.passed
    told = start()
    assert told.supervisor is Supervisor.INTERPRETED
    assert told.reason.endswith(f"{REQUIREMENTS.get(number, 'its guest runs')} (it hung)")
    assert not host.path.exists()
    host.finding = PASSED
    assert host.is_tested_again()


@pytest.mark.parametrize("error", [HostError("cannot open /dev/kvm"), OSError(errno.ENOMEM, "Cannot allocate memory")])
def test_a_host_that_cannot_be_tested_is_a_reason(error: Exception, host: Host) -> None:
    host.finding = error
    told = start()
    assert told.supervisor is Supervisor.INTERPRETED
    assert told.reason == f"native supervisor mode could not be tested: {error}"
    assert not host.path.exists()


def test_a_host_that_cannot_be_told_from_others_is_tested_each_time(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "_key", lambda: "")
    assert host.is_tested_again()
    assert not host.path.exists()
    host.keeps(b"\n0 0\n")
    assert host.is_tested_again()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"this host",
        b"this host\n",
        b"this host\n0\n",
        b"this host\n0 0",
        b"this host\n0 0 0\n",
        b"this host\n0 0\n\n",
        b"this host\n00 0\n",
        b"this host\n-1 0\n",
        b"this host\n0 -1\n",
        b"this host\n+0 0\n",
        b"this host\n0_0 0\n",
        b"this host\n18 0\n",  # no such check
        b"this host\nnative\n",
        b"this host\n\xff \xff\n",
        b"This host\n0 0\n",
        b"another line\nthis host\n0 0\n",
        b"this host\n0 0\n" + b"x" * 5000,
        b"\0" * 5000,
    ],
)
def test_a_malformed_result_is_not_taken(content: bytes, host: Host) -> None:
    host.keeps(content)
    assert host.is_tested_again()
    assert host.path.read_bytes() == KEPT


def test_another_users_result_is_not_taken(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.keeps(KEPT)
    me, path = os.geteuid(), str(host.path)
    monkeypatch.setattr(supervisor, "_path", lambda: path)
    monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    assert host.is_tested_again()


def test_a_result_that_others_may_write_is_not_taken(host: Host) -> None:
    host.keeps(KEPT)
    host.path.chmod(0o620)
    assert host.is_tested_again()
    assert not host.is_tested_again()


def _link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir(0o700)


@pytest.mark.parametrize("instead", [_link, _fifo, _folder])
def test_what_is_no_file_is_not_taken(instead: Callable[[Path], None], host: Host) -> None:
    host.keeps(KEPT)
    instead(host.path)
    assert host.is_tested_again()
    assert {path.name for path in host.path.parent.iterdir()} <= {host.path.name, "elsewhere"}


def test_without_a_cache_each_start_tests(host: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert host.is_tested_again()
    assert host.is_tested_again()


def test_what_tells_hosts_apart() -> None:
    key = supervisor._key()
    if not os.path.exists("/dev/kvm"):
        assert key == ""
        return
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert key == supervisor._key()
    assert key.split()[:2] == [boot, os.uname().release]
    assert str(os.stat("/dev/kvm").st_ino) in key.split()
    assert str(os.stat(SHIM).st_mtime_ns) in key.split()


def imported(tmp_path: Path, kind: str) -> tuple[str, set[str]]:
    """What a start says, and what it has imported then. The cache has a result for every host."""
    folder = tmp_path / "corral"
    folder.mkdir()
    kept = folder / f"supervisor-{os.geteuid()}"
    kept.write_bytes(KEPT)
    kept.chmod(0o600)
    paths = [path for path in sys.path if path]
    script = f"""
import sys; sys.path[:] = {paths!r}
from corral.arch.x86_64 import supervisor
from corral.kvm import system
supervisor.host_kind = lambda: system.Kind.{kind}
supervisor._key = lambda: "this host"
print(supervisor.supervisor_mode().supervisor.value, *sys.modules)
"""
    command = [sys.executable, "-S", "-E", "-c", script]
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    mode, *modules = done.stdout.split()
    return mode, set(modules)


@pytest.mark.parametrize(("kind", "mode"), [("HARDWARE", "hardware"), ("PAGETABLE", "native")])
def test_a_start_imports_nothing_of_the_test(kind: str, mode: str, tmp_path: Path) -> None:
    told, modules = imported(tmp_path, kind)
    assert told == mode
    rare = {
        "corral.arch.x86_64.native_probe",
        "corral.arch.x86_64.registers",
        "dataclasses",
        "enum",
        "pathlib",
    }
    assert not rare & modules


def test_hardware_kvm_is_not_tested(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "host_kind", lambda: Kind.HARDWARE)
    monkeypatch.setattr(supervisor, "_key", lambda: pytest.fail("looked at the host"))
    assert supervisor_mode(again=True).supervisor is Supervisor.HARDWARE
    assert host.tests == 0
    assert not host.path.exists()
