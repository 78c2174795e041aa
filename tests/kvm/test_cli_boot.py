"""`corral boot` as a person runs it, on this host's KVM: tiny guests, and the Linux that it boots by itself."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from corral.guests import kernel
from corral.guests.default import choose
from corral.kvm.system import host_kind
from tests.support import kernels
from tests.support.tiny_guests import tiny_guest

LONG = 30.0  # seconds: nothing takes so long unless it hangs
LINUX = 300.0
CORRAL = [sys.executable, "-m", "corral", "boot"]


def boot(*words: str, timeout: float = LONG, **options: object) -> subprocess.CompletedProcess[bytes]:
    options.setdefault("stdin", subprocess.DEVNULL)
    return subprocess.run([*CORRAL, *words], capture_output=True, timeout=timeout, check=False, **options)  # type: ignore[call-overload,no-any-return]


def start(name: str, *words: str, **options: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen([*CORRAL, str(tiny_guest(name)), *words], stderr=subprocess.PIPE, **options)  # type: ignore[call-overload,no-any-return]


def test_a_guest_that_resets() -> None:
    done = boot(str(tiny_guest("hello")))
    assert (done.returncode, done.stdout, done.stderr) == (0, b"hello\n", b"")


def test_the_console_in_a_file(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("something longer that was there before")
    done = boot(str(tiny_guest("hello")), "--console", f"file:{log}")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert log.read_bytes() == b"hello\n"


def test_a_consoles_file_has_a_size(tmp_path: Path) -> None:
    log = tmp_path / "a,log"
    done = boot(str(tiny_guest("chatter")), "--console", f"file:{log},size=10K", "--timeout", "2")
    assert (done.returncode, done.stdout) == (124, b"")
    assert log.read_bytes() == b"x" * 10_240
    full, over = done.stderr.decode().splitlines()
    assert re.fullmatch(
        r"corral: the console's file is full: \d+ bytes of what the guest said are lost; .*size=SIZE", full
    )
    assert over.startswith("corral: the guest did not end within 2 s")


@pytest.mark.parametrize("size", ["", "x", "-1"])
def test_a_size_that_is_none(tmp_path: Path, size: str) -> None:
    done = boot(str(tiny_guest("hello")), "--console", f"file:{tmp_path}/log,size={size}")
    assert (done.returncode, done.stderr.count(b"\n")) == (2, 1)
    assert b"is not a size" in done.stderr


def test_no_console() -> None:
    done = boot(str(tiny_guest("hello")), "--console", "none")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_input_reaches_the_guest() -> None:
    done = boot(str(tiny_guest("echo")), stdin=None, input=b"corral\nq")
    assert (done.returncode, done.stdout) == (0, b">corral\nq")


def test_the_timeout() -> None:
    done = boot(str(tiny_guest("spin")), "--timeout", "0.2")
    assert done.returncode == 124
    assert done.stdout == b"r"
    assert done.stderr == b"corral: the guest did not end within 0.2 s and was stopped\n"


def test_the_timeout_of_a_guest_that_never_stops_sending() -> None:
    done = boot(str(tiny_guest("chatter")), "--timeout", "0.3")
    assert done.returncode == 124
    assert set(done.stdout) == {ord("x")}


def test_the_timeout_with_a_reader_who_does_not_read() -> None:
    with start("chatter", "--timeout", "0.3", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        assert process.wait(LONG) == 124


def test_a_reader_who_leaves() -> None:
    with start("chatter", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.read(1) == b"x"
        process.stdout.close()
        assert process.wait(LONG) == 141
        assert process.stderr is not None
        assert process.stderr.read() == b""


def test_a_reader_who_leaves_a_silent_guest() -> None:
    with start("spin", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.read(1) == b"r"
        process.stdout.close()
        assert process.wait(LONG) == 141


def test_a_full_disk() -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*CORRAL, str(tiny_guest("hello"))], stdout=full, stderr=subprocess.PIPE, timeout=LONG, check=False
        )
    assert done.returncode == 3
    assert done.stderr.startswith(b"corral: cannot write the guest's console: No space left")
    assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("name", ["spin", "halt", "chatter"])
def test_signals_end_the_guest(number: signal.Signals, name: str) -> None:
    with start(name, "--cpus", "2", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.read(1) in (b"r", b"x")
        process.send_signal(number)
        assert process.wait(LONG) == 128 + number
        assert process.stderr is not None
        assert process.stderr.read() == b""


def test_a_guest_that_dies_gets_a_report_of_one_screen() -> None:
    done = boot(str(tiny_guest("triple_fault")))
    report = done.stderr.decode()
    assert done.returncode == 4
    assert report.startswith("corral: the guest died: triple fault, on vCPU 0\n")
    assert re.search(r"^ +rip [0-9a-f]{16} ", report, re.MULTILINE)
    assert re.search(r"^-> +10001[0-9a-f]  8e d8 +mov ds, eax$", report, re.MULTILINE)
    assert "32-bit protected" in report
    assert len(report.splitlines()) <= 24
    assert max(map(len, report.splitlines())) <= 110


def test_a_command_whose_status_is_never_told_did_not_succeed() -> None:
    done = boot(str(tiny_guest("hello")), "--", "true")
    assert done.returncode == 4
    assert done.stderr.count(b"\n") == 1


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "vmlinux").write_bytes(kernels.vmlinux())
    (tmp_path / "empty").touch()
    (tmp_path / "text").write_text("not a kernel\n")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    os.symlink("loop", tmp_path / "loop")
    return tmp_path


@pytest.mark.parametrize(
    "words",
    [
        ["missing"],
        [""],
        ["x" * 5000],
        [os.fsdecode(b"\xff\xfe")],
        ["folder"],
        ["fifo"],
        ["loop"],
        ["empty"],
        ["text"],
        ["/dev/zero"],
        ["/proc/self/mem"],
        ["vmlinux", "--initrd", "missing"],
        ["vmlinux", "--initrd", "folder"],
        ["vmlinux", "--initrd", "fifo"],
        ["vmlinux", "--initrd", "none", "--append", "x" * 100_000],
        ["vmlinux", "--initrd", "none", "--memory", "1M"],
    ],
    ids=lambda words: ascii(" ".join(words)[:40]),
)
def test_bad_files_are_one_line_and_status_2(words: list[str], folder: Path) -> None:
    done = boot(*words, cwd=folder)
    assert done.returncode == 2
    assert done.stderr.startswith(b"corral: ")
    assert done.stderr.count(b"\n") == 1
    assert done.stdout == b""


def test_a_kernel_that_cannot_be_read(folder: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root reads everything")
    (folder / "vmlinux").chmod(0)
    done = boot("vmlinux", cwd=folder)
    assert done.returncode == 2
    assert b"Permission denied" in done.stderr


def test_parameters_that_are_no_text_reach_the_guest_as_they_are(folder: Path) -> None:
    done = boot("vmlinux", "--initrd", "none", "--append", os.fsdecode(b"a=\xff\xfe"), cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(b" a=\xff\xfe")


def test_more_memory_than_the_host_has_is_a_notice() -> None:
    host = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    done = boot(str(tiny_guest("hello")), "--memory", f"{(host >> 30) + 2}G")
    assert done.returncode == 0
    assert b"a guest that uses all of it is killed" in done.stderr


def test_closed_standard_descriptors_are_not_taken_for_the_console() -> None:
    script = '"$@" <&- >&- 2>&-'
    done = subprocess.run(["sh", "-c", script, "sh", *CORRAL, str(tiny_guest("hello"))], timeout=LONG, check=False)
    assert done.returncode == 0


HEAVY = {"argparse", "dataclasses", "inspect", "typing", "pathlib", "re", "subprocess", "tempfile", "json", "shutil"}
RARE = {"capstone", "termios", "corral.files.decompress", "corral.cli.doctor", "corral.guests.kernel"}
RARE |= {f"corral.{name}" for name in ("debug", "observe", "script", "symbols")}
RARE |= {f"corral.boot.{name}" for name in ("kernel_config", "multiboot", "modules", "payload", "unpacked")}
RARE |= {f"corral.cli.{name}" for name in ("about", "colour", "help", "spelling", "topics")} | {"difflib"}
RARE |= {"corral.guests.cloud_init", "corral.files.iso9660", "corral.devices.debug_exit", "json", "importlib.util"}


def test_what_a_boot_imports() -> None:
    # -S -E: what a site's own customisation imports is not our doing.
    paths = [path for path in sys.path if path]
    script = (
        f"import sys; sys.path[:] = {paths!r}\nfrom corral.cli import main\nmain(sys.argv[1:]); print(*sys.modules)"
    )
    command = [sys.executable, "-S", "-E", "-c", script, "boot", str(tiny_guest("hello"))]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LONG, check=True)
    assert not (HEAVY | RARE) & set(done.stdout.split())


class Person:
    """Somebody at a pseudo terminal, in front of `corral boot`."""

    def __init__(self, *words: str) -> None:
        self.screen = b""
        self._ours, self._theirs = pty.openpty()
        self.before = termios.tcgetattr(self._theirs)
        self.process = subprocess.Popen(
            [*CORRAL, *words], stdin=self._theirs, stdout=self._theirs, stderr=self._theirs, start_new_session=True
        )

    def sees(self, text: bytes, within: float = LONG) -> None:
        deadline = time.monotonic() + within
        while text not in self.screen:
            left = deadline - time.monotonic()
            assert left > 0, f"no {text!r} on the screen, but {self.screen!r}"
            if select.select([self._ours], [], [], left)[0]:
                self.screen += os.read(self._ours, 65536)

    def types(self, keys: bytes) -> None:
        self.screen = b""
        os.write(self._ours, keys)

    def leaves(self) -> int:
        """The exit status; the terminal must be as it was."""
        status = self.process.wait(LONG)
        assert termios.tcgetattr(self._theirs) == self.before
        return status

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._ours)
        os.close(self._theirs)


@pytest.fixture
def people() -> Iterator[list[Person]]:
    people: list[Person] = []
    yield people
    for person in people:
        person.close()


def test_a_person_at_a_terminal(people: list[Person]) -> None:
    person = Person(str(tiny_guest("echo")))
    people.append(person)
    person.sees(b"Ctrl-A H helps")
    person.sees(b">")
    person.types(b"\x03\x04\x1a\r")  # Ctrl-C, Ctrl-D, Ctrl-Z, Enter are the guest's
    person.sees(b"\x03\x04\x1a\r")
    person.types(b"\x01h")
    person.sees(b"Ctrl-A X  end the guest")
    person.types(b"\x01i")
    person.sees(b"1 CPU, 512 MiB, for ")
    person.sees(b"bytes from the guest")
    person.types(b"\x01a")
    person.sees(b"\x01")
    person.types(b"\x01x")
    assert person.leaves() == 0


@pytest.mark.parametrize("name", ["spin", "chatter"])
def test_ctrl_a_x_ends_a_guest_that_hangs(name: str, people: list[Person]) -> None:
    person = Person(str(tiny_guest(name)))
    people.append(person)
    person.sees(b"r" if name == "spin" else b"xxx")
    person.types(b"\x01x")
    person.sees(b"\r\n")
    assert person.leaves() == 0


def test_a_guest_that_dies_leaves_the_terminal_as_it_was(people: list[Person]) -> None:
    person = Person(str(tiny_guest("triple_fault")))
    people.append(person)
    person.sees(b"the guest died")
    assert person.leaves() == 4


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_the_terminal_as_it_was(number: signal.Signals, people: list[Person]) -> None:
    person = Person(str(tiny_guest("spin")))
    people.append(person)
    person.sees(b"r")
    person.process.send_signal(number)
    assert person.leaves() == 128 + number


@pytest.fixture(scope="module")
def linux() -> list[str]:
    """Arguments that boot what `corral boot` boots by itself; skipped where it is not in the cache."""
    name = choose(host_kind(), cpus=1).name
    if not any(found.name == name for found in kernel.ready()):
        pytest.skip(f"the kernel {name} is not in the cache: corral kernel build")
    return []


def test_linux_runs_a_command_and_its_status_is_ours(linux: list[str]) -> None:
    words = ["--timeout", "280", "--", "sh", "-c", 'printf "[%s]" "$@"; exit 7', "sh", "a b", "it's", "$HOME", ""]
    done = boot(*linux, *words, timeout=LINUX)
    assert (done.returncode, done.stdout, done.stderr) == (7, b"[a b][it's][$HOME][]", b"")


def test_all_that_linux_says_from_its_first_line_on(linux: list[str]) -> None:
    """And what it says last, when the port's own driver has it."""
    done = boot(*linux, "--early", "--timeout", "280", "--", "exit 5", timeout=LINUX)
    assert done.returncode == 5, done.stderr
    assert b"] Linux version " in done.stderr.splitlines()[0]
    assert b"console [ttyS0] enabled" in done.stderr
    assert b"] reboot: " in done.stderr.splitlines()[-1]


def test_what_is_no_linux_says_nothing_early() -> None:
    done = boot(str(tiny_guest("hello")), "--early")
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"--early is for Linux" in done.stderr


def test_linux_runs_a_script_and_ends_with_it(linux: list[str]) -> None:
    script = b"echo for the cat | cat\nexit 6\n"
    done = boot(*linux, "--timeout", "280", timeout=LINUX, stdin=None, input=script)
    assert (done.returncode, done.stdout, done.stderr) == (6, b"for the cat\n", b"")


def test_a_script_may_have_a_terminal(linux: list[str]) -> None:
    done = boot(*linux, "--fresh", "--tty", "--timeout", "280", timeout=LINUX, stdin=None, input=b"cat\nfor the cat\n")
    assert done.returncode == 0, done.stdout
    assert done.stdout.count(b"for the cat") == 2  # echoed, and copied
    assert b"corral: init" in done.stdout
    assert b"corral: Linux" in done.stderr
