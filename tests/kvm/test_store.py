"""Snapshots that travel: pushed to a store and pulled from it, whole or not at all."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

import corral
from corral import store
from corral.errors import BootError, ConfigError, HostError
from corral.kvm import system
from corral.snapshot import host
from corral.snapshot.resumed import Resumed
from corral.startup.record import replace
from corral.store import fetching, node_cache
from tests.support import named_guest
from tests.support.file_systems import ext4
from tests.support.stored import family, goes_on

LONG = 120.0
TEXT = random.Random(5).randbytes(700_001)  # over chunks and pages


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return family(tmp_path_factory.mktemp("stored"), TEXT)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test's own; its tiny guests are made by now."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def run(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "corral", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=LONG, check=False, **options)


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_a_file_comes_back_as_it_was(saved: tuple[Path, Path], tmp_path: Path) -> None:
    pushed = store.push(saved[0], str(tmp_path / "store/one"))
    assert pushed.sent <= pushed.chunks
    assert store.pull(str(tmp_path / "store/one"), tmp_path / "back", pushed.digest) > 0
    assert (tmp_path / "back").read_bytes() == saved[0].read_bytes()
    assert (tmp_path / "back").stat().st_blocks <= saved[0].stat().st_blocks + 64  # holes stay holes
    assert goes_on(str(tmp_path / "back")) == TEXT[:1]


def test_what_it_shares_with_others_is_there_once(saved: tuple[Path, Path], tmp_path: Path) -> None:
    first = store.push(saved[0], str(tmp_path / "store/one"))
    again = store.push(saved[0], str(tmp_path / "store/two"))
    assert (again.sent, again.bytes, again.chunks) == (0, 0, first.chunks)
    assert len(files(tmp_path / "store/chunks")) == first.sent
    child = store.push(saved[1], str(tmp_path / "store/child"))
    assert 0 < child.sent <= 4


def test_a_child_is_whole_without_its_parent(saved: tuple[Path, Path], tmp_path: Path) -> None:
    store.push(saved[1], str(tmp_path / "store/child"))
    store.pull(str(tmp_path / "store/child"), tmp_path / "alone")
    with Resumed(str(tmp_path / "alone")) as found:
        assert found.content.parent is None
    assert goes_on(str(tmp_path / "alone")) == bytes([TEXT[0] ^ 1])
    with corral.restore(tmp_path / "alone") as alone, corral.restore(saved[1]) as child:
        assert alone.phys.read(0, 16 << 20) == child.phys.read(0, 16 << 20)


def test_layers_of_disks_travel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # the small kernel is in the user's cache
    image = tmp_path / "data.img"
    image.write_bytes(ext4(8 << 20, tmp_path))
    write = "mkdir -p /m; mount /dev/vda /m; echo kept >/m/file; sync; umount /m; echo 3 >/proc/sys/vm/drop_caches"
    with corral.linux(disks=f"{image},snapshot=on", root="none") as vm:
        vm.console.expect("# ", timeout=LONG)
        vm.console.send(f"{write}; echo wrote $((1+1))\n")
        vm.console.expect("wrote 2", timeout=LONG)
        vm.snapshot(str(tmp_path / "disks"))
    store.push(tmp_path / "disks", str(tmp_path / "store/disks"))
    store.pull(str(tmp_path / "store/disks"), tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == (tmp_path / "disks").read_bytes()
    with corral.restore(tmp_path / "back") as vm:
        vm.console.send("mount /dev/vda /m; cat /m/file\n")
        vm.console.expect("kept\r\n", timeout=LONG)


@pytest.mark.parametrize("kind", ["cut", "changed", "gone", "empty", "other"])
def test_a_damaged_chunk_is_one_line_and_no_file(kind: str, saved: tuple[Path, Path], tmp_path: Path) -> None:
    url = str(tmp_path / "store/one")
    store.push(saved[0], url)
    every = files(tmp_path / "store/chunks")
    one = random.Random(kind).choice(every)
    held = one.read_bytes()
    if kind == "gone":
        one.unlink()
    else:
        other = next(path for path in every if path != one).read_bytes()
        bad = {"cut": held[:-3], "changed": held[:-1] + bytes([held[-1] ^ 4]), "empty": b"", "other": other}
        one.write_bytes(bad[kind])
    done = run("snapshot", "pull", url, str(tmp_path / "back"))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"chunks/{one.name[:2]}/{one.name}" in done.stderr
    assert not list(tmp_path.glob("back*"))
    store.push(saved[0], url, whole=True)
    store.pull(url, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == saved[0].read_bytes()


def test_a_changed_manifest_is_refused(saved: tuple[Path, Path], tmp_path: Path) -> None:
    url = str(tmp_path / "store/one")
    pushed = store.push(saved[0], url)
    with pytest.raises(BootError, match="its digest is"):
        store.pull(url, tmp_path / "back", "0" * 64)
    path = tmp_path / "store/snapshots/one"
    path.write_bytes(path.read_bytes().replace(b'"cpus":1', b'"cpus":2'))
    with pytest.raises(BootError, match="was changed or cut off"):
        store.pull(url, tmp_path / "back", pushed.digest)
    with pytest.raises(BootError, match="was changed or cut off"):
        store.prune(str(tmp_path / "store"))
    assert files(tmp_path / "store/chunks")
    assert not list(tmp_path.glob("back*"))


def test_another_cpu_is_refused_with_what_it_lacks(
    saved: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = str(tmp_path / "store/one")
    store.push(saved[0], url)
    supported = system.System.supported_cpuid

    def less(self: system.System) -> list[Any]:
        return [(*one[:6], one[6] & ~1) if one[0] == 1 else one for one in supported(self)]

    monkeypatch.setattr(system.System, "supported_cpuid", less)
    with pytest.raises(BootError, match=r"this host .* lacks fpu"):
        store.pull(url, tmp_path / "back")
    assert not list(tmp_path.glob("back*"))
    store.pull(url, tmp_path / "back", any_host=True)


def test_another_kind_of_kvm_is_refused_before_memory_is_fetched(
    saved: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"memory://{uuid.uuid4().hex}/store/one"
    store.push(saved[0], url)
    with system.System() as here:
        known = host.host_of(here)
    monkeypatch.setattr(host, "_known", replace(known, kind="other"))
    with pytest.raises(BootError, match="this host has other"):
        store.pull(url, tmp_path / "back")
    assert not list(tmp_path.glob("back*"))


def test_a_node_fetches_what_it_lacks(
    saved: tuple[Path, Path], tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = f"memory://{uuid.uuid4().hex}/store"
    store.push(saved[0], f"{where}/one")
    child = store.push(saved[1], f"{where}/child")
    assert store.pull(f"{where}/one", tmp_path / "a") > child.sent
    assert store.pull(f"{where}/one", tmp_path / "b") == 0
    assert store.pull(f"{where}/child", tmp_path / "c") == child.sent
    kept = files(cache / "corral/chunks")
    kept[0].write_bytes(kept[0].read_bytes()[:-1])  # a damaged one in the cache is fetched anew
    assert store.pull(f"{where}/child", tmp_path / "d") + store.pull(f"{where}/one", tmp_path / "e") == 1
    assert (tmp_path / "e").read_bytes() == saved[0].read_bytes()
    monkeypatch.setenv(node_cache.VARIABLE, "0")
    kept[0].unlink()
    assert store.pull(f"{where}/one", tmp_path / "f") + store.pull(f"{where}/child", tmp_path / "g") >= 1
    assert not files(cache / "corral/chunks")


def test_a_guest_goes_on_from_a_url(saved: tuple[Path, Path], tmp_path: Path, cache: Path) -> None:
    where = f"memory://{uuid.uuid4().hex}/store"
    store.push(saved[0], f"{where}/one")
    assert goes_on(f"{where}/one") == TEXT[:1]
    (first,) = (cache / "corral/snapshots").glob("*/guest")
    written = first.stat().st_mtime_ns
    assert goes_on(f"{where}/one") == TEXT[:1]
    assert first.stat().st_mtime_ns == written
    store.push(saved[1], f"{where}/one")  # in its place
    assert goes_on(f"{where}/one") == bytes([TEXT[0] ^ 1])


def test_what_no_snapshot_has_is_pruned(saved: tuple[Path, Path], tmp_path: Path) -> None:
    root = str(tmp_path / "store")
    store.push(saved[0], f"{root}/one")
    child = store.push(saved[1], f"{root}/child")
    assert store.prune(root) == 0
    store.remove(f"{root}/child")
    assert store.prune(root) == child.sent
    store.pull(f"{root}/one", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == saved[0].read_bytes()
    with pytest.raises(BootError, match="there is no snapshot"):
        store.remove(f"{root}/child")
    with pytest.raises(ConfigError, match="there is no store"):
        store.prune(str(tmp_path / "nowhere"))
    assert not (tmp_path / "nowhere").exists()


def test_pushes_at_once_harm_none(saved: tuple[Path, Path], tmp_path: Path) -> None:
    failed = []

    def push(number: int) -> None:
        try:
            store.push(saved[number % 2], str(tmp_path / f"store/{number % 4}"))
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=push, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    for number in range(4):
        store.pull(str(tmp_path / f"store/{number}"), tmp_path / "back")
        assert goes_on(str(tmp_path / "back")) == bytes([TEXT[0] ^ number % 2])


def test_a_killed_push_leaves_nothing_to_be_seen(saved: tuple[Path, Path], tmp_path: Path) -> None:
    """At any moment: what is listed can be pulled, and the next push is whole."""
    root, chance = tmp_path / "store", random.Random(3)
    script = "import sys; from corral import store; print(flush=True); store.push(*sys.argv[1:])"
    for number in range(8):
        words = [sys.executable, "-c", script, str(saved[0]), f"{root}/{number}"]
        with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
            assert process.stdout
            process.stdout.readline()
            time.sleep(chance.random() * 0.2)
            process.kill()
    for one in store.snapshots(str(root)):
        store.pull(f"{root}/{one.name}", tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == saved[0].read_bytes()
    store.push(saved[0], f"{root}/last")
    store.prune(str(root), force=True)
    assert not [path for path in files(root) if "unfinished" in path.name]
    store.pull(f"{root}/last", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == saved[0].read_bytes()


def test_a_full_disk_is_told_before(saved: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = str(tmp_path / "store/one")
    store.push(saved[0], url)
    monkeypatch.setattr(fetching, "_SPARE", 1 << 60)
    with pytest.raises(HostError, match="free some"):
        store.pull(url, tmp_path / "back")
    assert not list(tmp_path.glob("back*"))


def test_commands(saved: tuple[Path, Path], tmp_path: Path) -> None:
    url = f"file://{tmp_path}/store/one"
    done = run("snapshot", "push", str(saved[0]), url)
    assert (done.returncode, done.stderr) == (0, "")
    digest = done.stdout.splitlines()[1]
    listed = run("snapshot", "list", f"{tmp_path}/store").stdout.splitlines()
    assert listed[0].split()[0] == "NAME"
    assert (listed[1].split()[0], listed[1].split()[-1]) == ("one", digest)
    (one,) = json.loads(run("snapshot", "list", f"{tmp_path}/store", "--json").stdout)
    assert (one["name"], one["digest"], one["memory"], one["cpus"]) == ("one", digest, 16 << 20, 1)
    done = run("snapshot", "pull", url, "back", "--digest", digest, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert goes_on(str(tmp_path / "back")) == TEXT[:1]
    assert run("snapshot", "rm", url).returncode == 0
    assert run("snapshot", "prune", f"{tmp_path}/store").stdout.startswith("removed ")
    assert not files(tmp_path / "store")


def test_a_guest_with_a_name_is_suspended_and_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `corral snapshot NAME URL` and `corral boot --restore URL` do it, and clones of it."""
    monkeypatch.undo()  # the small kernel is in the user's cache
    named_guest.skip_without_kernel()
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    url = f"file://{tmp_path}/store/web"
    guests = named_guest.Guests(tmp_path)
    try:
        guests.boot("web", "--memory", "256M")
        assert guests.exec("web", "sh", "-c", "echo kept >/tmp/file").returncode == 0
        for _ in range(2):
            done = guests.run("snapshot", "web", url)
            assert done.returncode == 0, done.stderr.decode()
            assert b"chunks sent" in done.stdout
        assert guests.run("kill", "web").returncode == 0
        guests.boot("web-2", "--restore", url)
        assert guests.exec("web-2", "cat", "/tmp/file").stdout == b"kept\n"
        assert guests.exec("web-2", "hostname").stdout == b"web-2\n"
        done = guests.run("snapshot", "web-2", str(tmp_path / "nothing://x"))
        assert done.returncode == 3
        done = guests.run("snapshot", "web-2", "zz://x/y")
        assert (done.returncode, done.stderr.count(b"\n")) == (2, 1)
        assert guests.exec("web-2", "hostname").stdout == b"web-2\n"  # it goes on
    finally:
        guests.close()
    assert not list(tmp_path.glob("corral-push-*"))


def test_clones_of_a_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    named_guest.skip_without_kernel()
    done = run("snapshot", str(tmp_path / "ready"))
    assert done.returncode == 0, done.stderr
    store.push(tmp_path / "ready", str(tmp_path / "store/ready"))
    done = run("clone", f"file://{tmp_path}/store/ready", "-n", "2", "--", "hostname")
    assert sorted(done.stdout.splitlines()) == ["1: corral-1", "2: corral-2"], done.stderr


@pytest.mark.parametrize(
    ("words", "status", "text"),
    [
        (("push", "x"), 2, "wants FILE URL"),
        (("push", "no-file", "/tmp/store/x"), 2, "No such file"),
        (("pull", "store", "x"), 2, "names no snapshot"),
        (("pull", "/nowhere/x", "file"), 2, "there is no snapshot"),
        (("list", "/nowhere"), 2, "there is no store"),
        (("list", "/nowhere", "--force"), 2, "takes no --force"),
        (("prune", "zz://x/y"), 2, "nothing that fsspec knows"),
        (("--any-host", "x"), 2, "is about a store"),
        (("s3://x/y",), 2, "push that"),
        (("push", "x", "y", "z"), 2, "does not know what to do"),
    ],
)
def test_what_is_wrong_is_one_line(words: tuple[str, ...], status: int, text: str, tmp_path: Path) -> None:
    done = run("snapshot", *words, cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (status, 1), done.stderr
    assert text in done.stderr


def test_a_guest_that_cannot_be_fetched_does_not_boot(tmp_path: Path) -> None:
    done = run("boot", "--restore", f"{tmp_path}/store/x".replace("/", "file:///", 1))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "there is no snapshot" in done.stderr
    done = run("boot", "--restore", "memory://x/store/y")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "there is no snapshot" in done.stderr
