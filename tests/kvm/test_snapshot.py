"""Guests saved to a file, and what goes on from it: on this host's KVM, natively, interpreted or by hardware."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import corral
from corral.backends.channel import Channel
from corral.boot.payload import parse_flat
from corral.config import MachineConfig, RngConfig, ShareConfig
from corral.errors import BootError, ConfigError, CorralError
from corral.machine import Machine
from corral.native import ffi
from corral.snapshot import file
from corral.snapshot.resumed import Resumed
from corral.startup.digest import sha256
from corral.startup.record import replace
from tests.support.tiny_guests import flat, tiny_guest

LONG = 120.0
# A program that takes long and knows its result: the sum of 0 to n - 1.
COUNTS = 3_000_000
SUM = f"""awk 'BEGIN{{for(i=0;i<{COUNTS};i++)j+=i;print "sum",j}}'"""
RESULT = f"sum {COUNTS * (COUNTS - 1) // 2}"


def ask(vm: Any, line: str, answer: str) -> None:
    vm.console.send(f"{line}\n")
    vm.console.expect(answer, timeout=LONG)


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Linux at its prompt, with a file in its memory."""
    path = tmp_path_factory.mktemp("snapshot") / "shell"
    with corral.linux() as vm:
        vm.console.expect("# ", timeout=LONG)
        ask(vm, "echo kept >/tmp/file; echo wrote $((1+1))", "wrote 2\r\n")
        vm.console.expect("# ", timeout=LONG)
        vm.snapshot(str(path))
    return path


@pytest.mark.parametrize("cpus", [1, 2, 4])
def test_a_guest_goes_on_where_it_was(cpus: int, tmp_path: Path) -> None:
    path = str(tmp_path / "saved")
    with corral.linux(cpus=cpus) as vm:
        vm.console.expect("# ", timeout=LONG)
        ask(vm, "echo kept >/tmp/file; echo wrote $((1+1))", "wrote 2\r\n")
        vm.snapshot(path)
        ask(vm, "echo goes on $((6*7))", "goes on 42")  # the one that was saved
    with corral.restore(path) as vm:
        ask(vm, "cat /tmp/file; nproc", f"kept\r\n{cpus}\r\n")


def test_an_interrupt_on_its_way_waits_for_its_guest(shell: Path) -> None:
    """KVM tells of one that it was about to deliver among the registers. It is the guest's, and not of the instructions
    that come before that."""
    timer = 0xEC  # Linux's vector
    found = Resumed(str(shell))  # the machine's, later
    (vcpu,) = found.content.state.vcpus
    sregs = ffi.new("struct kvm_sregs *")
    ffi.buffer(sregs)[:] = vcpu.sregs
    sregs.interrupt_bitmap[timer // 64] |= 1 << timer % 64
    vcpus = (replace(vcpu, sregs=bytes(ffi.buffer(sregs))),)
    found.content = replace(found.content, state=replace(found.content.state, vcpus=vcpus))
    with Machine(found.config(), channel=Channel(), saved=found) as machine:
        machine.start()
        machine.pause()
        assert not machine.threads[0].end


@pytest.mark.parametrize("cpus", [1, 2])
@pytest.mark.long
def test_whatever_it_does_at_that_moment(cpus: int, tmp_path: Path) -> None:
    """In programs, in system calls, in interrupts: their results are right in each that goes on."""
    chance = random.Random(cpus)
    with corral.linux(cpus=cpus) as vm:
        vm.console.expect("# ", timeout=LONG)
        vm.console.send(f"{SUM} & while :; do ls -lR /proc/self/ >/dev/null 2>&1; done & wait %1; echo over $((6*7))\n")
        vm.console.expect("over ", timeout=LONG)
        for number in range(6):
            vm.resume()
            time.sleep(chance.random() * 0.05)
            vm.snapshot(str(tmp_path / str(number)))
    for number in range(6):
        with corral.restore(tmp_path / str(number)) as vm:
            vm.console.expect("over 42", timeout=LONG)
            assert RESULT.encode() in vm.console.output


def test_guests_of_one_file_share_nothing_that_they_write(shell: Path) -> None:
    before = hashlib.sha256(shell.read_bytes()).digest()
    with corral.restore(shell) as first, corral.restore(shell) as second:
        ask(first, "echo first >/tmp/file; echo wrote $((1+2))", "wrote 3")
        ask(second, "cat /tmp/file", "kept\r\n")
        ask(first, "cat /tmp/file", "first\r\n")
    assert hashlib.sha256(shell.read_bytes()).digest() == before


def test_one_that_goes_on_can_be_saved_too(shell: Path, tmp_path: Path) -> None:
    with corral.restore(shell) as vm:
        ask(vm, "echo child >/tmp/child; echo wrote $((1+2))", "wrote 3")
        vm.snapshot(str(tmp_path / "child"))
    with corral.restore(tmp_path / "child") as vm:
        ask(vm, "cat /tmp/file /tmp/child", "kept\r\nchild\r\n")


def test_streams_of_a_command_go_on_byte_for_byte(tmp_path: Path) -> None:
    """Also those that were in the middle of a buffer, which their reader took half of."""
    script = "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done; cat >&2; exit 5"
    lines = b"".join(b"line %d\n" % number for number in range(20000))
    between = []  # bytes that had come just before a snapshot, and just after it: its device goes on then
    with corral.linux(script, pipes=True) as vm:
        for number in range(4):
            vm.run_until(condition=lambda vm, least=40_000 * number: len(vm.streams.output) > least, timeout=LONG)
            before = len(vm.streams.output)
            vm.snapshot(str(tmp_path / str(number)))
            between.append((before, len(vm.streams.output)))
        vm.streams.send("parent")
        vm.streams.end()
        assert (vm.wait(LONG).status, vm.streams.output, vm.streams.errors) == (5, lines, b"parent")
    for number, (before, after) in enumerate(between):
        with corral.restore(tmp_path / str(number)) as vm:
            vm.streams.send("child")
            vm.streams.end()
            assert (vm.wait(LONG).status, vm.streams.errors) == (5, b"child")
            assert lines.endswith(vm.streams.output)
            assert before <= len(lines) - len(vm.streams.output) <= after


def test_what_a_session_goes_on_with_is_its_own(tmp_path: Path) -> None:
    script = "while read line; do head -c 16 /dev/urandom | od -An -tx1; date +%s; done"
    with corral.linux(script, pipes=True) as vm:
        vm.streams.send("begin\n")
        vm.run_until(condition=lambda vm: vm.streams.output.count(b"\n") == 2, timeout=LONG)
        vm.snapshot(str(tmp_path / "saved"))
    time.sleep(3)
    seen = set()
    for _ in range(10):
        with corral.restore(tmp_path / "saved") as vm:
            vm.streams.send("again\n")
            vm.streams.end()
            assert vm.wait(LONG).status == 0
            number, told = vm.streams.output.splitlines()
            assert abs(int(told) - time.time()) < 3
            seen.add(number)
    assert len(seen) == 10


def test_the_end_of_input_stays_the_end(tmp_path: Path) -> None:
    with corral.linux("cat; echo ended; sleep 0.2; echo after", pipes=True) as vm:
        vm.streams.end()
        vm.run_until(condition=lambda vm: vm.streams.output == b"ended\n", timeout=LONG)
        vm.snapshot(str(tmp_path / "saved"))
    with corral.restore(tmp_path / "saved") as vm:
        assert (vm.wait(LONG).status, vm.streams.output) == (0, b"after\n")


def test_an_interpreted_guest(tmp_path: Path) -> None:
    """What a guest that this KVM interprets, or runs by hardware, is like: no state of a mode that it does not use."""
    path = str(tmp_path / "saved")
    with corral.Machine(MachineConfig(str(tiny_guest("echo")), memory=16 << 20)) as vm:
        vm.console.expect(">", timeout=LONG)
        ask(vm, "one", "one")
        vm.snapshot(path)
        ask(vm, "parent", "parent")
    for _ in range(2):
        with corral.restore(path) as vm:
            ask(vm, "child", "child")


def test_a_software_interrupt_of_a_kernel_of_ones_own(tmp_path: Path) -> None:
    """On a pagetable KVM Corral completes it, by a table that the kernel has loaded before it was saved."""
    wait = "8: testb $1, 0x300000; jz 8b; int $0x80"
    kernel = flat("user_interrupt", 0x200000, 64, INSTRUCTIONS=wait, CODE_3=0x1B, GATES=0xEE)
    config = MachineConfig(str(kernel), memory=16 << 20, flat=parse_flat("long@0x200000"), debug_exit=0xF4)
    path = tmp_path / "saved"
    with corral.Machine(config) as vm:
        vm.run_until(condition=lambda vm: vm.regs.cs.selector & 3 == 3, timeout=LONG)
        vm.snapshot(str(path))
    for _ in range(2):
        with corral.restore(path) as vm:
            vm.phys.write(0x300000, b"\1")
            assert vm.wait(LONG).status == 33
            assert int(vm.console.output.split()[0], 16) == 0x80


def test_commands(tmp_path: Path) -> None:
    def run(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "corral", *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=LONG, check=False, **options)

    path = str(tmp_path / "shell")
    done = run("snapshot", "--after", "# ", path)
    assert (done.returncode, done.stdout.startswith(f"{path}: ")) == (0, True), done.stderr
    done = run("snapshot", "info", path)
    assert "512 MiB" in done.stdout, done.stderr
    assert "vCPUs       1\n" in done.stdout
    done = run("boot", "--restore", path, input="echo $((6*7)); exit 3\n")
    assert (done.returncode, "42" in done.stdout) == (3, True), done.stderr
    for words, text in (
        (("boot", "--restore", path, "--memory", "1G"), "leave --memory out"),
        (("boot", "--restore", path, "--", "true"), "takes no command"),
        (("boot", "--restore", "/dev/null"), "is no file"),
        (("boot", "--restore", __file__), "is no snapshot"),
        (("snapshot", "--after", "# ", path, "--", "boot", "--share", str(tmp_path)), "a shared folder"),
        (("snapshot",), "wants a FILE"),
        (("snapshot", path, "--", "boot", "--", "true"), "leave the command out"),
        (("snapshot", path, "--", "boot", str(tiny_guest("echo"))), "say --after which TEXT"),
        (("snapshot", "--after", "# ", str(tmp_path / "none" / "x")), "name another place"),
    ):
        done = run(*words)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert text in done.stderr
    assert [one.name for one in tmp_path.iterdir()] == ["shell"]


@pytest.mark.parametrize("kind", ["a file", "a link to nothing"])
def test_nothing_but_a_snapshot_is_replaced(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "mine"
    if kind == "a file":
        path.write_text("kept")
    else:
        path.symlink_to("nowhere")
    with corral.Machine(MachineConfig(str(tiny_guest("echo")), memory=16 << 20)) as vm:
        vm.console.expect(">", timeout=LONG)
        with pytest.raises(ConfigError, match="is no snapshot"):
            vm.snapshot(str(path))
        vm.snapshot(str(tmp_path / "other"))
        vm.snapshot(str(tmp_path / "other"))
    assert path.read_text() == "kept" if kind == "a file" else path.is_symlink()
    assert {one.name for one in tmp_path.iterdir()} == {"mine", "other"}


def test_what_cannot_be_saved(tmp_path: Path) -> None:
    config = MachineConfig(str(tiny_guest("echo")), memory=16 << 20, shares=(ShareConfig(str(tmp_path)),))
    with corral.Machine(config) as vm:
        with pytest.raises(ConfigError, match="has started"):
            vm.snapshot(str(tmp_path / "x"))
        vm.console.expect(">", timeout=LONG)
        with pytest.raises(ConfigError, match="a shared folder"):
            vm.snapshot(str(tmp_path / "x"))
    assert not list(tmp_path.iterdir())


def _ram_offset(length: int) -> int:
    return file._aligned(file._HEAD.size + length)


def changed(path: Path, into: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """A file whose description is another one, as its author would make it."""
    with file.SnapshotFile(str(path)) as snapshot:
        plain = json.loads(snapshot.text)
    change(plain)
    text = json.dumps(plain).encode()
    head = file._HEAD.pack(file.MAGIC, file.VERSION, len(text), sha256(text))
    into.write_bytes(head + text)
    with path.open("rb") as old, into.open("r+b") as new:
        new.truncate(_ram_offset(len(text)) + plain["guest"]["memory"])
        begin = _ram_offset(len(snapshot.text))
        for start, end in _written(old.fileno(), begin):
            os.lseek(new.fileno(), _ram_offset(len(text)) + start - begin, os.SEEK_SET)
            assert os.sendfile(new.fileno(), old.fileno(), start, end - start) == end - start
    return into


def _written(fd: int, start: int) -> Iterator[tuple[int, int]]:
    """The parts of a file from `start` that are no holes, by their first byte and the one behind their last."""
    while True:
        try:
            start = os.lseek(fd, start, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:  # no more of them
                raise
            return
        end = os.lseek(fd, start, os.SEEK_HOLE)
        yield start, end
        start = end


def _with_all(plain: dict[str, Any]) -> None:
    """On a CPU with each feature of leaf 7."""
    for entry in plain["cpuid"]:
        if entry[:2] == [7, 0]:
            entry[4:] = [0xFFFFFFFF] * 3


def test_files_that_this_host_cannot_go_on_with(shell: Path, tmp_path: Path) -> None:
    for change, text in (
        (lambda plain: plain["host"].update(kind="other"), "was saved on other KVM"),
        (lambda plain: plain["cpuid"].pop(), "differs in CPUID leaf"),
        (lambda plain: plain["guest"].update(cpus=2), r"has ht|differs in CPUID leaf"),
        (_with_all, r"was saved on .*; this host .* lacks .*vpclmulqdq|lacks .*avx512_4vnniw"),
        (lambda plain: plain["state"].update(vcpus=[]), "the state is of 0 vCPUs, and the machine has 1"),
        (lambda plain: plain["host"].update(boot="x"), "before this host was booted"),
        (lambda plain: plain["guest"].update(channel=""), "the state is of 1 devices, and the machine has 0"),
        (lambda plain: plain["state"]["vcpus"][0].update(regs="00"), "does not fit"),
        (lambda plain: plain["state"].update(cmos="x"), "state.cmos makes no sense"),
        (lambda plain: plain.pop("corral"), "makes no sense"),
        (lambda plain: plain["guest"].update(kernel="\ud800"), "guest.kernel makes no sense"),
        (lambda plain: plain["state"]["vm"].update(clock=-1), "does not fit"),
        (lambda plain: plain["state"]["vcpus"][0].update(mp_state=1 << 40), "does not fit"),
        (lambda plain: plain["state"]["vcpus"][0].update(msrs=[[-1, -1]], native=0), "does not fit"),
    ):
        with pytest.raises(BootError, match=text), corral.restore(changed(shell, tmp_path / "x", change)):
            pass


def test_a_file_that_was_cut_off_or_changed(shell: Path, tmp_path: Path) -> None:
    content = shell.read_bytes()[:200_000]
    for damaged, text in (
        (content[:5], "is no snapshot"),
        (content[:100], "is cut off"),
        (content[:8] + bytes([file.VERSION + 1]) + content[9:], "a newer version"),
        (content[:60] + b"x" + content[61:], "has been changed or damaged"),
        (content[:12] + b"\xff\xff\xff\xff" + content[16:], "at most"),
        (content, "is cut off"),
    ):
        path = tmp_path / "x"
        path.write_bytes(damaged[: len(damaged) // 4096 * 4096 if len(damaged) > 4096 else None])
        with pytest.raises(BootError, match=text), corral.restore(path):
            pass


def test_a_file_that_is_cut_off_while_its_guest_runs(shell: Path, tmp_path: Path) -> None:
    path = tmp_path / "saved"
    shutil.copy(shell, path)
    script = """if True:
        import os, sys, corral
        with corral.restore(sys.argv[1]) as vm:
            os.truncate(sys.argv[1], 4096)
            vm.phys.read(1 << 20, 9)"""
    done = subprocess.run(
        [sys.executable, "-c", script, path], capture_output=True, text=True, timeout=LONG, check=False
    )
    assert done.returncode == 3
    assert (done.stderr.count("\n"), "was cut off while a guest ran from it" in done.stderr) == (1, True)


@pytest.mark.parametrize("jail", ["on", "off"])
def test_a_file_that_is_cut_off_ends_the_command_with_a_line(jail: str, shell: Path, tmp_path: Path) -> None:
    path = tmp_path / "saved"
    shutil.copy(shell, path)
    command = [sys.executable, "-m", "corral", "boot", "--jail", jail, "--restore", str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(b"echo up $((6*7)); while :; do ls -lR /proc /sys >/dev/null 2>&1; done\n")
        process.stdin.flush()
        said = b""
        while b"up 42" not in said:
            said += process.stdout.read1(4096)
        os.truncate(path, 4096)
        _, errors = process.communicate(timeout=LONG)
    assert (process.returncode, errors.count(b"\n")) == (3, 1), errors
    assert b"was cut off while a guest ran from it" in errors


@pytest.mark.parametrize("seed", range(20))
def test_a_hostile_file_is_a_guest_or_an_error(seed: int, shell: Path, tmp_path: Path) -> None:
    """Whatever registers say, a machine is made or refused, and ends when it is told to."""
    chance = random.Random(seed)

    def change(plain: dict[str, Any]) -> None:
        vcpu = plain["state"]["vcpus"][0]
        for name in chance.sample(["regs", "sregs", "lapic", "events", "debugregs", "xcrs", "xsave"], 2):
            content = bytearray.fromhex(vcpu[name])
            for _ in range(chance.randrange(1, 20)):
                content[chance.randrange(len(content))] = chance.randrange(256)
            vcpu[name] = content.hex()
        if chance.random() < 0.3:
            vcpu["native"] = chance.getrandbits(64)
        if chance.random() < 0.3:
            vcpu["msrs"] = [[index, chance.getrandbits(64)] for index, _ in vcpu["msrs"]]
        if chance.random() < 0.3:
            plain["state"]["serial"]["fifo"] = chance.randbytes(chance.randrange(40)).hex()
            plain["state"]["serial"]["trigger"] = chance.randrange(20)

    path = changed(shell, tmp_path / "x", change)
    error = ""
    try:
        with corral.restore(path) as vm:
            vm.resume()
            time.sleep(0.05)
    except CorralError as refusal:
        error = str(refusal)
    assert "\n" not in error


def test_random_bytes_go_on(tmp_path: Path) -> None:
    """A device of them is saved as what it is, and told of."""
    saved = str(tmp_path / "saved")
    config = MachineConfig(str(tiny_guest("echo")), memory=16 << 20, others=(RngConfig(bandwidth=12345),))
    with corral.Machine(config) as vm:
        vm.console.expect(">", timeout=LONG)
        vm.snapshot(saved)
    with corral.restore(saved) as vm:
        assert vm.config.others == config.others
        ask(vm, "child", "child")
    command = [sys.executable, "-m", "corral", "snapshot", "info", saved]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LONG, check=True)
    assert "random bytes, 12345 a second" in done.stdout
