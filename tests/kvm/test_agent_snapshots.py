"""Guests with a vsock and the agent are saved, and others go on from there: by `corral snapshot NAME FILE`, from
Python, and in the middle of a stream."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import corral
from corral.agent.command import RunningCommand, wanted
from corral.agent.connection import Connection
from corral.errors import ConfigError, CorralError
from corral.running import control
from tests.support.named_guest import Guests, skip_without_kernel

SOURCE = Path(__file__).parents[1] / "support" / "vsock_peer.c"


@pytest.fixture(scope="module")
def guests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guests]:
    """With the guest `web`, and `web.snapshot` of it beside."""
    skip_without_kernel()
    folder = tmp_path_factory.mktemp("a")
    peer = folder / "peer"
    subprocess.run(["gcc", "-static", "-O2", "-Wall", "-Wextra", "-Werror", SOURCE, "-o", peer], check=True)
    guests = Guests(folder)
    guests.boot("web", "--memory", "256M")
    assert guests.run("cp", str(peer), "web:/tmp/peer").returncode == 0
    guests.exec("web", "mkdir -p /etc; echo 0 >/etc/machine-id; (setsid sleep 1000 >/dev/null 2>&1 &)")
    done = guests.run("snapshot", "web", str(folder / "web.snapshot"))
    assert done.returncode == 0, done.stderr
    yield guests
    guests.close()


@pytest.fixture
def saved(guests: Guests) -> str:
    return str(guests.folder.parent / "web.snapshot")


def ask(path: Path, line: str) -> bytes:
    """What a command says, in the guest whose vsock that is."""
    said = b""

    def take(stream: int, data: bytes) -> None:
        nonlocal said
        said += data

    until = time.monotonic() + 30
    with Connection(str(path), until) as connection:
        RunningCommand(connection, wanted(line), take).wait(until)
    return said


def test_one_that_runs_is_saved_and_another_goes_on_as_itself(guests: Guests, saved: str) -> None:
    line = "hostname; cat /etc/machine-id; head -c 8 /dev/urandom | od -An -tx1; ps | grep -c '[s]leep 1000'; date +%s"
    before = guests.exec("web", line).stdout.split(b"\n")
    guests.boot("web_2", "--restore", saved)
    name, machine, random, sleepers, seconds = guests.exec("web_2", line).stdout.split(b"\n")[:5]
    assert (name, sleepers, before[0], before[1]) == (b"web-2", b"1", b"corral", b"0")
    assert (len(machine), abs(int(seconds) - time.time()) < 60) == (32, True)
    assert random != before[2]
    again = guests.folder.parent / "again"
    assert guests.run("snapshot", "web_2", str(again)).returncode == 0
    guests.run("kill", "web_2")
    guests.boot("web-3", "--restore", str(again))
    assert guests.exec("web-3", "hostname").stdout == b"web-3\n"
    guests.run("kill", "web-3")


def test_a_command_goes_on_where_its_guest_is_saved_and_ends_where_that_goes_on(guests: Guests) -> None:
    process = guests.start("exec", "web", "--", "for i in 1 2 3; do echo $i; sleep 1; done; echo over >/tmp/over")
    assert process.stdout
    assert process.stdout.readline() == b"1\n"
    path = str(guests.folder.parent / "busy")
    assert guests.run("snapshot", "web", path).returncode == 0
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output) == (0, b"2\n3\n"), errors
    guests.boot("other", "--restore", path)
    time.sleep(3)
    assert guests.exec("other", "test -e /tmp/over || ps | grep -c '[s]leep 1$'").stdout == b"0\n"
    guests.run("kill", "other")


def test_a_stream_of_a_guest_that_goes_on_is_reset_at_both_ends(guests: Guests) -> None:
    vsock = guests.folder / "corral" / "web" / "vsock"
    path = str(guests.folder.parent / "streaming")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{vsock}_92")
        server.listen()
        guests.exec("web", "(setsid sh -c '/tmp/peer flood 92 9000000; echo $? >/tmp/status' >/tmp/said 2>&1 &)")
        server.settimeout(30)
        one, _ = server.accept()
        assert guests.run("snapshot", "web", path).returncode == 0
        guests.boot("streamed", "--restore", path)
        line = "while ! test -s /tmp/status; do sleep 0.1; done; cat /tmp/status /tmp/said"
        status, said = guests.exec("streamed", line).stdout.split(b"\n", 1)
        assert (status, b"not connected" in said or b"reset" in said) == (b"1", True), said
        process = guests.start("exec", "streamed", "--", "echo up; sleep 100")
        assert process.stdout
        assert process.stdout.readline() == b"up\n"
        guests.run("kill", "streamed")
        _, errors = process.communicate(timeout=20)
        assert (process.returncode, b"has gone" in errors) == (4, True)
        count = 0
        with one:  # that of the guest that was saved goes on
            while piece := one.recv(1 << 16):
                count += len(piece)
    assert (count, guests.exec("web", "sleep 0.2; cat /tmp/status").stdout) == (9_000_000, b"0\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nosuch", "{}/x"), "there is no guest"),
        (("web", "{}/peer"), "is there and is no snapshot"),
        (("web", "{}/nosuch/x"), "No such file"),
        (("--after", "x", "web", "{}/x"), "leave --after"),
    ],
)
def test_what_cannot_be_saved_says_why(guests: Guests, words: tuple[str, ...], said: str) -> None:
    done = guests.run("snapshot", *(word.format(guests.folder.parent) for word in words))
    assert (done.returncode in (2, 3), said in done.stderr.decode()) == (True, True), done.stderr
    assert b"Traceback" not in done.stderr
    assert guests.exec("web", "true").returncode == 0


def test_who_hands_over_no_file_or_one_that_cannot_be_written_is_told(guests: Guests, tmp_path: Path) -> None:
    path = str(guests.folder / "corral" / "web" / "control")
    with pytest.raises(CorralError, match="no file came"):
        control.ask(path, "snapshot")
    (tmp_path / "x").touch()
    with (tmp_path / "x").open("rb") as file, pytest.raises(CorralError, match="cannot be written"):
        control.ask(path, "snapshot", 60, file.fileno())
    with open("/dev/full", "wb") as full, pytest.raises(CorralError, match="cannot be written"):
        control.ask(path, "snapshot", 60, full.fileno())
    pid = guests.pid("web")
    before = len(os.listdir(f"/proc/{pid}/fd"))
    for _ in range(20):
        with pytest.raises(CorralError, match="no such word"), (tmp_path / "x").open("rb") as file:
            control.ask(path, "nonsense", 60, file.fileno())
    end = time.monotonic() + 20
    while len(os.listdir(f"/proc/{pid}/fd")) > before:  # it closes the last ones behind its answer
        assert time.monotonic() < end
        time.sleep(0.01)
    assert guests.exec("web", "true").returncode == 0


def test_its_process_is_killed_while_it_is_saved(guests: Guests, saved: str, tmp_path: Path) -> None:
    """What was there stays, and nothing is left beside it."""
    guests.boot("killed", "--restore", saved)
    target = tmp_path / "s"
    target.write_bytes(Path(saved).read_bytes()[:4096])
    pid = guests.pid("killed")
    os.kill(pid, signal.SIGSTOP)
    process = guests.start("snapshot", "killed", str(target))
    end = time.monotonic() + 20
    while not list(tmp_path.glob("s.unfinished-*")):
        assert time.monotonic() < end
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    _, errors = process.communicate(timeout=20)
    assert (process.returncode, b"Traceback" in errors) == (3, False), errors
    assert (target.stat().st_size, list(tmp_path.iterdir())) == (4096, [target])


def test_from_python_it_is_reached_by_a_socket_and_by_none_without(saved: str, tmp_path: Path) -> None:
    with corral.restore(saved, vsock=tmp_path / "v", name="one") as vm:
        vm.resume()
        assert ask(tmp_path / "v", "hostname") == b"one\n"
        for number, fork in enumerate(vm.fork(2, "fork"), 1):
            with fork:
                # What a shell does may come before the agent has been told.
                fork.console.send(f"\nuntil hostname | grep -x fork-{number}; do sleep 0.1; done; echo o''ver\n")
                fork.console.expect("over\r\n", timeout=60)
    (tmp_path / "w").touch()
    with pytest.raises(ConfigError, match="is no socket"):
        corral.restore(saved, vsock=tmp_path / "w")


def test_a_guest_without_a_vsock_gets_none(tmp_path: Path) -> None:
    with corral.linux() as vm:
        vm.console.expect("# ", timeout=60)
        vm.snapshot(str(tmp_path / "s"))
    with pytest.raises(ConfigError, match="has no vsock"):
        corral.restore(tmp_path / "s", vsock=tmp_path / "v")


def test_sandboxes_are_saved_forked_and_made_of_snapshots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = tmp_path / "run"
    runtime.mkdir(0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    with corral.Sandbox(memory="256M") as box:
        box.files.write("/tmp/x", b"from the first")
        counting = box.popen("i=0; while true; do i=$((i+1)); echo $i; sleep 0.05; done")
        lines = iter(counting)
        assert next(lines) == "1"
        assert box.snapshot(tmp_path / "s") > 1 << 20
        assert next(lines) == "2"
        forks = box.fork(2, "fork")
        assert [one.run("hostname; cat /tmp/x").stdout for one in forks] == [
            f"fork-{number}\nfrom the first" for number in (1, 2)
        ]
        assert next(lines) == "3"
        for one in forks:
            one.close()
    with corral.Sandbox(snapshot=tmp_path / "s") as box:
        assert box.files.read("/tmp/x") == b"from the first"
        assert "sandbox-" in box.run("hostname").stdout
    with pytest.raises(ConfigError, match="has its system"):
        corral.Sandbox(snapshot=tmp_path / "s", memory="1G")
    with pytest.raises(ConfigError, match="1 to 100"):
        box.fork(0)
    with pytest.raises(CorralError, match="no snapshot"):
        corral.Sandbox(snapshot=__file__)


@pytest.mark.long
def test_the_agent_answers_in_a_thousand_that_go_on_and_no_two_are_the_same(saved: str, tmp_path: Path) -> None:
    seen = set()
    before = len(os.listdir("/proc/self/fd"))
    for number in range(1000):
        with corral.restore(saved, vsock=tmp_path / "v", name=f"web-{number}") as vm:
            vm.resume()
            name, random = ask(tmp_path / "v", "hostname; head -c 16 /dev/urandom | od -An -tx1").split(b"\n", 1)
            assert name == b"web-%d" % number
            seen.add(random)
    assert len(seen) == 1000
    assert len(os.listdir("/proc/self/fd")) == before
