"""A program in Python that has a jail for its guest: processes of their own, since nobody leaves one."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from corral import Machine, MachineConfig
from corral.errors import ConfigError
from corral.native import lib
from tests.support.tiny_guests import tiny_guest

BEGIN = """
import os, socket, subprocess, sys
from corral import Machine, MachineConfig
def machine(name, **words):
    return Machine(MachineConfig(kernel=sys.argv[1] + "/" + name, memory=16 << 20), **words)
"""
HELLO, TICKET = tiny_guest("hello"), tiny_guest("ticket")
needs_landlock = pytest.mark.skipif(lib.corral_jail_landlock_abi() < 1, reason="this host has no Landlock")


def run(script: str, *words: str, guest: str = HELLO) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", BEGIN + textwrap.dedent(script), str(Path(guest).parent), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_a_guest_runs_and_all_else_is_given_up() -> None:
    done = run(
        f"""
        with machine("{Path(HELLO).name}", jail=True) as vm:
            print(vm.wait(30).cause.name, vm.regs.rip > 0)
        for attempt in (lambda: open("/etc/passwd"), lambda: __import__("wave"), lambda: os.listdir("/")):
            try:
                attempt()
            except OSError as error:
                print(type(error).__name__)
        try:
            machine("{Path(HELLO).name}")
        except Exception as error:
            print(error)
        sys.stdout.flush()
        socket.socket()
        """
    )
    assert done.returncode == lib.CORRAL_JAIL_STATUS, done.stderr
    assert done.stdout.splitlines()[1:] == [
        "PermissionError",
        "PermissionError",
        "PermissionError",
        "this process is in the jail of an earlier machine and can make no other; start a new process",
    ]
    assert done.stderr.startswith("corral: the jail refused socket (system call 41) to a script")


@needs_landlock
def test_what_was_allowed_can_be_opened_and_nothing_else(tmp_path: Path) -> None:
    for name in ("read", "written"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    done = run(
        f"""
        read, written = sys.argv[2] + "/read", sys.argv[2] + "/written"
        with machine("{Path(HELLO).name}", jail=True, allow=("files:" + read, "files-rw:" + written, "imports")) as vm:
            vm.wait(30)
        print(open(read + "/file").read())
        open(written + "/file", "w").write("anew")
        open(written + "/other", "w").close()
        import wave
        for path, mode in ((read + "/file", "w"), (sys.argv[2] + "/third", "w"), ("/etc/passwd", "r")):
            try:
                open(path, mode)
            except OSError as error:
                print(type(error).__name__)
        """,
        str(tmp_path),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["read", *["PermissionError"] * 3]
    assert (tmp_path / "written" / "file").read_text() == "anew"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["read", "written"]


@needs_landlock
def test_a_device_declares_what_it_needs(tmp_path: Path) -> None:
    """The guest is the one of docs/research/devices.md."""
    (tmp_path / "tickets").write_text("3")
    done = run(
        f"""
        with machine("{Path(TICKET).name}", jail=True) as vm:
            @vm.mmio(range(0xD1000000, 0xD1000008))
            class tickets:
                allow = ("files:" + sys.argv[2],)
                def read(self, offset, size):
                    return int(open(sys.argv[2] + "/tickets").read())
                def write(self, offset, size, value):
                    vm.inject(line=5)
            vm.wait(30)
            print(vm.console.output)
            try:
                vm.mmio(0xD2000000)(tickets)
            except Exception as error:
                print(error)
        """,
        str(tmp_path),
        guest=TICKET,
    )
    assert done.stdout.splitlines()[0] == "b'dddd!'", done.stderr
    assert "the jail is closed" in done.stdout


def test_a_report_tells_what_a_device_would_be_refused() -> None:
    """The guest is the one of docs/research/devices.md."""
    done = run(
        f"""
        with machine("{Path(TICKET).name}", jail="report") as vm:
            @vm.mmio(range(0xD1000000, 0xD1000008))
            class tickets:
                def read(self, offset, size):
                    for end in socket.socketpair():
                        end.close()
                    return len(open("/etc/passwd").read())
                def write(self, offset, size, value):
                    vm.inject(line=5)
            print(vm.wait(30).over.name)
        """,
        guest=TICKET,
    )
    assert (done.returncode, done.stdout) == (0, "ENDED\n"), done.stderr
    told = [line for line in done.stderr.splitlines() if line.startswith("corral: the jail would ")]
    assert any("refuse socketpair (system call 53) to a script, vcpu0" in line for line in told)
    assert any("deny openat (system call 257) to a script, vcpu0" in line for line in told)
    assert len(told) == len(set(told))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"jail": "maybe"}, "is none of True, False"),
        ({"jail": True, "allow": "files:/x"}, "write it as a tuple"),
        ({"jail": True, "allow": ("socket",)}, "write files:/PATH"),
        ({"allow": ("files:/x",)}, "add jail=True"),
    ],
)
def test_words_that_make_no_sense(words: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Machine(MachineConfig(kernel=str(HELLO), memory=16 << 20), **words)  # type: ignore[arg-type]


def test_what_is_allowed_must_be_there() -> None:
    vm = Machine(MachineConfig(kernel=str(HELLO), memory=16 << 20), jail=True, allow=("files:/nowhere",))
    with vm, pytest.raises(ConfigError, match="'/nowhere': No such file"):
        vm.start()
