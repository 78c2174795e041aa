"""What a container, a policy, a limit or a full disk denies ends in one line with its cause, and status 3."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kvm.test_cli_boot import CORRAL, LONG
from tests.support.tiny_guests import tiny_guest

DENIED = [sys.executable, str(Path(__file__).parent.parent / "support" / "denied.py")]
POLICY = "a policy of this container, service or host may forbid it"


def run(*command: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # type: ignore[call-overload,no-any-return]
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LONG, check=False, **options
    )


def assert_one_line(done: subprocess.CompletedProcess[str], status: int, *words: str) -> None:
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (status, "", 1), done.stderr
    assert done.stderr.startswith("corral: ")
    for word in words:
        assert word in done.stderr


@pytest.fixture
def disk(tmp_path: Path) -> str:
    (tmp_path / "disk.img").write_bytes(bytes(1 << 20))
    return str(tmp_path / "disk.img")


@pytest.mark.parametrize(
    ("error", "text"), [("EPERM", "Operation not permitted"), ("ENOSYS", "Function not implemented")]
)
@pytest.mark.parametrize("call", ["ioctl", "flock", "eventfd2", "poll", "fcntl"])
def test_a_call_that_a_policy_denies(call: str, error: str, text: str, disk: str) -> None:
    words = ["boot", str(tiny_guest("hello")), "--disk", disk, "--root", "none"]
    done = run(*DENIED, call, error, *words)
    if (call, error) == ("fcntl", "ENOSYS") and done.returncode == 0:
        pytest.skip("this Python needs none")
    assert done.returncode == 3, done.stdout + done.stderr
    assert done.stderr.startswith("corral: ")
    assert done.stderr.count("\n") == 1
    assert text in done.stderr
    assert POLICY in done.stderr


@pytest.mark.parametrize("error", ["EPERM", "ENOSYS"])
@pytest.mark.parametrize("call", ["madvise", "io_uring_setup"])
def test_a_call_that_a_guest_can_do_without(call: str, error: str, disk: str) -> None:
    done = run(*DENIED, call, error, "boot", str(tiny_guest("hello")), "--disk", disk, "--root", "none")
    assert (done.returncode, done.stderr) == (0, "")


def test_too_few_open_files_at_any_step(disk: str) -> None:
    seen = set()
    for limit in range(6, 34):
        words = [*CORRAL, str(tiny_guest("hello")), "--cpus", "2", "--disk", disk, "--root", "none"]
        done = run("sh", "-c", 'ulimit -n "$0"; exec "$@"', str(limit), *words)
        seen.add(done.returncode)
        if done.returncode:
            assert_one_line(done, 3, "Too many open files", "see ulimit -n")
    assert seen == {0, 3}


def test_too_little_address_space() -> None:
    done = run("sh", "-c", 'ulimit -v 90000; exec "$@"', "sh", *CORRAL, str(tiny_guest("hello")))
    assert_one_line(done, 3, "Cannot allocate memory", "--memory")


def unprivileged_mount(script: str, *command: str) -> subprocess.CompletedProcess[str]:
    """Runs it in a mount namespace of its own, where `script` mounts something."""
    done = run("unshare", "--mount", "sh", "-c", f'{script} || exit 99; exec "$@"', "sh", *command)
    if done.returncode == 99 or "unshare" in done.stderr:
        pytest.skip("no mount namespace to be had here")
    return done


KEEPS = [*CORRAL, "--hostname", "web-1"]  # a disk for cloud-init, which is kept in the cache


def test_a_home_that_cannot_be_written() -> None:
    script = "mount -t tmpfs -o ro none /mnt && export HOME=/mnt && unset XDG_CACHE_HOME"
    done = unprivileged_mount(script, *KEEPS)
    assert_one_line(done, 3, "/mnt/.cache/corral", "Read-only file system", "set XDG_CACHE_HOME")


def test_homes_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    env = {name: value for name, value in os.environ.items() if name not in ("HOME", "XDG_CACHE_HOME")}
    done = run(*KEEPS, env=env | {"HOME": str(tmp_path / "file")})
    assert_one_line(done, 3, f"{tmp_path}/file/.cache", "Not a directory", "set XDG_CACHE_HOME")
    done = run(*KEEPS, env=env | {"HOME": "here"}, cwd=tmp_path)
    assert_one_line(done, 3, "no path from /", "set XDG_CACHE_HOME")
    assert sorted(os.listdir(tmp_path)) == ["file"]


def test_a_user_whose_home_is_the_root_folder(tmp_path: Path) -> None:
    """As daemons and `docker run --user` have it."""
    if os.geteuid() != 0:
        pytest.skip("only root may become another user")
    # It need not be able to read Python and Corral where they are installed: all of it is loaded before.
    script = (
        "import os, sys, tempfile, shutil, fcntl, contextlib, json, hashlib; from encodings import ascii, utf_8;"
        "from corral.cli import boot, main; from corral.guests import cloud_init, default;"
        "from corral.files import iso9660; os.setgroups([]); os.setgid(65534); os.setuid(65534);"
        "sys.exit(main(sys.argv[1:]))"
    )
    env = {name: value for name, value in os.environ.items() if name != "XDG_CACHE_HOME"} | {"HOME": "/"}
    done = run(sys.executable, "-c", script, "boot", "--hostname", "web-1", env=env)
    assert_one_line(done, 3, "/.cache/corral", "Permission denied", "set XDG_CACHE_HOME")


def test_a_cache_that_is_full(tmp_path: Path) -> None:
    """Its disk has no room: that is told, and nothing half made is left."""
    script = "mount -t tmpfs -o size=16k none /mnt && export XDG_CACHE_HOME=/mnt"
    (tmp_path / "user-data").write_text("#cloud-config\n" + "#" * 100_000)
    words = [str(tiny_guest("hello")), "--cloud-init", str(tmp_path / "user-data")]
    done = unprivileged_mount(f"{script} && trap 'ls -A /mnt/corral/*' EXIT", *CORRAL, *words)
    assert_one_line(done, 3, "no room in /mnt/corral", "No space left on device", "XDG_CACHE_HOME")


def test_no_place_for_a_snapshot(disk: str) -> None:
    words = [*CORRAL, str(tiny_guest("hello")), "--disk", f"{disk},snapshot=on", "--root", "none"]
    done = run(*words, env=os.environ | {"TMPDIR": "/nowhere"})
    assert_one_line(done, 3, "/nowhere: No such file", "set TMPDIR")
    if __file__.startswith("/var/"):
        pytest.skip("this checkout is below /var, which is to be hidden")
    done = unprivileged_mount("mount -t tmpfs -o ro none /var && unset TMPDIR", *words)
    assert_one_line(done, 3, "/var/tmp: No such file", "set TMPDIR")
    done = unprivileged_mount("mount -t tmpfs -o ro none /var/tmp && unset TMPDIR", *words)
    assert_one_line(done, 3, "/var/tmp: Read-only file system", "set TMPDIR")


def test_no_kvm_is_told_before_anything_is_fetched(tmp_path: Path) -> None:
    for words in (["debian"], ["host", "--kernel", "host"], []):
        script = f"mount -t tmpfs none /dev && export XDG_CACHE_HOME={tmp_path}/cache"
        done = unprivileged_mount(script, *CORRAL, *words)
        assert_one_line(done, 3, "cannot open /dev/kvm: No such file or directory")
        assert not (tmp_path / "cache" / "corral").exists()


def test_a_bug_is_no_fault_of_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    from corral import cli

    def broken(words: list[str]) -> int:
        os.close(-1)
        return 0

    monkeypatch.setattr(cli, "_dispatch", broken)
    with pytest.raises(OSError, match="Bad file descriptor"):
        cli.main(["boot"])
