"""Guests in the background: boot --name, ps, exec, cp, port, logs, attach, pause, resume, stop, kill, wait and rm; and
what becomes of commands when something on their way fails."""

from __future__ import annotations

import fcntl
import json
import os
import random
import select
import signal
import subprocess
import termios
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from corral.errors import HostError
from corral.guests import host
from corral.running import control, counters
from tests.support.named_guest import Guests, skip_without_kernel
from tests.support.tiny_guests import tiny_guest


@pytest.fixture(scope="module", autouse=True)
def small() -> None:
    skip_without_kernel()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guests]:
    """With the guest `web`, which no test ends."""
    guests = Guests(tmp_path_factory.mktemp("g"))
    guests.boot("web", "--memory", "256M")
    yield guests
    guests.close()


@pytest.fixture
def guests(tmp_path: Path) -> Iterator[Guests]:
    own = Guests(tmp_path)
    yield own
    own.close()


# A command.


def test_output_errors_and_status_are_the_commands(shared: Guests) -> None:
    done = shared.exec("web", r"printf 'a\0b\r\n'; printf err >&2; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, b"a\0b\r\n", b"err")


def test_a_program_has_its_arguments_as_they_are(shared: Guests) -> None:
    done = shared.exec("web", "printf", "%s|", "a b", "", "'$HOME'", "*")
    assert done.stdout == b"a b||'$HOME'|*|"


def test_ten_megabytes_go_through_a_command_as_they_are(shared: Guests) -> None:
    data = random.Random(1).randbytes(10 << 20)
    done = shared.exec("web", "cat", input=data)
    assert (done.returncode, done.stdout == data) == (0, True)


def test_a_command_that_does_not_read_its_input_ends_all_the_same(shared: Guests) -> None:
    assert shared.exec("web", "exit 3", input=bytes(1 << 20)).returncode == 3


def test_environment_folder_and_user(shared: Guests) -> None:
    words = ("-e", "A=b c", "-w", "/tmp", "-u", "1234")
    done = shared.run("exec", *words, "web", "--", 'echo "$A $(pwd) $(id -u) $(id -g)"')
    assert done.stdout == b"b c /tmp 1234 1234\n"


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("web", "--", "nosuch", "x"), 127, "applet not found"),
        (("web", "--", "/nosuch", "x"), 127, "No such file"),
        (("web", "--", "/proc/version", "x"), 126, "Permission denied"),
        (("-w", "/nosuch", "web", "--", "pwd"), 127, "go to that folder"),
        (("-u", "nosuch", "web", "--", "id"), 126, "no such user"),
        (("web", "--", "kill -9 $$"), 137, ""),
        (("--timeout", "0.2", "web", "--", "sleep 60 & sleep 60"), 124, "was killed"),
        (("other", "--", "true"), 2, "there is no guest 'other'; there are web"),
        (("../web", "--", "true"), 2, "is no name"),
        (("web",), 2, "needs a guest and a command"),
        (("-e", "A", "web", "--", "true"), 2, "is not NAME=VALUE"),
    ],
)
def test_what_ends_otherwise_is_told(shared: Guests, words: tuple[str, ...], status: int, said: str) -> None:
    done = shared.run("exec", *words)
    assert (done.returncode, said in done.stderr.decode()) == (status, True), done.stderr
    assert b"Traceback" not in done.stderr


def sleepers(guests: Guests, name: str = "web") -> int:
    return guests.exec(name, "ps | grep -c '[s]leep 61'").stdout.count(b"1")


def test_with_its_time_all_that_it_has_started_is_over(shared: Guests) -> None:
    """Also what has left its group, and what was forked by what ended."""
    shared.run(
        "exec", "--timeout", "0.3", "web", "--", "(setsid sleep 61 &) ; setsid sh -c 'sleep 61 & sleep 61'; sleep 61"
    )
    assert shared.exec("web", "ps | grep '[s]leep 61'").stdout == b""


def test_who_leaves_takes_the_command_along(shared: Guests) -> None:
    process = shared.start("exec", "web", "--", "echo started; sleep 62")
    assert process.stdout
    assert process.stdout.readline() == b"started\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 143
    end = time.monotonic() + 20
    while shared.exec("web", "ps | grep '[s]leep 62'").stdout:
        assert time.monotonic() < end


def test_what_goes_on_in_the_background_does_not_hold_up_the_end(shared: Guests) -> None:
    began = time.monotonic()
    assert shared.exec("web", "sleep 63 & echo done").stdout == b"done\n"
    assert time.monotonic() - began < 30
    assert b"sleep 63" in shared.exec("web", "ps | grep '[s]leep 63'").stdout


def test_a_reader_who_stands_still_holds_up_no_other_command(shared: Guests) -> None:
    process = shared.start("exec", "web", "--", "cat /dev/zero")
    time.sleep(0.5)
    assert shared.exec("web", "echo here").stdout == b"here\n"
    process.kill()
    process.communicate()


def test_a_terminal(shared: Guests) -> None:
    done = shared.run("exec", "-t", "web", "--", "tty; echo err >&2")
    assert done.stdout.replace(b"\r\n", b"\n") == b"/dev/pts/0\nerr\n"


def test_a_person_at_a_terminal(shared: Guests) -> None:
    """A shell with the size of the terminal, which follows; Ctrl-C is the command's; all is put back at the end."""
    person, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (33, 77))
    before = termios.tcgetattr(theirs)
    process = subprocess.Popen(
        shared.command("exec", "-it", "web", "--", "sh"),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=shared.environment,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    said = bytearray()

    def until(text: bytes) -> None:
        end = time.monotonic() + 60
        while text not in said:
            assert time.monotonic() < end, bytes(said)
            if select.select([person], [], [], 0.2)[0]:
                said.extend(os.read(person, 4096))
        said.clear()

    until(b"# ")
    os.write(person, b"stty size\r")
    until(b"33 77")
    termios.tcsetwinsize(theirs, (20, 50))
    end = time.monotonic() + 60
    while b"20 50" not in said:
        assert time.monotonic() < end, bytes(said)
        os.write(person, b"stty size\r")
        time.sleep(0.2)
        said.extend(os.read(person, 4096))
    os.write(person, b"sleep 100\r")
    time.sleep(0.3)
    os.write(person, b"\x03echo in''terrupted\r")
    until(b"interrupted")
    os.write(person, b"exit 6\r")
    assert process.wait(60) == 6
    assert termios.tcgetattr(theirs) == before
    os.close(person)
    os.close(theirs)


def test_fifty_commands_at_once(shared: Guests) -> None:
    with ThreadPoolExecutor(50) as pool:
        done = list(pool.map(lambda number: shared.exec("web", f"sleep 0.5; echo {number}").stdout, range(50)))
    assert done == [b"%d\n" % number for number in range(50)]
    assert sleepers(shared) == 0


# Files.


def test_a_tree_goes_in_and_comes_out_as_it_was(shared: Guests, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "deep" / "er").mkdir(parents=True)
    (tree / "script").write_text("#!/bin/sh\n")
    (tree / "script").chmod(0o751)
    (tree / "empty").touch()
    (tree / "deep" / "er" / "noise").write_bytes(random.Random(2).randbytes(3 << 20))
    (tree / "link").symlink_to("deep/er/noise")
    (tree / "dangling").symlink_to("/nosuch")
    (tree / "name with\nnewline").write_text("x")
    with (tree / "holes").open("wb") as file:
        file.seek(20 << 20)
        file.write(b"end")
        file.truncate(30 << 20)
    os.utime(tree / "script", (1e9, 1e9))
    assert shared.run("cp", str(tree), "web:/tmp").returncode == 0
    back = tmp_path / "back"
    done = shared.run("cp", "web:/tmp/tree", str(back))
    assert (done.returncode, done.stderr) == (0, b"")
    assert subprocess.run(["diff", "-r", "--no-dereference", tree, back], capture_output=True).stdout == b""
    assert ((back / "script").stat().st_mode & 0o7777, (back / "script").stat().st_mtime) == (0o751, 1e9)
    assert (back / "holes").stat().st_blocks < 200
    assert int(shared.exec("web", "du -k /tmp/tree/holes | cut -f1").stdout) < 100


def test_copies_land_where_cp_would_put_them(shared: Guests, tmp_path: Path) -> None:
    (tmp_path / "one").write_text("1")
    assert shared.run("cp", str(tmp_path / "one"), "web:/tmp/other").returncode == 0
    assert shared.run("cp", "web:/tmp/other", str(tmp_path)).returncode == 0
    assert (tmp_path / "other").read_text() == "1"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("web:/nosuch", "."), "No such file"),
        (("/nosuch", "web:/tmp"), "cannot read '/nosuch'"),
        (("web:/tmp", "web:/tmp"), "one of both is NAME:PATH"),
        (("a", "b"), "one of both is NAME:PATH"),
        (("/etc/hostname", "web:/proc/x"), "No such file"),
        (("/etc/hostname", "web:/nosuch/"), "no folder of the guest"),
    ],
)
def test_copies_that_cannot_be(shared: Guests, words: tuple[str, str], said: str) -> None:
    done = shared.run("cp", *words)
    assert (done.returncode, said in done.stderr.decode()) == (2, True), done.stderr


def test_a_full_file_system_of_the_guest_is_told(shared: Guests, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(random.Random(3).randbytes(4 << 20))
    shared.exec("web", "mkdir -p /small; mount -t tmpfs -o size=1M none /small")
    done = shared.run("cp", str(tmp_path / "big"), "web:/small")
    assert (done.returncode, b"No space left" in done.stderr) == (2, True), done.stderr


# Ports.


def test_a_port_leads_to_the_guest(shared: Guests) -> None:
    shared.exec("web", "mkdir -p /www; echo page >/www/index.html; httpd -p 8080 -h /www")
    process = shared.start("port", "web", "8080")
    assert process.stdout
    address = process.stdout.readline().decode().strip()
    try:
        with urllib.request.urlopen(f"http://{address}/index.html", timeout=20) as answer:
            assert answer.read() == b"page\n"
    finally:
        process.terminate()
        process.communicate()


# A guest's life.


def test_ps_names_it_and_its_name_is_taken(shared: Guests) -> None:
    listed = json.loads(shared.run("ps", "--json").stdout)
    assert [(one["name"], one["state"], one["memory"], one["cpus"]) for one in listed] == [
        ("web", "running", 256 << 20, 1)
    ]
    again = shared.run("boot", "--name", "web", "--detach")
    assert (again.returncode, b"there is a guest 'web' already" in again.stderr) == (2, True)
    assert shared.exec("web", "true").returncode == 0


def test_top_shows_what_it_does(shared: Guests) -> None:
    process = shared.start("exec", "web", "--", "cat /dev/zero")
    assert process.stdout
    process.stdout.read(1 << 20)
    reader = threading.Thread(target=process.stdout.read)
    reader.start()
    about = json.loads(shared.run("top", "--once", "--json").stdout)
    process.kill()
    process.wait()
    reader.join()
    assert [(one["name"], one["pid"], one["guest_memory"]) for one in about] == [("web", shared.pid("web"), 256 << 20)]
    assert about[0]["from_guest"] > 1 << 16
    assert min(about[0][kind] for kind in ("cpu_percent", "memory", "exits")) > 0
    assert (about[0]["disk_read"], about[0]["disk_written"]) == (0, 0)
    head, row = shared.run("top", "--once").stdout.decode().splitlines()
    assert (head.split()[0], row.split()[0], row.split()[3]) == ("NAME", "web", "256.0M")
    process = shared.start("top")
    assert process.stdout
    assert [process.stdout.readline().split()[0] for _ in range(2)] == [b"NAME", b"web"]
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130


def test_it_is_paused_and_goes_on(shared: Guests) -> None:
    assert shared.run("pause", "web").returncode == 0
    assert b"paused" in shared.run("ps").stdout
    done = shared.run("exec", "--wait", "0.5", "web", "--", "true")
    assert done.returncode == 124
    assert shared.run("resume", "web").returncode == 0
    assert shared.exec("web", "echo back").stdout == b"back\n"


def test_its_console(shared: Guests) -> None:
    shared.exec("web", "echo marked >/dev/console")
    assert b"marked" in shared.run("logs", "web").stdout
    process = shared.start("attach", "web")
    assert process.stdin
    assert process.stdout
    process.stdin.write(b"echo ty''ped\n")
    process.stdin.flush()
    said = b""
    while b"typed" not in said:
        said += os.read(process.stdout.fileno(), 4096)
    process.kill()
    process.communicate()
    assert b"typed" in shared.run("logs", "web").stdout


def test_it_shuts_down_and_what_is_left_can_be_looked_at_and_removed(guests: Guests) -> None:
    guests.boot("one")
    assert guests.run("wait", "--timeout", "0.2", "one").returncode == 124
    assert guests.run("stop", "one").returncode == 0
    assert guests.run("wait", "one").returncode == 0
    assert b"corral: init" in guests.run("logs", "one").stdout
    assert b"small kernel" in guests.run("logs", "--process", "one").stdout
    assert guests.run("ps").stdout.count(b"\n") == 1
    assert b"ended (0)" in guests.run("ps", "-a").stdout
    assert guests.run("exec", "one", "--", "true").returncode == 2
    assert guests.run("rm", "one").returncode == 0
    assert list((guests.folder / "corral").iterdir()) == []


def test_its_command_ends_it_with_its_status(guests: Guests) -> None:
    guests.boot("job", "--", "echo working; exit 9")
    assert guests.run("wait", "job").returncode == 9
    assert b"working" in guests.run("logs", "job").stdout


def test_one_in_front_has_a_name_too(guests: Guests) -> None:
    process = guests.start("boot", "--name", "front", "--", "cat; exit 5")
    assert process.stdin
    process.stdin.write(b"typed\n")
    process.stdin.flush()
    end = time.monotonic() + 60
    while b"front" not in guests.run("ps").stdout:
        assert time.monotonic() < end
    assert guests.exec("front", "echo hello").stdout == b"hello\n"
    output, errors = process.communicate()
    assert (process.returncode, output) == (5, b"typed\n"), errors


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--detach",), "needs a name"),
        (("--name", "a/b", "--detach"), "is no name"),
        (("--name", "x" * 50, "--detach"), "is no name"),
        (("--name", "x", "--detach", "--tty"), "does not go with --tty"),
        (("--name", "x", "--vsock", "v"), "exclude each other"),
        (("--name", "x", "--detach", "/nosuch"), "nosuch"),
        (("--name", "x", "--detach", "--memory", "1"), "memory"),
    ],
)
def test_what_cannot_start_says_why(guests: Guests, words: tuple[str, ...], said: str) -> None:
    done = guests.run("boot", *words)
    assert (done.returncode, said in done.stderr.decode()) == (2, True), done.stderr
    assert b"Traceback" not in done.stderr
    assert list(guests.folder.glob("corral/*")) == []


def test_one_that_looks_like_this_host_has_the_agent(guests: Guests, tmp_path: Path) -> None:
    try:
        host.mounts(Path("/proc/self/mountinfo").read_text())
    except HostError as error:
        pytest.skip(str(error))
    host.get()
    guests.boot("like", "host", "--memory", "512M")
    (tmp_path / "x").write_text("content")
    done = guests.exec("like", f"cat {tmp_path}/x; echo new >{tmp_path}/x")
    assert (done.returncode, done.stdout) == (0, b"content"), done.stderr
    assert (tmp_path / "x").read_text() == "content"


def test_one_that_is_paused_is_told_to_who_waits_for_it(guests: Guests, tmp_path: Path) -> None:
    guests.boot("one")
    assert guests.run("pause", "one").returncode == 0
    (tmp_path / "file").write_text("content")
    for words in (("exec", "one", "--", "true"), ("cp", str(tmp_path / "file"), "one:/tmp")):
        done = guests.run(*words)
        assert (done.returncode, b"'one' is paused; corral resume one" in done.stderr) == (124, True), done.stderr
    assert guests.run("resume", "one").returncode == 0
    assert guests.exec("one", "echo on").stdout == b"on\n"


# Faults.


def test_one_that_was_killed_is_told_from_one_that_runs_and_its_name_is_free(guests: Guests) -> None:
    guests.boot("one")
    pid = guests.pid("one")
    os.kill(pid, signal.SIGKILL)
    guests.await_end(pid)
    assert guests.run("ps").stdout.count(b"\n") == 1
    assert b"killed" in guests.run("ps", "--all").stdout
    done = guests.run("exec", "one", "--", "true")
    assert (done.returncode, b"was killed" in done.stderr) == (2, True)
    assert guests.run("wait", "one").returncode == 4
    guests.boot("one")
    assert guests.exec("one", "true").returncode == 0


def test_its_process_is_killed_in_the_middle_of_a_copy(guests: Guests, tmp_path: Path) -> None:
    guests.boot("one", "--memory", "512M")
    with (tmp_path / "big").open("wb") as file:
        for _ in range(200):
            file.write(random.Random(4).randbytes(1 << 20))
    process = guests.start("cp", str(tmp_path / "big"), "one:/tmp")
    path = str(guests.folder / "corral" / "one" / "control")
    end = time.monotonic() + 60
    while counters.parse(control.ask(path, "counters", 60))[counters.TAKEN] < 1 << 20:
        assert time.monotonic() < end
    pid = guests.pid("one")
    os.kill(pid, signal.SIGKILL)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 4, errors
    assert b"has gone" in errors
    assert b"Traceback" not in errors
    guests.await_end(pid)
    end = time.monotonic() + 10
    while (guests.folder / "corral" / "one" / "vsock").exists():  # the connector takes it away
        assert time.monotonic() < end
        time.sleep(0.01)


def test_the_agent_is_killed(guests: Guests) -> None:
    guests.boot("one")
    assert guests.exec("one", "true").returncode == 0
    guests.exec("one", "kill -9 $(ps | grep '[c]orral-agent' | head -n 1 | cut -c 1-5)")
    done = guests.run("exec", "--wait", "1", "one", "--", "true")
    assert done.returncode in (4, 124)
    assert b"has no agent" in done.stderr
    assert guests.run("stop", "one").returncode == 0


def test_an_agent_that_hangs(guests: Guests) -> None:
    guests.boot("one")
    guests.exec("one", "kill -STOP $(ps | grep '[c]orral-agent' | head -n 1 | cut -c 1-5)")
    done = guests.run("exec", "--wait", "1", "one", "--", "true")
    assert (done.returncode, b"does not answer" in done.stderr) == (124, True), done.stderr
    assert guests.run("stop", "--grace", "1", "one").returncode == 0


def test_a_guest_that_hangs(guests: Guests) -> None:
    """Its CPUs do nothing any more, in the middle of a command."""
    guests.boot("one")
    process = guests.start("exec", "one", "--", "echo up; sleep 100")
    assert process.stdout
    assert process.stdout.readline() == b"up\n"
    assert guests.run("pause", "one").returncode == 0
    began = time.monotonic()
    assert guests.run("stop", "--grace", "1", "one").returncode == 0
    assert time.monotonic() - began < 20
    process.communicate(timeout=20)
    assert process.returncode == 4


def test_a_guest_that_spins_with_interrupts_off(guests: Guests) -> None:
    """It answers nothing, and is told of, saved and ended all the same."""
    guests.boot("spin", str(tiny_guest("spin")), "--memory", "16M")
    began = time.monotonic()
    done = guests.run("exec", "--wait", "1", "spin", "--", "true")
    assert (done.returncode, b"does not answer" in done.stderr) == (124, True), done.stderr
    about = json.loads(guests.run("top", "--once", "--json").stdout)[0]
    assert (about["name"], about["cpu_percent"] > 1, about["guest_memory"]) == ("spin", True, 16 << 20)
    assert guests.run("snapshot", "spin", str(guests.folder / "s")).returncode == 0
    guests.boot("again", "--restore", str(guests.folder / "s"))
    assert guests.run("stop", "--grace", "1", "again").returncode == 0
    assert guests.run("stop", "--grace", "1", "spin").returncode == 0
    assert time.monotonic() - began < 60


@pytest.mark.long
def test_a_thousand_commands_leave_nothing(guests: Guests) -> None:
    guests.boot("one")
    guests.exec("one", "true")
    pid = guests.pid("one")
    before = len(os.listdir(f"/proc/{pid}/fd")), guests.exec("one", "ps | wc -l").stdout
    from corral.agent import command
    from corral.agent.connection import Connection

    path = str(guests.folder / "corral" / "one" / "vsock")
    for number in range(1000):
        with Connection(path, time.monotonic() + 20) as connection:
            seen: list[tuple[int, bytes]] = []
            one = command.RunningCommand(
                connection, command.wanted(f"echo {number}"), lambda *said, to=seen: to.append(said)
            )
            assert one.wait(time.monotonic() + 20).status == 0
            assert seen == [(1, b"%d\n" % number)]
    deadline = time.monotonic() + 20  # the last connection may be about to be closed
    while (now := (len(os.listdir(f"/proc/{pid}/fd")), guests.exec("one", "ps | wc -l").stdout)) != before:
        assert time.monotonic() < deadline, now
