"""Many guests that go on from one: each is itself, by the command, by fork() and by restore()."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import corral
from corral.backends.channel import Identity, named
from corral.cli.clone_output import PIECE, Lines
from corral.errors import ConfigError
from tests.support.file_systems import ext4

LONG = 300.0
MANY = 1000 if os.environ.get("CORRAL_MANY_CLONES") else 100


def run(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "corral", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=LONG, check=False, **options)


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A guest that waits for its session."""
    path = str(tmp_path_factory.mktemp("clones") / "ready")
    done = run("snapshot", path)
    assert done.returncode == 0, done.stderr
    assert "it waits for a command" in run("snapshot", "info", path).stdout
    return path


def test_no_two_have_the_same_random_numbers_or_name(ready: str) -> None:
    done = run("clone", ready, "-n", str(MANY), "--", "head -c 16 /dev/urandom | od -An -tx1; hostname")
    assert (done.returncode, done.stderr) == (0, "")
    lines = sorted(line.split(": ", 1) for line in done.stdout.splitlines())
    assert len(lines) == 2 * MANY
    names = {(number, text) for number, text in lines if text.startswith("corral-")}
    assert names == {(str(number), f"corral-{number}") for number in range(1, MANY + 1)}
    assert len({text for _, text in lines if not text.startswith("corral-")}) == MANY


def test_each_has_its_streams_its_clock_and_its_status(ready: str, tmp_path: Path) -> None:
    words = ("--name", "web", "--output", str(tmp_path / "out"))
    line = "cat; date +%s; hostname; echo seen >&2; exit $(hostname | sed s/web-//)"
    done = run("clone", ready, "-n", "3", *words, "--", line, input="not for clones")
    assert (done.returncode, done.stdout) == (1, "")
    told = "3 of 3 clones failed: 1 (exit status 1), 2 (exit status 2), 3 (exit status 3)"
    assert done.stderr == f"corral: {told}\n"
    for number in range(1, 4):
        when, name = (tmp_path / "out" / f"{number}.out").read_text().splitlines()
        assert abs(int(when) - time.time()) < 60
        assert (name, (tmp_path / "out" / f"{number}.err").read_text()) == (f"web-{number}", "seen\n")


def test_one_clone_is_like_a_command(ready: str) -> None:
    done = run("clone", ready, "--", "printf 'no end'; echo error >&2; exit 5")
    assert (done.returncode, done.stdout, done.stderr) == (5, "no end", "error\n")
    done = run("boot", "--restore", ready, "--", "cat; exit 6", input="from here")
    assert (done.returncode, done.stdout) == (6, "from here"), done.stderr


def test_no_more_than_jobs_run_at_once(ready: str) -> None:
    """The host sees how many there are."""
    command = [sys.executable, "-m", "corral", "clone", ready, "-n", "6", "--jobs", "2", "--", "sleep 0.5"]
    with subprocess.Popen(command) as process:
        most = 0
        while process.poll() is None:
            most = max(most, len(_children(process.pid)))
            time.sleep(0.01)
        assert process.returncode == 0
    assert most == 2


def _children(pid: int) -> list[int]:
    try:
        return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))
    except OSError:
        return []


def test_one_that_does_not_end(ready: str) -> None:
    line = "case $(hostname) in *-2) sleep 100;; esac; echo done"
    done = run("clone", ready, "-n", "2", "--timeout", "3", "--", line)
    assert (done.returncode, done.stdout) == (124, "1: done\n")
    assert "2: corral: the guest did not end within 3 s" in done.stderr


def test_one_that_ends_without_a_word(ready: str) -> None:
    line = "case $(hostname) in *-2) reboot -f;; esac; echo done"
    done = run("clone", ready, "-n", "2", "--", line)
    assert (done.returncode, done.stdout) == (4, "1: done\n")
    assert "2: corral: the guest ended without telling the exit status" in done.stderr
    assert "1 of 2 clones failed: 2 (exit status 4)" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_none_outlives_the_command(ready: str, number: signal.Signals) -> None:
    command = [sys.executable, "-m", "corral", "clone", ready, "-n", "4", "--", "echo up; sleep 100"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert {process.stdout.readline() for _ in range(4)} == {b"%d: up\n" % clone for clone in range(1, 5)}
        clones = _children(process.pid)
        assert len(clones) == 4
        started = time.monotonic()
        process.send_signal(number)
        process.wait(LONG)
        while any(Path(f"/proc/{pid}").exists() for pid in clones):
            assert time.monotonic() - started < 5
            time.sleep(0.01)
    assert process.returncode == (-number if number == signal.SIGKILL else 128 + number)


def test_a_reader_who_leaves_ends_them(ready: str) -> None:
    command = [sys.executable, "-m", "corral", "clone", ready, "-n", "2", "--", "while :; do echo line; done"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(LONG) == 141


def test_what_cannot_be_cloned(ready: str, tmp_path: Path) -> None:
    image = tmp_path / "data.img"
    image.write_bytes(ext4(8 << 20, tmp_path))
    saved = str(tmp_path / "saved")
    assert run("snapshot", saved, "--", "boot", "--root", "none", "--disk", str(image)).returncode == 0
    line = "mkdir /mnt; mount -t ext4 /dev/vda /mnt; hostname >/mnt/name; cat /mnt/name"
    for words, text in (
        ((saved, "-n", "2", "--", line), "2 clones cannot all write the image"),
        ((ready, "-n", "0", "--", "true"), "1 to 10000"),
        ((ready, "-n", "2", "--name", "no space", "--", "true"), "is none of a host"),
        ((ready, "--jobs", "x", "--", "true"), "is not a number"),
        ((ready, "--output", "/dev/null", "--", "true"), "name another folder"),
        ((__file__, "--", "true"), "is no snapshot"),
        ((), "wants the FILE"),
    ):
        done = run("clone", *words)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
        assert text in done.stderr
    before = image.read_bytes()
    done = run("clone", saved, "-n", "3", "--overlay", "--", line)
    assert sorted(done.stdout.splitlines()) == [f"{number}: corral-{number}" for number in (1, 2, 3)], done.stderr
    assert image.read_bytes() == before


def test_forks_of_a_shell_share_nothing_but_what_was(tmp_path: Path) -> None:
    with corral.linux() as vm:
        vm.console.expect("# ", timeout=LONG)
        vm.console.send("echo kept >/tmp/file; echo wrote $((1+1))\n")
        vm.console.expect("wrote 2\r\n", timeout=LONG)
        forks = vm.fork(3, "f")
        vm.console.send("rm /tmp/file; echo parent $((6*7))\n")
        vm.console.expect("parent 42", timeout=LONG)
    try:
        seen = set()
        for number, fork in enumerate(forks, 1):
            fork.console.send("sleep 0.2; cat /tmp/file; hostname; head -c 9 /dev/urandom | md5sum\n")
            match = fork.console.expect("kept\r\nf-(?P<name>.)\r\n".replace("(?P<name>.)", str(number)), timeout=LONG)
            assert match
            seen.add(fork.console.expect(" -\r\n", timeout=LONG).string[-40:])
        assert len(seen) == 3
    finally:
        for fork in forks:
            fork.close()


def test_forks_with_streams_go_on_byte_for_byte() -> None:
    with corral.linux("read a; echo got $a; read b; echo then $b", pipes=True) as vm:
        vm.streams.send("one\n")
        vm.run_until(condition=lambda vm: vm.streams.output == b"got one\n", timeout=LONG)
        for number, fork in enumerate(vm.fork(4)):
            with fork:
                fork.streams.send(f"{number}\n")
                assert (fork.wait(LONG).status, fork.streams.output) == (0, f"then {number}\n".encode())
        vm.streams.send("parent\n")
        assert (vm.wait(LONG).status, vm.streams.output) == (0, b"got one\nthen parent\n")


def test_a_guest_that_writes_an_image_is_not_forked(tmp_path: Path) -> None:
    image = tmp_path / "data.img"
    image.write_bytes(bytes(1 << 20))
    with corral.linux(disks=str(image), root="none") as vm:
        vm.console.expect("# ", timeout=LONG)
        with pytest.raises(ConfigError, match="cannot be forked; add snapshot=on"):
            vm.fork()
        with pytest.raises(ConfigError, match="1 to 1000"):
            vm.fork(0)


def test_a_machine_id_where_there_is_a_file(ready: str) -> None:
    """As a distribution has one; the small guest has none, and gets none."""
    line = "mkdir -p /etc; test -e /etc/machine-id && echo there; echo none"
    with corral.restore(ready, line, name="x") as vm:
        assert (vm.wait(LONG).status, vm.streams.output) == (0, b"none\n")
    script = "mkdir -p /etc; echo old >/etc/machine-id; read x; cat /etc/machine-id; hostname"
    with corral.restore(ready, script, name="x") as vm:
        vm.run_until(condition=lambda vm: vm.channel.device.state(1).open, timeout=LONG)
        vm.resume()
        time.sleep(0.3)
        forks = vm.fork(2, "y")
    seen = []
    for fork in forks:
        with fork:
            fork.run_until(condition=lambda vm: not vm.channel._unread, timeout=LONG)
            fork.streams.send("go\n")
            assert fork.wait(LONG).status == 0
            seen += fork.streams.output.decode().split()
    assert seen[1::2] == ["y-1", "y-2"]
    assert len({*seen[::2]}) == 2
    assert {len(bytes.fromhex(text)) for text in seen[::2]} == {16}


def test_names() -> None:
    assert named("web-1.example").machine != named("web-1.example").machine
    for name in ("", "a b", "x" * 65, "a\n", "ä"):
        with pytest.raises(ConfigError, match="is none of a host"):
            Identity(name, bytes(16))


def test_lines_of_a_clone() -> None:
    source, theirs = os.pipe2(os.O_NONBLOCK)
    sink = os.memfd_create("sink")
    lines = Lines(source, sink, b"7: ")
    os.write(theirs, b"one\ntw")
    assert lines.take()
    os.write(theirs, b"o\n\nrest")
    assert lines.take()
    assert not lines.take()
    os.close(theirs)
    lines.take_all()
    assert lines.source == -1
    source, theirs = os.pipe2(os.O_NONBLOCK)
    lines = Lines(source, sink, b"8: ")
    for _ in range(3):
        os.write(theirs, b"x" * (PIECE // 2))
        lines.take()
    lines.close()
    long = b"8: " + b"x" * (PIECE // 2 * 3) + b"\n"
    assert os.pread(sink, 4 * PIECE, 0) == b"7: one\n7: two\n7: \n7: rest\n" + long
    for descriptor in (theirs, sink):
        os.close(descriptor)
