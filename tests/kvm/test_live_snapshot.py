"""A guest that goes on while it is saved, and snapshots on a parent."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import corral
from corral.boot.payload import parse_flat
from corral.config import MachineConfig
from corral.errors import BootError, ConfigError
from corral.memory import PAGE
from corral.snapshot import ram
from corral.snapshot.resumed import Resumed
from tests.durability.effort import EFFORT
from tests.support.tiny_guests import flat, tiny_guest

LONG = 120.0
PAGES, AT, CODE = 512, 0x400000, 0x200000
# A program at CPL 3 that writes a number to the first word of each page, then the next number.
WRITES = f"xor %eax, %eax; 6: inc %rax; mov ${AT}, %edi; 7: mov %rax, (%rdi); add ${PAGE}, %rdi; "
WRITES += f"cmp ${AT + PAGES * PAGE}, %edi; jb 7b; jmp 6b"


@pytest.fixture
def writer() -> Iterator[corral.Machine]:
    kernel = flat("user_interrupt", CODE, 64, INSTRUCTIONS=WRITES, CODE_3=0x1B, GATES=0xEE)
    config = MachineConfig(str(kernel), memory=16 << 20, flat=parse_flat(f"long@{CODE:#x}"), debug_exit=0xF4)
    with corral.Machine(config) as vm:
        vm.run_until(condition=lambda vm: vm.phys[AT].u64 > 1, timeout=LONG)
        yield vm


def check(path: Path) -> int:
    """That its RAM is of the moment of its registers; returns the number that the program wrote."""
    with corral.restore(path) as vm:
        number, page = vm.regs.rax, (vm.regs.rdi - AT) // PAGE
        words = [vm.phys[AT + at * PAGE].u64 for at in range(PAGES)]
        done = words.count(number)
        assert words == [number] * done + [number - 1] * (PAGES - done)
        assert done in (page, page + 1) or (page == PAGES and done == 0)
    return number


def rounds(vm: corral.Machine, folder: Path, count: int, seed: int) -> None:
    chance, last = random.Random(seed), 0
    for number in range(count):
        path, parent = folder / str(number % 2), folder / "parent"
        vm.resume()
        time.sleep(chance.random() * 0.003)
        if number % 10 == 0:
            vm.snapshot(str(parent))
        vm.snapshot(str(path), parent=str(parent) if chance.random() < 0.5 else None)
        assert vm.running
        seen = check(path)
        assert seen >= last
        last = seen


def test_what_a_guest_does_later_is_not_in_the_file(writer: corral.Machine, tmp_path: Path) -> None:
    rounds(writer, tmp_path, 40, 1)


@pytest.mark.long
def test_what_a_guest_does_later_is_in_none_of_a_thousand(writer: corral.Machine, tmp_path: Path) -> None:
    """CORRAL_DURABILITY=10: of ten thousand."""
    rounds(writer, tmp_path, 1000 * EFFORT, 2)


def test_it_runs_while_it_is_written(writer: corral.Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wait, advanced = ram.Beside.wait, []

    def look(other: ram.Beside) -> int:
        before = writer.memory.read(AT, 8)
        deadline = time.monotonic() + LONG
        while writer.memory.read(AT, 8) == before and time.monotonic() < deadline:
            time.sleep(0.001)
        advanced.append(writer.memory.read(AT, 8) != before)
        return wait(other)

    monkeypatch.setattr(ram.Beside, "wait", look)
    writer.snapshot(str(tmp_path / "still"))
    assert not advanced  # it was paused, and is
    assert not writer.running
    writer.resume()
    writer.snapshot(str(tmp_path / "live"))
    assert advanced == [True]
    check(tmp_path / "still")
    check(tmp_path / "live")


def held(path: Path) -> int:
    return path.stat().st_blocks * 512


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the snapshots a, b on a, and c on b, of Linux that keeps a file."""
    folder = tmp_path_factory.mktemp("family")
    with corral.linux() as vm:
        vm.console.expect("# ", timeout=LONG)
        for name, parent in (("a", None), ("b", "a"), ("c", "b")):
            vm.console.send(f"echo {name} >>/tmp/file; echo wrote $((1+1))\n")
            vm.console.expect("wrote 2", timeout=LONG)
            vm.console.expect("# ", timeout=LONG)
            vm.snapshot(str(folder / name), parent=str(folder / parent) if parent else None)
    return folder


def test_generations_go_on(family: Path, tmp_path: Path) -> None:
    for name, text in (("a", "a"), ("b", "a\r\nb"), ("c", "a\r\nb\r\nc")):
        with corral.restore(family / name) as vm:
            vm.console.send("cat /tmp/file; echo end\n")
            vm.console.expect(f"{text}\r\nend", timeout=LONG)
            vm.snapshot(str(tmp_path / name), parent=str(family / "a"))
            for other in vm.fork(2):
                other.close()
        with corral.restore(tmp_path / name) as vm:
            vm.console.send("cat /tmp/file; echo end\n")
            vm.console.expect(f"{text}\r\nend", timeout=LONG)
    assert held(family / "b") < held(family / "a") / 3
    done = subprocess.run(
        [sys.executable, "-m", "corral", "snapshot", "info", str(family / "c")],
        capture_output=True,
        text=True,
        timeout=LONG,
        check=True,
    )
    assert f"parent      {family / 'b'}, which has to stay as it is\n" in done.stdout


def test_a_parent_that_is_not_what_it_was(family: Path, tmp_path: Path) -> None:
    for name in "abc":
        shutil.copy2(family / name, tmp_path / name)
    with corral.linux() as vm:
        vm.console.expect("# ", timeout=LONG)
        vm.snapshot(str(tmp_path / "a"))
        vm.snapshot(str(tmp_path / "b"), parent=str(tmp_path / "a"))
        vm.snapshot(str(tmp_path / "c"), parent=str(tmp_path / "b"))
        for path, parent, text in (
            ("a", "c", "is needed by the snapshot that would replace it"),
            ("c", "c", "is needed by the snapshot that would replace it"),
            ("d", "none", "No such file"),
            ("d", __file__, "is no snapshot"),
        ):
            with pytest.raises((BootError, ConfigError), match=text):
                vm.snapshot(str(tmp_path / path), parent=str(tmp_path / parent))
    with corral.Machine(MachineConfig(str(tiny_guest("echo")), memory=16 << 20)) as vm:
        vm.console.expect(">", timeout=LONG)
        with pytest.raises(BootError, match="has not the same memory, 16 MiB"):
            vm.snapshot(str(tmp_path / "d"), parent=str(tmp_path / "a"))

    def refused(text: str) -> None:
        for name in "bc":
            with pytest.raises(BootError, match=text) as error:
                Resumed(str(tmp_path / name))
            assert "\n" not in str(error.value)

    status = (tmp_path / "a").stat()
    with (tmp_path / "a").open("r+b") as file:  # a page of its RAM
        file.seek(-PAGE, os.SEEK_END)
        file.write(b"x")
    refused("is not what it was")
    os.utime(tmp_path / "a", ns=(status.st_atime_ns, status.st_mtime_ns))
    Resumed(str(tmp_path / "c")).close()  # on purpose: docs/snapshot.md has it
    os.truncate(tmp_path / "a", status.st_size - PAGE)
    refused("cut off|is not what it was")
    os.unlink(tmp_path / "a")
    refused("No such file or directory; put it back")
    os.mkfifo(tmp_path / "a")
    refused("is no file any more")


SAVES = """if True:
    import resource, signal, sys, corral
    from corral.errors import HostError
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    path, most = sys.argv[1], int(sys.argv[2])
    with corral.Machine(corral.MachineConfig(sys.argv[3], memory=64 << 20)) as vm:
        vm.console.expect(">", timeout=60)
        vm.memory.write(1 << 24, b"x" * (32 << 20))
        if most:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        print("ready", flush=True)
        for number in range(1_000_000):
            vm.resume() if number % 2 else vm.pause()
            try:
                vm.snapshot(path)
            except HostError as error:
                sys.exit(f"corral: {error}")
"""


def saving(path: Path, most: int = 0) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SAVES, str(path), str(most), str(tiny_guest("echo"))]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    return process


def test_a_full_disk_leaves_what_was_there(family: Path, tmp_path: Path) -> None:
    """A file that may not grow meets the same end."""
    path = tmp_path / "mine"
    shutil.copy(family / "a", path)
    with saving(path, most=16 << 20) as process:
        _, errors = process.communicate(timeout=LONG)
    assert (process.returncode, errors.count("\n")) == (1, 1)
    assert "File too large" in errors
    assert path.stat().st_size == (family / "a").stat().st_size
    assert list(tmp_path.iterdir()) == [path]


def killed(tmp_path: Path, times: int, seed: int) -> None:
    chance, path = random.Random(seed), tmp_path / "mine"
    for _ in range(times):
        with saving(path) as process:
            time.sleep(chance.random() * 0.5)
            process.send_signal(signal.SIGKILL)
            process.communicate(timeout=LONG)
        if path.exists():
            with corral.restore(path) as vm:
                assert vm.phys.read(1 << 24, 32 << 20) == b"x" * (32 << 20)
                vm.console.send("child")
                vm.console.expect("child", timeout=LONG)
        for left in tmp_path.iterdir():
            assert left == path or left.name.startswith("mine.unfinished-")


def test_a_killed_save_leaves_what_was_there(tmp_path: Path) -> None:
    killed(tmp_path, 3, 1)


@pytest.mark.long
def test_many_killed_saves(tmp_path: Path) -> None:
    killed(tmp_path, 20 * EFFORT, 2)


def test_the_command(family: Path, tmp_path: Path) -> None:
    def run(*words: str, **options: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "corral", *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=LONG, check=False, **options)

    parent, child = str(family / "c"), str(tmp_path / "child")
    done = run("snapshot", "--after", "# ", "--parent", parent, child)
    assert (done.returncode, done.stderr) == (0, "")
    assert held(tmp_path / "child") < held(family / "a") / 3
    done = run("boot", "--restore", child, input="echo $((6*7)); exit 3\n")
    assert (done.returncode, "42" in done.stdout) == (3, True), done.stderr
    for words, text in (
        (("--parent", parent, str(family / "a")), "is needed by the snapshot that would replace it"),
        (("--parent", __file__, child), "is no snapshot"),
        (("--parent", parent, child, "--", "boot", "--memory", "256M"), "has not the same memory, 256 MiB"),
    ):
        done = run("snapshot", "--after", "# ", *words)
        assert (done.returncode, done.stderr.count("\n"), text in done.stderr) == (2, 1, True), done.stderr


def test_a_failure_in_the_jail_is_a_line(tmp_path: Path) -> None:
    command = f"ulimit -f 2048; trap '' XFSZ; exec {sys.executable} -m corral snapshot {tmp_path}/x"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=LONG, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (3, 1), done.stderr
    assert "cannot write the snapshot" in done.stderr
    assert not list(tmp_path.iterdir())


BOOTS, BOOTS_LONG = 4, 20 * EFFORT


def saved_at_random(folder: Path, count: int, seed: int) -> None:
    """Linux on its way up, which goes on to its prompt from each moment."""
    chance, last = random.Random(seed), 0.2
    for number in range(count):
        path = folder / "saved"
        with corral.linux() as vm:
            vm.resume()
            time.sleep(chance.random() * last)
            vm.snapshot(str(path))
            began = time.monotonic()
            vm.console.expect("# ", timeout=LONG)
            last = (last + time.monotonic() - began) / 2
        with corral.restore(path) as vm:
            vm.console.send("echo $((6*7))\n")
            vm.console.expect("\n42", timeout=LONG)
            assert vm.console.output.count(b"Kernel panic") == 0, number


def test_moments_of_a_boot(tmp_path: Path) -> None:
    saved_at_random(tmp_path, BOOTS, 1)


@pytest.mark.long
def test_many_moments_of_a_boot(tmp_path: Path) -> None:
    saved_at_random(tmp_path, BOOTS_LONG, 2)


# Numbered blocks, each flushed before it is told of. A number that was told has to be there, and no block is torn.
FLUSHES = """i=0
while [ $i -lt {count} ]; do
  i=$((i+1)); printf '%07d' $i >/tmp/n; s=; for k in 1 2 3 4 5 6 7 8; do s="$s$(cat /tmp/n)"; done
  printf '%-512s' "$s" | dd of=/dev/vda bs=512 seek=$i conv=fsync 2>/dev/null; echo told $i
done
ok=0; j=0
while [ $j -lt {count} ]; do
  j=$((j+1)); n=$(printf '%07d' $j)
  [ "$(dd if=/dev/vda bs=512 skip=$j count=1 2>/dev/null | head -c 56)" = "$n$n$n$n$n$n$n$n" ] && ok=$((ok+1))
done
echo right $ok
"""


def flushed(folder: Path, moments: int, count: int, seed: int) -> None:
    chance, image = random.Random(seed), folder / "image"
    image.write_bytes(bytes(1 << 20))
    disk = f"{image},snapshot=on,format=raw"
    parent = None
    with corral.linux(FLUSHES.format(count=count), pipes=True, disks=disk, root="none") as vm:
        for number in range(moments):
            least = b"told %d\n" % (1 + chance.randrange(count * number // moments, count * (number + 1) // moments))
            vm.run_until(condition=lambda vm, least=least: least in vm.streams.output, timeout=LONG)
            vm.resume()
            time.sleep(chance.random() * 0.01)
            vm.snapshot(str(folder / str(number)), parent=parent)
            parent = str(folder / "0")
        vm.wait(LONG)
        assert vm.streams.output.endswith(b"right %d\n" % count)
    for number in range(moments):
        with corral.restore(folder / str(number)) as vm:
            vm.wait(LONG)
            assert vm.streams.output.endswith(b"right %d\n" % count)
    assert image.read_bytes() == bytes(1 << 20)


@pytest.mark.long
def test_moments_of_flushed_writes(tmp_path: Path) -> None:
    flushed(tmp_path, 3, 30, 1)


@pytest.mark.long
def test_many_moments_of_flushed_writes(tmp_path: Path) -> None:
    for seed in range(2 * EFFORT):
        flushed(tmp_path, 10, 50, seed)
