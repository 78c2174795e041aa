"""corral boot --gdb, driven by the distribution's gdb on a Linux guest, and by strangers."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from corral.config import MachineConfig
from corral.errors import HostError
from corral.exits import Cause
from corral.guests import debian, kernel
from corral.machine import Machine, Outcome
from corral.toolkit.gdb_packets import LONGEST
from corral.toolkit.gdb_server import GdbServer, listen
from tests.support.symbols import labels
from tests.support.tiny_guests import tiny_guest

LONG = 300.0  # seconds: nothing takes so long unless it hangs
CORRAL = [sys.executable, "-m", "corral"]
GUEST = labels(tiny_guest("debugged"))
NUMBER = GUEST["result"]


@pytest.fixture(scope="module")
def gdb() -> str:
    try:
        debian.require_installed(["gdb"], "debugging a guest")
    except HostError as error:
        pytest.skip(str(error))
    return "gdb"


def run_gdb(gdb: str, path: Path, *commands: str, symbols: Path | None = None) -> str:
    """What gdb prints for these commands after it has connected."""
    deadline = time.monotonic() + LONG
    while not path.exists():
        assert time.monotonic() < deadline, "Corral does not listen"
        time.sleep(0.02)
    words = ["set pagination off", "set confirm off", f"target remote {path}", *commands]
    arguments = [word for command in words for word in ("-ex", command)]
    files = [str(symbols)] if symbols else []
    command = [gdb, "-nx", "-batch", *arguments, *files]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300, check=False)
    return done.stdout + done.stderr


def boot(path: Path, *words: str) -> subprocess.Popen[str]:
    command = [*CORRAL, "boot", "--gdb", f"unix:{path}", "--timeout", "280", *words]
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_linux_from_its_first_instruction_to_its_shell(gdb: str, tmp_path: Path) -> None:
    """docs/research/gdb.md's example."""
    image, symbols, path = kernel.get("small").path, tmp_path / "symbols", tmp_path / "gdb"
    subprocess.run([*CORRAL, "kernel", "symbols", "small", str(symbols)], check=True, stdout=subprocess.DEVNULL)
    guest = boot(path, image, "--", "echo the shell is there; exit 3")
    told = run_gdb(
        *(gdb, path, "info threads", "info registers rip cr0 efer", "p $ymm0.v8_int32"),
        *("break start_kernel", "continue", "backtrace", "stepi", "p $rip"),
        *("delete", "watch *(char*)&early_boot_irqs_disabled", "continue", "p *(char*)&early_boot_irqs_disabled"),
        *("delete", "x/2x 0x1234567812345", "continue"),
        symbols=symbols,
    )
    output, errors = guest.communicate(timeout=LONG)
    assert "Thread 1 (vCPU 0 CPL 0)" in told, errors
    assert re.search(r"rip +0x1000000 ", told), "it ran before gdb came"
    assert "Breakpoint 1, 0x" in told
    assert re.search(r"#0 .* in start_kernel \(\)\n#1 .* in secondary_startup_64", told), told
    assert re.search(r"<start_kernel\+\d+>", told), told
    assert "Old value = 0" in told, told
    assert "New value = 1" in told
    assert "$3 = 1 " in told, told
    assert "Cannot access memory at address 0x1234567812345" in told
    assert "exited normally" in told
    assert (guest.returncode, "the shell is there" in output) == (3, True), output + errors


def test_tiny_guest_with_gdb(gdb: str, tmp_path: Path) -> None:
    """Registers and memory are written, and the guest goes by them; the end is told."""
    # Without its symbols: a 32-bit file makes gdb take the whole machine for one of 32 bits.
    path = tmp_path / "gdb"
    guest = boot(path, str(tiny_guest("debugged")))
    told = run_gdb(
        *(gdb, path, f"break *{GUEST['work']}", "continue", "p $rbx", "set $rbx = 1", "stepi 2"),
        *(f"p *(int*){NUMBER}", f"set {{int}}{NUMBER} = 77", f"p *(int*){NUMBER}", "set $xmm3.uint128 = 5"),
        *("p $xmm3.v4_int32[0]", "delete", "continue"),
    )
    guest.communicate(timeout=LONG)
    assert "$1 = 5\n" in told, told
    assert "$2 = 1\n$3 = 77\n$4 = 5" in told, told
    assert "exited normally" in told
    assert guest.returncode == 0


def test_threads_interrupt_detach_and_kill(gdb: str, tmp_path: Path) -> None:
    path = tmp_path / "gdb"
    guest = boot(path, str(tiny_guest("smp", CPUS=2)), "--cpus", "2")
    told = run_gdb(gdb, path, "info threads", "detach")
    assert "Thread 2 (vCPU 1" in told
    time.sleep(0.5)
    told = run_gdb(gdb, path, "p *(int*)0x10100 != 0", "thread 2", "p $_thread", "kill")
    assert "$1 = 1\n" in told, "it did not run on after it was left"
    assert "$2 = 2" in told
    guest.communicate(timeout=LONG)
    assert guest.returncode == 0


class Served:
    """A machine that runs with a server, and a socket of a gdb's."""

    def __init__(self, path: Path, name: str, **defines: int) -> None:
        self.machine = Machine(MachineConfig(kernel=str(tiny_guest(name, **defines)), memory=16 << 20))
        self.path = path
        self.outcome: Outcome | None = None
        self._listener = listen(f"unix:{path}")
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with self.machine, self._listener, GdbServer(self.machine, self._listener):
            self.outcome = self.machine.run(timeout=LONG)

    def connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(LONG)
        connection.connect(str(self.path))
        return connection

    def join(self) -> Outcome:
        self._thread.join(LONG)
        assert self.outcome, "it hangs"
        return self.outcome


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    served = Served(tmp_path / "gdb", "debugged")
    yield served
    if served.outcome is None:
        served.machine.dismiss()
    served.join()


def ask(connection: socket.socket, content: bytes) -> bytes:
    """The answer's content."""
    connection.sendall(b"$" + content + b"#%02x" % (sum(content) & 255))
    data = b""
    while not (found := re.match(rb"\+?\$(.*)#..", data, re.DOTALL)):
        data += connection.recv(65536)
    with suppress(BrokenPipeError):  # after the guest's end nobody is there
        connection.sendall(b"+")
    return found[1]


HOSTILE = [
    *(b"m", b"m,", b"mzz,4", b"mffffffffffffffffffff,4", b"m-1,4", b"M0,4:00", b"M0,1:zz", b"mc0000000,4"),
    *(b"Xffffffffffff,1:a", b"X0,5:a", b"X", b"P", b"Pff=00", b"P0=00", b"p", b"pffff", b"P12=00000000"),
    *(b"Hg7", b"Hgx", b"T9", b"Tp1.1", b"Z", b"Z0", b"Z0,0", b"Z0,c0000000,1", b"Z2,3,4", b"Z2,0,100"),
    *(b"vCont;s:9", b"qXfer:features:read:target.xml:x,y", b"qThreadExtraInfo,0", b"\xff\xfe\x00", b"z0,zz,1"),
]


def test_hostile_packets_get_an_error_and_the_guest_lives(served: Served) -> None:
    with served.connect() as connection:
        for packet in HOSTILE:
            assert re.fullmatch(rb"E..", ask(connection, packet)), packet
        assert len(ask(connection, b"m0,ffffffff")) < LONGEST
        assert ask(connection, b"nonsense") == b""
        assert ask(connection, b"qC") == b"QC1"
        assert ask(connection, b"c") == b"W00"
    assert served.join().cause is Cause.RESET


def test_strangers_who_send_without_end_are_left(served: Served) -> None:
    with served.connect() as connection, pytest.raises(OSError, match=r"reset|pipe"):
        connection.sendall(b"$" + b"x" * (64 << 20))
    assert served.join().cause is Cause.RESET, "the guest runs on without gdb"


def test_a_bad_checksum_is_asked_for_again(served: Served) -> None:
    with served.connect() as connection:
        connection.sendall(b"$qC#00")
        assert connection.recv(1) == b"-"
        assert ask(connection, b"qC") == b"QC1"


def test_memory_is_shown_without_breakpoints(served: Served) -> None:
    where = b"%x" % GUEST["work"]
    with served.connect() as connection:
        before = ask(connection, b"m" + where + b",4")
        assert ask(connection, b"Z0," + where + b",1") == b"OK"
        assert ask(connection, b"c") == b"T05thread:1;swbreak:;"
        assert ask(connection, b"m" + where + b",4") == before
        assert ask(connection, b"s") == b"T05thread:1;"
        assert ask(connection, b"c") == b"T05thread:1;swbreak:;"
        assert ask(connection, b"z0," + where + b",1") == b"OK"
        assert ask(connection, b"Z2,%x,4" % NUMBER) == b"OK"
        assert ask(connection, b"vCont;c") == b"T05thread:1;watch:%x;" % NUMBER


def test_a_guest_that_dies(tmp_path: Path) -> None:
    served = Served(tmp_path / "gdb", "triple_fault")
    with served.connect() as connection:
        assert ask(connection, b"c") == b"X06"
    assert served.join().cause is Cause.TRIPLE_FAULT


def test_interrupt(tmp_path: Path) -> None:
    served = Served(tmp_path / "gdb", "spin")
    with served.connect() as connection:
        connection.sendall(b"$c#63")
        time.sleep(0.2)
        connection.sendall(b"\x03")
        data = b""
        while b"#" not in data:
            data += connection.recv(4096)
        assert data == b"+$T02thread:1;#d4", data
        assert ask(connection, b"g")
        connection.sendall(b"+$k#6b")
        served.join()


@pytest.mark.parametrize("where", ["", "1234", ":", ":0", ":99999", ":x", "unix:"])
def test_addresses_that_cannot_be(where: str) -> None:
    done = subprocess.run([*CORRAL, "boot", "--gdb", where, str(tiny_guest("reset"))], capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "--gdb" in done.stderr


def test_nothing_is_left_of_a_guest_that_cannot_be(tmp_path: Path) -> None:
    words = ["boot", "--gdb", f"unix:{tmp_path}/gdb", "/dev/null"]
    done = subprocess.run([*CORRAL, *words], capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert not list(tmp_path.iterdir())


def test_an_address_that_is_taken(tmp_path: Path) -> None:
    with listen(f"unix:{tmp_path}/gdb"):
        assert os.stat(tmp_path / "gdb").st_mode & 0o077 == 0
        with pytest.raises(HostError, match="choose another"):
            listen(f"unix:{tmp_path}/gdb")


def test_a_port_is_on_the_loopback_interface_only() -> None:
    with listen(":43217") as listener:
        assert listener.getsockname()[0] == "127.0.0.1"
