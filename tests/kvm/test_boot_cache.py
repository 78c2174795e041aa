"""The second start of a guest goes on from the first, as its own: its streams, its random numbers, its time."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from corral.arch.x86_64.supervisor import Supervisor, supervisor_mode
from corral.guests import cache, cache_content
from corral.launch import boot_cache

pytestmark = pytest.mark.skipif(
    supervisor_mode().supervisor is not Supervisor.NATIVE, reason="this KVM does not run a guest's kernel natively"
)

LONG = 120
CORRAL = (sys.executable, "-m", "corral", "boot")
WENT_ON, BOOTED = "start: went on from", "start: booted"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A boot cache of the test's own; all else is taken from the cache that there is."""
    real, mine = Path(cache.folder()), tmp_path / "cache"
    (mine / "corral").mkdir(parents=True)
    for entry in real.iterdir():
        if entry.name != boot_cache.FOLDER:
            (mine / "corral" / entry.name).symlink_to(entry)
    monkeypatch.setenv("XDG_CACHE_HOME", str(mine))
    return mine / "corral" / boot_cache.FOLDER


def boot(*words: str, input: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*CORRAL, "--stats", *words], input=input, capture_output=True, timeout=LONG, check=False)


def kept(folder: Path) -> Path:
    """The only entry, once it is whole."""
    deadline = time.monotonic() + LONG
    while time.monotonic() < deadline:
        found = [path for path in (folder.iterdir() if folder.is_dir() else ()) if path.is_dir()]
        if found and not cache.is_unfinished(found[0].name):
            return found[0]
        time.sleep(0.01)
    raise AssertionError("nothing was kept")


def start(done: subprocess.CompletedProcess[bytes]) -> str:
    """What its statistics say of it."""
    lines = [line for line in done.stderr.decode().splitlines() if line.startswith("start: ")]
    return lines[0].partition(" /")[0] if lines else done.stderr.decode()


def test_the_second_start_goes_on_and_is_like_the_first(folder: Path) -> None:
    first = boot("--", "cat; echo seen >&2; exit 3", input=b"first")
    kept(folder)
    second = boot("--", "tr a-z A-Z; exit 4", input=b"second")
    assert (first.returncode, first.stdout, start(first)) == (3, b"first", BOOTED)
    assert (second.returncode, second.stdout, start(second)) == (4, b"SECOND", WENT_ON)
    assert b"seen" in first.stderr
    assert b"seen" not in second.stderr


def test_what_the_first_was_given_is_not_in_the_second(folder: Path) -> None:
    secret = os.urandom(16).hex()
    boot("--", f"cat >/tmp/input; echo {secret}", input=secret.encode())
    entry = kept(folder)
    assert secret.encode() not in (entry / "guest").read_bytes()


def test_a_script_and_a_long_command(folder: Path) -> None:
    boot("--", "true")
    kept(folder)
    assert boot(input=b"echo script\nexit 6\n").stdout == b"script\n"
    text = "x" * 50_000
    done = boot("--", f"echo {text}")
    assert (done.stdout.decode(), start(done)) == (f"{text}\n", WENT_ON)
    done = boot("--", "x" * 60_001)
    assert (done.returncode, b"60001 bytes, at most 60000" in done.stderr) == (2, True)


def test_no_two_have_the_same_random_numbers(folder: Path) -> None:
    boot("--", "true")
    kept(folder)
    seen = [boot("--", "head -c 16 /dev/urandom | od -An -tx1") for _ in range(50)]
    assert {start(done) for done in seen} == {WENT_ON}
    assert len({done.stdout for done in seen}) == len(seen)


@pytest.mark.long
def test_its_clock_is_the_hosts_and_its_kernel_has_not_stood_still(folder: Path) -> None:
    boot("--", "true")
    kept(folder)
    time.sleep(25)  # longer than the guest's kernel lets anything stall
    done = boot("--", "date +%s; sleep 0.1; dmesg | grep -c rcu.*stall")
    told, stalls = map(int, done.stdout.split())
    assert start(done) == WENT_ON
    assert abs(told - time.time()) < 5
    assert stalls == 0


def test_two_cpus(folder: Path) -> None:
    boot("--cpus", "2", "--", "true")
    kept(folder)
    done = boot("--cpus", "2", "--", "nproc; (exit 3) & wait $!; echo $?")
    assert (start(done), done.stdout) == (WENT_ON, b"2\n3\n")


@pytest.mark.parametrize("options", [("--fresh",), ("--early",), ("--memory", "256M"), ("--append", "quiet")])
def test_others_boot(options: tuple[str, ...], folder: Path) -> None:
    boot("--", "true")
    kept(folder)
    done = boot(*options, "--", "echo $((6*7))")
    assert (done.returncode, done.stdout, start(done)) == (0, b"42\n", BOOTED)


def _cut(path: Path) -> None:
    os.truncate(path, 100_000)


def _change(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(200)
        file.write(b"damage")


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _older(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(8)
        file.write(bytes(4))


def _other_inputs(path: Path) -> None:
    inputs = path.with_name(boot_cache.INPUTS)
    inputs.write_bytes(inputs.read_bytes().replace(b" ", b" 1", 1))


@pytest.mark.parametrize("damage", [_cut, _change, _empty, _older, Path.unlink, _other_inputs])
def test_a_damaged_entry_is_dropped_and_made_again(damage: Callable[[Path], None], folder: Path) -> None:
    boot("--", "true")
    damage(kept(folder) / "guest")
    done = boot("--", "echo $((6*7))")
    assert (start(done), done.returncode, done.stdout) == (BOOTED, 0, b"42\n")
    kept(folder)
    assert start(boot("--", "true")) == WENT_ON


def test_two_first_starts_at_once(folder: Path) -> None:
    both = [
        subprocess.Popen([*CORRAL, "--", f"echo {number}"], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
        for number in range(2)
    ]
    assert [one.communicate(timeout=LONG)[0] for one in both] == [b"0\n", b"1\n"]
    while any(entry.in_use for entry in cache_content.entries(boot_cache.FOLDER)):  # both are still written
        time.sleep(0.01)
    assert start(boot("--", "true")) == WENT_ON


def test_a_cache_that_cannot_be_written_is_no_reason_to_end(folder: Path) -> None:
    folder.write_bytes(b"")
    done = boot("--", "echo $((6*7))")
    assert (done.returncode, done.stdout) == (0, b"42\n")
    assert b"corral: the next start cannot go on from this one" in done.stderr


def test_the_least_used_go_first_and_the_cache_lists_the_rest(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boot_cache, "MOST", 3)
    for age, name in enumerate(["new", "older", "oldest"]):
        (folder / name).mkdir(parents=True)
        (folder / name / "guest").write_bytes(b"x" * 10_000)
        os.utime(folder / name, (time.time() - 100 * age,) * 2)
    (folder / "killed.unfinished-0").mkdir()
    boot_cache.make_room()
    assert {path.name for path in folder.iterdir() if path.is_dir()} == {"new", "older"}
    assert [entry.name for entry in cache_content.entries(boot_cache.FOLDER)] == ["new", "older"]
