"""The jail as `corral boot` has it: every thread of its process is in it before a guest's command runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

CORRAL = [sys.executable, "-m", "corral", "boot"]
LONG = 120.0  # seconds: nothing takes so long unless it hangs
WORKER = 0x10 | 0x4000  # PF_IO_WORKER, PF_USER_WORKER (include/linux/sched.h): KVM's and io_uring's
FILTERS = {
    "vcpu0": 2,
    "blk0": 2,
    "channel": 2,
    "9p-send": 2,
    "9p-receive": 2,
}  # the main thread's and their own; names of threads


@contextmanager
def guest(*words: str) -> Iterator[int]:
    """The process of one whose command runs, until the end of the block."""
    leak = os.open(os.devnull, os.O_RDONLY)
    os.set_inheritable(leak, True)
    command = [*CORRAL, *words, "--", "echo ready; read line; echo got $line"]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=[leak]
    )
    os.close(leak)
    assert process.stdin
    assert process.stdout
    try:
        line = process.stdout.readline()
        if line != b"ready\n":
            process.kill()
            pytest.fail(f"{line!r}, {process.communicate()}")
        yield process.pid
        out, errors = process.communicate(b"it\n", LONG)
        assert (process.returncode, out) == (0, b"got it\n"), errors
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("words", [["--numa", "auto"], ["--pin", "auto"]])
def test_a_guest_that_is_placed(words: list[str]) -> None:
    with guest("--fresh", *words) as pid:
        assert threads(pid)


@pytest.mark.parametrize("words", [[], ["--cpus", "2"], ["--vsock", "{folder}/vsock"]])
def test_a_process_that_was_stopped_goes_on(words: list[str], tmp_path: Path) -> None:
    """Ctrl-Z and fg: the kernel goes on with a wait by a system call of its own (signal(7))."""
    with guest(*(word.format(folder=tmp_path) for word in words)) as pid:
        for _ in range(3):
            os.kill(pid, signal.SIGSTOP)
            time.sleep(0.02)
            os.kill(pid, signal.SIGCONT)


def threads(pid: int) -> dict[str, dict[str, str]]:
    """What /proc/PID/status has of each, by its name; not of the host kernel's own workers, which are among them."""
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        if int((task / "stat").read_text().rpartition(")")[2].split()[6]) & WORKER:
            continue
        status = dict(line.split(":", 1) for line in (task / "status").read_text().splitlines() if ":" in line)
        found[status["Name"].strip()] = {name: value.strip() for name, value in status.items()}
    return found


@pytest.fixture
def disk(tmp_path: Path) -> str:
    (tmp_path / "disk").write_bytes(bytes(1 << 20))
    return str(tmp_path / "disk")


SHARE = ("--share", "{folder},tag=x,rw")


@pytest.mark.parametrize("words", [(), ("--fresh",), ("--disk", "{disk}", "--root", "none"), ("--cpus", "2"), SHARE])
def test_every_thread_is_in_the_jail(words: tuple[str, ...], disk: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("the process hides from its own user; root can look")
    with guest(*(word.format(disk=disk, folder=os.path.dirname(disk)) for word in words)) as pid:
        found = threads(pid)
    assert any(name.startswith("vcpu") for name in found)
    for name, status in found.items():
        assert status["NoNewPrivs"] == "1", name
        assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == int(status["CapBnd"], 16) == 0, name
        assert status["Seccomp"] == "2", name
        assert int(status["Seccomp_filters"]) == FILTERS.get(name, int(status["Seccomp_filters"])), name


def test_what_was_left_open_is_closed() -> None:
    if os.geteuid() != 0:
        pytest.skip("the process hides from its own user; root can look")
    with guest() as pid:
        open_files = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd") if int(fd) > 2]
    assert os.devnull not in open_files
    with guest("--jail", "off") as pid:
        open_files = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd") if int(fd) > 2]
    assert os.devnull in open_files


def longest_file(pid: int) -> str:
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    return next(line.split()[3] for line in lines if line.startswith("Max file size"))


def test_no_file_grows_beyond_the_largest_disk(disk: str) -> None:
    with guest("--disk", disk, "--root", "none") as pid:
        assert longest_file(pid) == str(1 << 20)
    with guest("--disk", disk, "--root", "none", "--console", f"file:{disk}.log") as pid:
        assert longest_file(pid) == "unlimited"


def test_without_it_nothing_is_given_up() -> None:
    with guest("--jail", "off") as pid:
        assert {status["Seccomp"] for status in threads(pid).values()} == {"0"}


def test_the_clerk_goes_with_the_guest() -> None:
    with guest() as pid:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        assert [Path(f"/proc/{child}/comm").read_text() for child in children] == ["corral-clerk\n"]
    until = time.monotonic() + LONG
    while any(os.path.exists(f"/proc/{child}") for child in children):
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--jail", "maybe"), "is none of on, off, report"),
        (("--limit-cpu", "-1"), "is no number of CPUs"),
    ],
)
def test_what_does_not_go_together_is_one_line(words: tuple[str, ...], said: str, disk: str) -> None:
    command = [*CORRAL, *(word.format(disk=disk) for word in words), "--", "true"]
    done = subprocess.run(command, stdin=0, capture_output=True, text=True, timeout=LONG, check=False)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def corral(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "corral", *words]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LONG, check=False)


MOUNT = "mkdir /x; mount -t 9p -o trans=virtio x /x"
ANEW = "cd /sys/bus/virtio/drivers/9pnet_virtio; d=$(ls | grep ^virtio); echo $d >unbind; echo $d >bind; cd /"


def test_a_share_is_served_after_a_reset_of_its_device(tmp_path: Path) -> None:
    """From within the jail no second server can be started."""
    (tmp_path / "file").write_text("hello")
    script = f"{MOUNT} && cat /x/file && umount /x && {ANEW} && mount -t 9p -o trans=virtio x /x && cat /x/file"
    done = corral("boot", "--jail", "on", "--share", f"{tmp_path},tag=x", "--", script)
    assert (done.returncode, done.stdout) == (0, "hellohello"), done.stderr


@pytest.mark.parametrize(
    "watch",
    [
        ("stat", "--csv", "{out}.csv"),
        ("profile", "--out", "{out}.svg"),
        ("trace", "--summary"),
        ("trace", "--out", "{out}.json"),
        ("trace", "--out", "{out}.folded"),
    ],
)
def test_what_watches_a_guest_is_in_the_jail_with_it(watch: tuple[str, ...], tmp_path: Path) -> None:
    words = [word.format(out=tmp_path / "out") for word in watch]
    done = corral(*words, "--", "boot", "--jail", "on", "--stats", "--", "echo done")
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
    assert "jail: entered" in done.stderr
    assert [path.stat().st_size > 0 for path in tmp_path.iterdir()] == [True] * ("{out}" in watch[-1])


def test_what_an_exit_trace_in_parquet_needs_is_no_jail() -> None:
    done = corral("trace", "--out", "/tmp/x.parquet", "--", "boot", "--jail", "on", "--", "true")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "does not go with --out FILE.parquet" in done.stderr or "pyarrow" in done.stderr


@pytest.mark.parametrize("words", [(), ("--cpus", "2"), ("--disk", "{disk}", "--root", "none"), SHARE])
def test_a_boot_asks_for_nothing_that_the_jail_would_refuse(words: tuple[str, ...], disk: str) -> None:
    given = [word.format(disk=disk, folder=os.path.dirname(disk)) for word in words]
    done = corral("boot", "--jail", "report", "--stats", *given, "--", "echo done")
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
    assert "jail: not entered" in done.stderr
    assert "the jail would refuse" not in done.stderr


def test_gdb_s_socket_goes_with_the_vmm(tmp_path: Path) -> None:
    path = tmp_path / "gdb"
    words = ["--jail", "on", "--gdb", str(path), "--timeout", "1", "--", "true"]
    done = corral("boot", *words)
    assert done.returncode == 124, done.stderr
    until = time.monotonic() + LONG
    while path.exists():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_snapshot_is_made_in_the_jail(tmp_path: Path) -> None:
    path = tmp_path / "shell"
    done = corral("snapshot", "--after", "# ", str(path), "--", "boot")
    assert done.returncode == 0, done.stderr
    assert [found.name for found in tmp_path.iterdir()] == ["shell"]


def test_a_guest_without_a_group_of_its_own_runs_and_a_notice_says_so() -> None:
    done = corral("boot", "--limit-memory", "1G", "--stats", "--", "echo done")
    assert (done.returncode, done.stdout) == (0, "done\n")
    assert done.stderr.count("corral: no limits, for ") in (0, 1)
