"""corral boot --gdb, driven by the distribution's gdb on a Linux guest, and by strangers."""

from __future__ import annotations

import errno
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from corral.config import MachineConfig
from corral.core.exits import Cause, Outcome
from corral.core.waiting import wait_for
from corral.debug.gdb.packets import LONGEST
from corral.debug.gdb.registers import REGISTERS
from corral.debug.gdb.server import GdbServer, _user, listen
from corral.errors import HostError, KvmError
from corral.guests import kernel
from corral.kvm.vcpu import Vcpu
from corral.machine import Machine
from corral.symbols import table
from tests.support.symbols import labels
from tests.support.tiny_guests import tiny_guest

LONG = 300.0  # seconds: nothing takes so long unless it hangs
CORRAL = [sys.executable, "-m", "corral"]
GUEST = labels(tiny_guest("debugged"))
NUMBER = GUEST["result"]


def run_gdb(path: Path, *commands: str, symbols: Path | None = None) -> str:
    """What gdb prints for these commands after it has connected."""
    deadline = time.monotonic() + LONG
    while not path.exists():
        assert time.monotonic() < deadline, "Corral does not listen"
        time.sleep(0.02)
    words = ["set pagination off", "set confirm off", f"target remote {path}", *commands]
    arguments = [word for command in words for word in ("-ex", command)]
    files = [str(symbols)] if symbols else []
    command = ["gdb", "-nx", "-batch", *arguments, *files]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300, check=False)
    return done.stdout + done.stderr


def boot(path: Path, *words: str) -> subprocess.Popen[str]:
    command = [*CORRAL, "boot", "--gdb", str(path), "--timeout", "280", *words]
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_linux_from_its_first_instruction_to_its_shell(tmp_path: Path) -> None:
    """docs/research/gdb.md's example."""
    found = kernel.get("small")
    image, names, path = found.path, tmp_path / "symbols", tmp_path / "gdb"
    entry = int.from_bytes(Path(image).read_bytes()[24:32], "little")  # e_entry of its ELF header
    subprocess.run([*CORRAL, "kernel", "symbols", "small", str(names)], check=True, stdout=subprocess.DEVNULL)
    guest = boot(path, image, "--", "echo the shell is there; exit 3")
    told = run_gdb(
        *(path, "info threads", "info registers rip cr0 efer", "p $ymm0.v8_int32"),
        *("break start_kernel", "continue", "backtrace", "output/x *(unsigned long *)$rsp", "stepi", "p $rip"),
        *("delete", "watch *(char*)&early_boot_irqs_disabled", "continue", "p *(char*)&early_boot_irqs_disabled"),
        *("delete", "x/2x 0x1234567812345", "continue"),
        symbols=names,
    )
    output, errors = guest.communicate(timeout=LONG)
    assert "Thread 1 (vCPU 0 CPL 0)" in told, errors
    assert re.search(rf"rip +{entry:#x} ", told), "it ran before gdb came"
    assert "Breakpoint 1, 0x" in told
    backtrace = re.search(r"#0 .* in start_kernel \(\)\n#1 +(0x\w+) in (\w+) \(", told)
    assert backtrace, told
    caller = int(backtrace[1], 16)
    assert f"\n{caller:#x}" in told, "what the stack has as the return address"
    assert found.symbols is not None
    function = table.read(found.symbols).find(caller - 1)  # the call is before it
    assert function is not None
    assert backtrace[2] == function[0]
    assert re.search(r"<start_kernel\+\d+>", told), told
    assert "Old value = 0" in told, told
    assert "New value = 1" in told
    assert "$3 = 1 " in told, told
    assert "Cannot access memory at address 0x1234567812345" in told
    assert "exited normally" in told
    assert (guest.returncode, "the shell is there" in output) == (3, True), output + errors


def test_tiny_guest_with_gdb(tmp_path: Path) -> None:
    """Registers and memory are written, and the guest goes by them; the end is told."""
    # Without its symbols: a 32-bit file makes gdb take the whole machine for one of 32 bits.
    path = tmp_path / "gdb"
    guest = boot(path, str(tiny_guest("debugged")))
    told = run_gdb(
        *(path, f"break *{GUEST['work']}", "continue", "p $rbx", "set $rbx = 1", "stepi 2"),
        *(f"p *(int*){NUMBER}", f"set {{int}}{NUMBER} = 77", f"p *(int*){NUMBER}", "set $xmm3.uint128 = 5"),
        *("p $xmm3.v4_int32[0]", "delete", "continue"),
    )
    guest.communicate(timeout=LONG)
    assert "$1 = 5\n" in told, told
    assert "$2 = 1\n$3 = 77\n$4 = 5" in told, told
    assert "exited normally" in told
    assert guest.returncode == 0


def test_threads_interrupt_detach_and_kill(tmp_path: Path) -> None:
    path = tmp_path / "gdb"
    guest = boot(path, str(tiny_guest("smp", CPUS=2)), "--cpus", "2")
    told = run_gdb(path, "info threads", "detach")
    assert "Thread 2 (vCPU 1" in told
    time.sleep(0.5)
    told = run_gdb(path, "p *(int*)0x10100 != 0", "thread 2", "p $_thread", "kill")
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


def test_a_register_that_this_kvm_lacks_is_unavailable_and_all_others_are_told(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacks(vcpu: Vcpu, index: int) -> int:
        raise KvmError(f"KVM_GET_MSRS {index:#x}", errno.EINVAL)

    monkeypatch.setattr(Vcpu, "get_msr", lacks)
    number = next(number for number, register in enumerate(REGISTERS) if register.name == "k_gs_base")
    before = sum(register.size for register in REGISTERS[:number])
    with served.connect() as connection:
        digits = ask(connection, b"g").decode()
        assert ask(connection, b"p%x" % number) == b"x" * 16
    assert len(digits) == 2 * sum(register.size for register in REGISTERS)
    assert digits[2 * before : 2 * before + 16] == "x" * 16
    assert "x" not in digits[: 2 * before] + digits[2 * before + 16 :]


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


def test_gdb_is_waited_for_and_not_looked_at_again_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits = []

    def counted(wanted: dict[int, int], until: float | None = None) -> dict[int, int]:
        waits.append(until)
        return wait_for(wanted, until)

    monkeypatch.setattr("corral.debug.gdb.stub.wait_for", counted)
    served = Served(tmp_path / "gdb", "spin")
    with served.connect() as connection:
        assert ask(connection, b"qC") == b"QC1"
        connection.sendall(b"$c#63")
        time.sleep(0.5)
        connection.sendall(b"\x03")
        data = b""
        while b"#" not in data:
            data += connection.recv(4096)
        connection.sendall(b"+$k#6b")
        served.join()
    assert len(waits) <= 4, waits  # for the acknowledgement of the answer before, for Ctrl-C, for the stop
    assert set(waits) == {None}


@pytest.mark.parametrize(
    ("where", "why"),
    [
        ("", "no path"),
        ("unix:", "no path"),
        ("/tmp/" + "x" * 200, "no path"),
        ("tcp:", "no port"),
        ("tcp:0", "no port"),
        ("tcp:99999", "no port"),
        ("tcp:127.0.0.1", "no port"),
        (":1234", "write tcp:1234 if you want that"),
        ("1234", "write tcp:1234 if you want that"),
        ("localhost:1234", "write tcp:localhost:1234 if you want that"),
    ],
)
def test_addresses_that_cannot_be(where: str, why: str) -> None:
    done = subprocess.run([*CORRAL, "boot", "--gdb", where, str(tiny_guest("reset"))], capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "--gdb" in done.stderr
    assert why in done.stderr


def test_another_user_is_left_at_once(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("corral.debug.gdb.server._user", lambda connection: os.geteuid() + 4242)
    with served.connect() as connection:
        assert connection.recv(1) == b""
    monkeypatch.undo()
    with served.connect() as connection:
        assert ask(connection, b"qC") == b"QC1"


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
def test_the_kernel_tells_who_connects() -> None:
    with tempfile.TemporaryDirectory() as folder, listen(f"{folder}/gdb") as listener:
        os.chmod(folder, 0o755)
        os.chmod(f"{folder}/gdb", 0o777)  # as its owner never would
        child = os.fork()
        if not child:
            with suppress(OSError):
                os.setuid(65534)
                socket.socket(socket.AF_UNIX).connect(f"{folder}/gdb")
            os._exit(0)
        connection, _ = listener.accept()
        assert _user(connection) == 65534
        connection.close()
        os.waitpid(child, 0)


@pytest.mark.parametrize(
    "said", [b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"POST /$k#6b HTTP/1.1\r\n\r\n$k#6b", b"\n$k#6b"]
)
def test_a_web_page_does_not_speak_to_it(served: Served, said: bytes) -> None:
    with served.connect() as connection:
        connection.sendall(said)
        with suppress(ConnectionResetError):
            assert connection.recv(1) == b""
    assert served.join().cause is Cause.RESET, "the guest runs on"


@pytest.mark.parametrize("by", [None, signal.SIGINT, signal.SIGTERM])
def test_a_gdb_that_asks_and_never_reads_keeps_nothing_from_ending(tmp_path: Path, by: signal.Signals | None) -> None:
    path = tmp_path / "gdb"
    command = [*CORRAL, "boot", "--gdb", str(path), "--memory", "16M", str(tiny_guest("spin"))]
    started = time.monotonic()
    guest = subprocess.Popen([*command, *([] if by else ["--timeout", "2"])], stdin=subprocess.DEVNULL)
    try:
        while not path.exists():
            assert time.monotonic() < started + 20
            time.sleep(0.01)
        over = time.monotonic() + 2
        with socket.socket(socket.AF_UNIX) as connection:
            while connection.connect_ex(str(path)) == errno.ECONNREFUSED:  # bound, and about to listen
                assert time.monotonic() < started + 20
                time.sleep(0.01)
            connection.settimeout(1)
            with suppress(TimeoutError):
                while True:
                    connection.sendall(b"$m1000,1fc0#%02x" % (sum(b"m1000,1fc0") & 255))
            assert guest.poll() is None
            if by:
                over = time.monotonic()
                guest.send_signal(by)
            assert guest.wait(20) == (128 + by if by else 124)
            assert time.monotonic() - over < 1 + 1  # and what a busy machine makes of it
    finally:
        guest.kill()


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
    with listen("tcp:43217") as listener:
        assert listener.getsockname()[0] == "127.0.0.1"
