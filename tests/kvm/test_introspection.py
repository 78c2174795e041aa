"""A guest by what its kernel means: messages, tasks, files, core files, drgn, QMP, and differences of snapshots."""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import drgn
import pytest

import corral
from corral.errors import ConfigError, HostError
from corral.guests import kernel, kernel_debuginfo
from corral.introspect import difference
from corral.introspect.subject import Saved
from corral.introspect.types import BadTypes
from corral.running import control
from corral.script.machine import ScriptedMachine
from tests.support import stock_kernels
from tests.support.named_guest import Guests, skip_without_kernel


@pytest.fixture(scope="module")
def vm() -> Iterator[ScriptedMachine]:
    skip_without_kernel()
    with corral.linux(memory="128M") as machine:
        machine.console.expect("# ", timeout=60)
        yield machine


@pytest.fixture(scope="module")
def guests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guests]:
    """With the guest `web`, which no test ends."""
    skip_without_kernel()
    guests = Guests(tmp_path_factory.mktemp("g"))
    guests.boot("web", "--memory", "128M")
    yield guests
    guests.close()


def banner(prog: Any, vm_banner: int) -> bytes:
    return bytes(prog.read(vm_banner, 14))


def test_messages_are_those_that_the_guest_tells_itself(vm: ScriptedMachine) -> None:
    told = vm.linux.dmesg()
    assert told[0].text.startswith(f"Linux version {vm.linux.release} ")
    vm.console.send("echo from the guest >/dev/kmsg; echo fin''ished\n")
    vm.console.expect("finished", timeout=20)
    assert vm.linux.dmesg()[-1].text == "from the guest"
    assert [one.sequence for one in told] == list(range(len(told)))


def test_a_core_file_has_memory_and_registers_of_one_moment(vm: ScriptedMachine, tmp_path: Path) -> None:
    path = tmp_path / "guest.core"
    vm.pause()
    written = vm.dump(str(path))
    assert 0 < written <= path.stat().st_blocks * 512 + (1 << 20)
    prog = drgn.Program()
    prog.set_core_dump(path)
    assert prog.flags & drgn.ProgramFlags.IS_LINUX_KERNEL
    where = vm.symbols.address("linux_banner")
    assert banner(prog, where) == vm.mem.read(where, 14) == b"Linux version "
    content = path.read_bytes()[:4096]
    assert struct.pack("<Q", vm.regs.rip) in content
    assert struct.pack("<Q", vm.regs.rsp) in content


def test_a_core_file_replaces_no_other_file(vm: ScriptedMachine, tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("mine")
    with pytest.raises(ConfigError, match="no core file"):
        vm.dump(str(path))
    assert path.read_text() == "mine"
    assert os.listdir(tmp_path) == ["precious"]


def test_drgn_reads_the_guest_while_it_runs(vm: ScriptedMachine) -> None:
    prog = vm.drgn()
    assert prog.flags & drgn.ProgramFlags.IS_LIVE
    vm.resume()
    assert banner(prog, vm.symbols.address("linux_banner")) == b"Linux version "
    vm.pause()
    with pytest.raises(drgn.FaultError):
        prog.read(0xFFFF888000000000 + vm.memory.size, 8)


def with_debug_information() -> kernel_debuginfo.DebugInfo:
    found = kernel_debuginfo.find(kernel_debuginfo.build_id(kernel.get(kernel.SMALL).path))
    if found is None:
        pytest.skip(
            "no debug information of the small kernel is in the cache, a build of minutes: corral kernel debuginfo"
        )
    return found


def test_drgns_own_helpers_list_the_tasks(vm: ScriptedMachine) -> None:
    with_debug_information()
    from drgn.helpers.linux.pid import for_each_task

    prog = vm.drgn()
    assert prog["init_task"].comm.string_() == b"swapper/0"
    told = {(one.pid, one.name) for one in vm.linux.tasks() if one.pid}
    assert {(one.pid.value_(), one.comm.string_().decode()) for one in for_each_task(prog)} == told
    assert (1, "init") in told


@pytest.fixture(scope="module")
def stock() -> Iterator[ScriptedMachine]:
    """Debian's kernel, which has its types in its memory."""
    stock_kernels.skip_where_interpreted()
    with corral.linux(kernel=stock_kernels.get("bookworm-cloud").image, memory="256M") as machine:
        machine.console.expect("# ", timeout=120)
        yield machine


def test_tasks_are_those_that_the_guest_lists_itself(stock: ScriptedMachine) -> None:
    tasks = {one.pid: one for one in stock.linux.tasks()}
    stock.console.send("for f in /proc/[0-9]*/stat; do read x y z <$f; echo \"=$x $y\"; done; echo fin''ished\n")
    stock.console.expect("finished", timeout=30)
    shown = stock.console.output.decode(errors="replace")
    lines = [line[1:].strip() for line in shown.splitlines() if line.startswith("=")]
    itself = {int(number): name.strip("()")[:15] for number, _, name in (line.partition(" ") for line in lines)}
    mine = {number: one.name for number, one in tasks.items() if number}
    kept = [{one for one in told.items() if "kworker" not in one[1]} for told in (itself, mine)]  # those come and go
    assert kept[0] == kept[1]
    shell = next(one for one in tasks.values() if one.name == "sh")
    assert tasks[shell.parent].name == "init"
    assert not shell.is_kernel
    assert tasks[2].is_kernel


def test_open_files_have_the_paths_of_the_guest(stock: ScriptedMachine) -> None:
    stock.console.send("exec 7>/tmp/opened 8</proc/version; mkdir -p /tmp/deep; exec 9>/tmp/deep/er; echo fin''ished\n")
    stock.console.expect("finished", timeout=30)
    shell = next(one for one in stock.linux.tasks() if one.name == "sh")
    paths = {one.number: one.path for one in stock.linux.files(shell)}
    assert (paths[7], paths[8], paths[9]) == ("/tmp/opened", "/proc/version", "/tmp/deep/er")
    with pytest.raises(ConfigError, match="no task 99999"):
        stock.linux.files(99999)


def test_most_of_what_changed_in_the_heap_has_a_name(stock: ScriptedMachine, tmp_path: Path) -> None:
    before, after = tmp_path / "before.snapshot", tmp_path / "after.snapshot"
    stock.snapshot(str(before))
    stock.console.send("mkdir /tmp/many; for i in $(seq 300); do echo $i >/tmp/many/$i; done; echo fin''ished\n")
    stock.console.expect("finished", timeout=30)
    stock.snapshot(str(after))
    with Saved(str(before)) as old, Saved(str(after)) as new:
        found = difference.between(old, new)
        assert difference.between(old, old).changes == ()
    assert found.note == ""
    assert found.named() >= 0.9
    caches = {one.name: one for one in found.changes if one.kind == "slab"}
    assert caches["dentry"].objects >= 300
    assert "d_name" in dict(caches["dentry"].fields)
    assert "kernel" in {one.kind for one in found.changes if one.name}
    files = next(one for one in found.changes if one.kind == "page cache")
    assert files.objects >= 300


def test_without_types_a_guest_says_what_to_do(vm: ScriptedMachine) -> None:
    if kernel_debuginfo.find(kernel_debuginfo.build_id(kernel.get(kernel.SMALL).path)):
        pytest.skip("the types of the small kernel are in the cache")
    with pytest.raises(BadTypes, match="corral kernel debuginfo"):
        vm.linux.tasks()


# By name.


def test_a_guest_that_runs_is_dumped_and_goes_on(guests: Guests, tmp_path: Path) -> None:
    path = tmp_path / "web.core"
    done = guests.run("dump", "web", str(path))
    assert done.returncode == 0, done.stderr.decode()
    prog = drgn.Program()
    prog.set_core_dump(path)
    assert prog.flags & drgn.ProgramFlags.IS_LINUX_KERNEL
    assert guests.exec("web", "echo", "on").stdout == b"on\n"


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("memory 0 65537", "at most 65536"),
        ("memory 0 0", "at least 1"),
        ("memory 134217728 1", "not all RAM"),
        ("memory -1 1", "decimal numbers"),
        ("memory 0", "2 decimal numbers"),
        ("core 4096", "no file came"),
    ],
)
def test_what_is_asked_of_a_guests_process_has_bounds(guests: Guests, word: str, said: str) -> None:
    with pytest.raises(HostError, match=said):
        control.ask(str(guests.folder / "corral" / "web" / "control"), word)


def test_a_script_reads_a_guest_that_runs(guests: Guests, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("import sys\nprint(sys.argv[1:], prog.read(int(sys.argv[1], 16), 13).decode())\n")
    symbols = Path(kernel.get(kernel.SMALL).symbols or "").read_text()
    where = next(line.split()[0] for line in symbols.splitlines() if line.endswith(" linux_banner"))
    for more in ((), ("--pause",)):
        done = guests.run("drgn", "web", str(script), *more, "--", where, "b")
        assert done.stdout.decode() == f"['{where}', 'b'] Linux version\n", done.stderr.decode()
    assert guests.exec("web", "echo", "on").stdout == b"on\n"
    failed = guests.run("drgn", "web", "-e", "prog.read(0, 1)")
    assert (failed.returncode, b"Traceback" in failed.stderr) == (3, False)
    assert guests.run("drgn", "web", "-e", "1/0").returncode == 1


def test_unmodified_drgn_finds_the_guests_linux_by_qmp(guests: Guests, tmp_path: Path) -> None:
    path = tmp_path / "qmp"
    with guests.start("qmp", "web", "--socket", str(path)) as server:
        try:
            _await(path)
            prog = drgn.Program()
            prog.set_qemu_qmp(str(path))
            assert prog.flags & drgn.ProgramFlags.IS_LINUX_KERNEL
            symbols = Path(kernel.get(kernel.SMALL).symbols or "").read_text()
            where = next(line.split()[0] for line in symbols.splitlines() if line.endswith(" linux_banner"))
            assert banner(prog, int(where, 16)) == b"Linux version "
        finally:
            server.terminate()
            server.communicate(timeout=10)
    assert server.returncode == 143
    assert not path.exists()


def test_a_client_stops_and_continues_the_guest_over_standard_input(guests: Guests) -> None:
    commands = ("qmp_capabilities", "stop", "query-status", "cont", "query-status")
    words = "".join(json.dumps({"execute": name}) + "\n" for name in commands)
    done = guests.run("qmp", "web", input=words.encode())
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["return"]["status"] for one in answers if "status" in one.get("return", {})] == ["paused", "running"]
    assert done.returncode == 0


def test_a_client_that_does_not_read_keeps_no_one_from_the_end(guests: Guests, tmp_path: Path) -> None:
    path = tmp_path / "qmp"
    guests.boot("slow", "--memory", "64M")
    with guests.start("qmp", "slow", "--socket", str(path)) as server:
        _await(path)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            look = {"execute": "human-monitor-command", "arguments": {"command-line": "xp /16000xb 0"}}
            client.send(b'{"execute": "qmp_capabilities"}\n' + json.dumps(look).encode() + b"\n")
            with pytest.raises(subprocess.TimeoutExpired):
                server.wait(0.5)
            server.terminate()
            server.communicate(timeout=5)
    assert server.returncode == 143
    guests.run("kill", "slow")


def test_a_guests_end_ends_its_qmp(guests: Guests) -> None:
    guests.boot("brief", "--memory", "64M")
    with guests.start("qmp", "brief") as server:
        assert server.stdout
        server.stdout.readline()
        assert guests.run("kill", "brief").returncode == 0
        assert server.wait(timeout=10) == 0


def _await(path: Path) -> None:
    import time

    end = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < end, "there is no socket"
        time.sleep(0.02)
    time.sleep(0.05)  # from bind() to listen()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("dump", "web"), b"wants a guest"),
        (("dump", "nothing", "x.core"), b"no guest 'nothing'"),
        (("dump", "./nothing", "x.core"), b"no name of a guest"),
        (("drgn",), b"wants a guest"),
        (("drgn", "web", "a.py", "-e", "1"), b"one SCRIPT"),
        (("drgn", "web", "/nothing.py"), b"cannot be read"),
        (("diff", "one"), b"wants two snapshots"),
        (("diff", "/etc/passwd", "/etc/passwd"), b"is no snapshot"),
        (("qmp",), b"wants the name"),
    ],
)
def test_bad_usage_is_a_line(guests: Guests, words: tuple[str, ...], said: bytes) -> None:
    done = guests.run(*words)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count(b"\n") == 1
