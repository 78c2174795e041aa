"""corral pool and corral-client: a command by a process that has Corral loaded is the command, and runs once."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from corral.pool import place, request, worker
from tests.support.named_guest import skip_without_kernel

LONG = 120.0


@pytest.fixture(scope="module", autouse=True)
def small() -> None:
    skip_without_kernel()


class Pool:
    """`corral` and `corral-client` with a XDG_RUNTIME_DIR of this test's own."""

    def __init__(self, folder: Path) -> None:
        self.environment = os.environ | {"XDG_RUNTIME_DIR": str(folder)}
        self.client = place.find().client
        self.socket = str(folder / "corral" / os.path.basename(place.find().socket))

    def corral(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "corral", *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=LONG, env=self.environment)

    def facts(self) -> dict[str, Any]:
        facts = json.loads(self.corral("pool", "status", "--json").stdout)
        assert isinstance(facts, dict)
        return facts

    def run(self, *words: str, input: bytes = b"", **more: str) -> subprocess.CompletedProcess[bytes]:
        environment = self.environment | more
        return subprocess.run([self.client, *words], input=input, capture_output=True, timeout=LONG, env=environment)

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [self.client, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=self.environment,
        )  # fmt: skip


@pytest.fixture
def without(tmp_path: Path) -> Pool:
    (tmp_path / "run").mkdir(0o700)
    return Pool(tmp_path / "run")


@pytest.fixture
def pool(without: Pool) -> Iterator[Pool]:
    done = without.corral("pool", "start")
    assert (done.returncode, done.stderr) == (0, "")
    yield without
    assert without.corral("pool", "stop").returncode == 0
    assert without.facts() == {}


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def served(pool: Pool) -> int:
    return int(pool.facts()["served"])


# What the command is.


def test_streams_status_and_jail_are_the_commands(pool: Pool) -> None:
    done = pool.run("boot", "--", "cat; echo err >&2; exit 7", input=b"a\0b\n" * 1000)
    assert (done.returncode, done.stdout, done.stderr) == (7, b"a\0b\n" * 1000, b"err\n")
    done = pool.run("boot", "--stats", "--", "true")
    assert (done.returncode, b"jail: entered\n" in done.stderr) == (0, True)
    done = pool.run("boot", "--memroy", "1")
    assert (done.returncode, done.stderr.startswith(b"corral: corral boot has no option --memroy")) == (2, True)
    until(lambda: served(pool) == 3)
    until(lambda: pool.facts()["waiting"] == 2)


def test_folder_umask_and_environment_are_the_clients(pool: Pool, tmp_path: Path) -> None:
    words = ["boot", "--console", "file:said", "--", "true"]
    before = os.umask(0o027)
    try:
        done = subprocess.run([pool.client, *words], cwd=tmp_path, env=pool.environment, timeout=LONG)
    finally:
        os.umask(before)
    assert done.returncode == 0
    assert (tmp_path / "said").stat().st_mode & 0o777 == 0o640
    assert served(pool) == 1
    cached = tmp_path / "cache"
    cached.mkdir(mode=0o777)
    cached.chmod(0o777)
    done_there = pool.run("boot", "--", "true", XDG_CACHE_HOME=str(cached))  # refused, for others may write there
    assert (done_there.returncode, str(cached).encode() in done_there.stderr) == (3, True)


def test_without_a_pool_the_client_is_corral(without: Pool) -> None:
    done = without.run("boot", "--", "echo here; exit 3")
    assert (done.returncode, done.stdout) == (3, b"here\n")
    assert without.run("version").stdout.startswith(b"corral ")
    assert without.corral("pool", "status").returncode == 1
    assert without.corral("pool", "stop").returncode == 0


def test_what_a_process_of_the_pool_is_not_like_is_left_to_corral(pool: Pool) -> None:
    assert pool.run("boot", "--", "echo one", PYTHONDEVMODE="").stdout == b"one\n"
    limited = ["sh", "-c", 'ulimit -n 200; exec "$@"', "sh", pool.client, "boot", "--", "echo two"]
    assert subprocess.run(limited, capture_output=True, env=pool.environment, timeout=LONG).stdout == b"two\n"
    facts = pool.facts()
    assert (facts["served"], facts["left"], facts["why"]) == (0, 2, "limits")
    assert "left to corral, the last for: limits" in pool.corral("pool", "status").stdout


def test_many_at_once_each_run_once(pool: Pool, tmp_path: Path) -> None:
    running = [pool.start("boot", "--", f"echo {number}") for number in range(8)]
    said = [one.communicate(timeout=LONG)[0] for one in running]
    assert said == [b"%d\n" % number for number in range(8)]
    assert not any(one.returncode for one in running)


# A terminal, and signals.


def test_a_shell_at_a_terminal(pool: Pool) -> None:
    pid, terminal = pty.fork()
    if not pid:
        os.execve(pool.client, [pool.client, "boot"], pool.environment)
    said = b""

    def expect(text: bytes) -> None:
        nonlocal said
        while text not in said:
            assert select.select([terminal], [], [], LONG)[0], said
            said += os.read(terminal, 4096)

    expect(b"/ # ")
    os.write(terminal, b"echo $((6*7)); sleep 100\n")
    expect(b"\n42\r\n")
    os.write(terminal, b"\x03")  # the guest's
    os.write(terminal, b"exit 5\n")
    while True:
        try:
            said += os.read(terminal, 4096)
        except OSError:
            break
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5
    assert served(pool) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_the_guest_as_it_does_without_a_pool(pool: Pool, number: signal.Signals) -> None:
    running = pool.start("boot", "--", "echo up; sleep 1000")
    assert running.stdout
    assert running.stdout.readline() == b"up\n"
    running.send_signal(number)
    running.communicate(timeout=LONG)
    assert running.returncode == 128 + number
    until(lambda: pool.facts()["running"] == 0)


def test_a_client_that_is_killed_takes_its_guest_along(pool: Pool) -> None:
    running = pool.start("boot", "--", "echo up; sleep 1000")
    assert running.stdout
    assert running.stdout.readline() == b"up\n"
    assert pool.facts()["running"] == 1
    running.kill()
    running.communicate(timeout=LONG)
    until(lambda: pool.facts()["running"] == 0)


# The pool's own life.


def test_a_command_goes_on_when_the_pool_ends(without: Pool) -> None:
    assert without.corral("pool", "start", "--size", "1").returncode == 0
    running = without.start("boot", "--", "echo up; sleep 1; exit 6")
    assert running.stdout
    assert running.stdout.readline() == b"up\n"
    assert without.corral("pool", "stop").returncode == 0
    running.communicate(timeout=LONG)
    assert running.returncode == 6
    assert not os.path.exists(without.socket)


def test_a_keeper_that_is_killed_leaves_no_process_and_the_next_begins(without: Pool) -> None:
    assert without.corral("pool", "start").returncode == 0
    keeper = without.facts()["pid"]
    children = Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()
    assert len(children) == 2
    os.kill(keeper, signal.SIGKILL)
    until(lambda: not any(os.path.exists(f"/proc/{child}/fd/0") for child in children))
    assert without.run("boot", "--", "echo without").stdout == b"without\n"
    assert without.corral("pool", "start").returncode == 0
    assert without.run("boot", "--", "echo with").stdout == b"with\n"
    assert served(without) == 1
    done = without.corral("pool", "start")
    assert (done.returncode, done.stderr.startswith("corral: there is a pool already")) == (2, True)
    assert without.corral("pool", "stop").returncode == 0


def test_a_pool_that_cannot_be_is_refused_in_one_line(without: Pool) -> None:
    for words, why in (
        (("start", "--size", "0"), "corral: --size 0: from 1 to 64 processes\n"),
        (("start", "--size", "x"), "corral: --size"),
        (("strat",), "corral: "),
    ):
        done = without.corral("pool", *words)
        assert (done.returncode, done.stderr.startswith(why), done.stderr.count("\n")) == (2, True, 1)
    assert without.facts() == {}


# Hostile clients.


def hand_over(pool: Pool, data: bytes, descriptors: list[int]) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(pool.socket)
    connection.settimeout(LONG)
    socket.send_fds(connection, [data], descriptors)
    return connection


def asked(words: list[bytes], environment: dict[str, str]) -> bytes:
    strings = [*words, *(f"{name}={value}".encode() for name, value in environment.items())]
    text = b"".join(one + b"\0" for one in strings)
    return struct.pack("=6I", request.MAGIC, len(text), len(words), len(environment), 0o22, 0) + text


def test_what_is_no_request_is_passed_over(pool: Pool) -> None:
    here = os.open(".", os.O_PATH)
    good = asked([b"boot", b"--", b"true"], pool.environment)
    for data, descriptors in (
        (b"x", [0]),
        (good, [here]),
        (good, []),
        (struct.pack("=6I", request.MAGIC, 1 << 31, 1, 1, 0, 0), [0, 1, 2, here]),
        (struct.pack("=6I", request.MAGIC, 3, 9, 9, 0, 0) + b"a\0b", [0, 1, 2, here]),
        (asked([b"doctor"], pool.environment), [0, 1, 2, here]),
        (asked([], {}), [0, 1, 2, here]),
    ):
        with hand_over(pool, data, descriptors) as connection:
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(1) == b""
    os.close(here)
    silent = [socket.socket(socket.AF_UNIX) for _ in range(4)]
    for one in silent:
        one.connect(pool.socket)
    assert pool.run("boot", "--", "echo served").stdout == b"served\n"
    for one in silent:
        one.close()
    until(lambda: pool.facts()["waiting"] == 2)


def test_no_command_begins_before_its_client_says_so(pool: Pool, tmp_path: Path) -> None:
    said = os.open(tmp_path / "said", os.O_RDWR | os.O_CREAT)
    here = os.open(".", os.O_PATH)
    like = {name: value for name, value in pool.environment.items() if value}
    data = asked([b"boot", b"--", b"echo begun"], like)
    for last, status, output in ((b"", b"", b""), (b"n", b"", b""), (worker.BEGIN, b"\0", b"begun\n")):
        with hand_over(pool, data, [0, said, said, here]) as connection:
            assert socket.recv_fds(connection, 1, 1)[0] == worker.TAKEN
            connection.sendall(last)
            if not last:
                connection.shutdown(socket.SHUT_WR)
            assert connection.recv(1) == status
        until(lambda: pool.facts()["waiting"] == 2 and pool.facts()["running"] == 0)
        assert (tmp_path / "said").read_bytes() == output
    os.close(said)
    os.close(here)
