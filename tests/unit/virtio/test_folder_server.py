"""The life of a shared folder's server, and its jail."""

from __future__ import annotations

import os
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from corral.backends import folder_server
from corral.backends.folder_server import FolderServer
from corral.config import ShareConfig
from corral.errors import ConfigError, HostError
from csrc import build_ffi
from tests.support.p9_client import Client, string

SOURCE = Path(__file__).parents[2] / "support" / "jail_attempts.c"


def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """A shell's script in the server's place."""
    path = tmp_path / "server"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setattr(folder_server, "PROGRAM", str(path))


# --- its life ---


def test_nothing_of_it_is_left(tmp_path: Path) -> None:
    def left() -> tuple[int, str]:
        tasks = os.listdir("/proc/self/task")
        return len(os.listdir("/proc/self/fd")), "".join(
            Path(f"/proc/self/task/{task}/children").read_text() for task in tasks
        )

    Client(tmp_path).close()
    before = left()
    for _ in range(20):
        with Client(tmp_path, writable=True) as client:
            client.at()
    assert left() == before


def test_a_server_that_does_not_end_is_killed(tmp_path: Path) -> None:
    """By its warden: a VMM in its jail may signal no process."""
    client = Client(tmp_path)
    pid = served_by(client)
    os.kill(pid, signal.SIGSTOP)
    client.socket.close()
    client.server.close(20)
    assert client.server.complaints == []
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_one_without_namespaces_is_watched_over_too(tmp_path: Path) -> None:
    """Of a user who may have no user namespace, as in many containers."""
    if os.geteuid() != 0:
        pytest.skip("root alone takes them away")
    script = """
import ctypes, os, signal, sys
from encodings import ascii, utf_8
sys.path.insert(0, os.getcwd())
from corral.backends import folder_server
from tests.unit.virtio import test_folder_server as tests
folder_server.PROGRAM = sys.argv[2]
ready, go = os.pipe(), os.pipe()
child = os.fork()
if child:
    os.close(ready[1])
    if not os.read(ready[0], 1):  # it has ended
        sys.exit(1)
    for name in ("uid_map", "gid_map"):
        with open(f"/proc/{child}/{name}", "w") as file:
            file.write("0 0 65536")
    os.write(go[1], b"x")
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
assert ctypes.CDLL(None).unshare(0x10000000) == 0, "no user namespace"  # CLONE_NEWUSER
os.write(ready[1], b"x")
os.read(go[0], 1)
with open("/proc/sys/user/max_user_namespaces", "w") as file:
    file.write("0")
os.setgroups([])
os.setgid(4242)
os.setuid(4242)
os.chdir("/")
facts = folder_server.jail()
client = tests.Client(sys.argv[1])
pid = tests.served_by(client)
client.entries(client.open(client.at()))
os.kill(pid, signal.SIGSTOP)
client.socket.close()
client.server.close(20)
print(facts.namespaces, pid != client.server._process, os.path.exists(f"/proc/{pid}"))
"""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        server = Path(folder, "server")
        server.write_bytes(Path(folder_server.PROGRAM).read_bytes())
        server.chmod(0o755)
        command = [sys.executable, "-c", script, folder, str(server)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if "no user namespace" in done.stderr:
        pytest.skip("this host has no user namespaces to take away")
    assert done.stdout.split() == ["False", "True", "False"], done.stderr


def test_a_new_session_waits_for_all_that_was_asked_before(tmp_path: Path) -> None:
    """So what a reset leaves behind can be told by counting; and no fid is left."""
    with Client(tmp_path, writable=True) as client:
        fid = client.create(b"long")
        for index in range(8):
            body = struct.pack("<IQI", fid, index << 20, 60_000) + bytes(60_000)
            client.send(118, body, tag=index)
            client.send(50, struct.pack("<II", fid, 0), tag=100 + index)
        client.send(100, struct.pack("<I", 65536) + string(b"9P2000.L"), tag=1000)
        client.send(24, struct.pack("<IQ", fid, 0x7FF), tag=1001)
        answers = [client.receive() for _ in range(18)]
    assert sorted(tag for _, tag, _ in answers[:16]) == [*range(8), *range(100, 108)]
    assert [(kind, tag) for kind, tag, _ in answers[16:]] == [(101, 1000), (7, 1001)]


def test_a_server_ends_with_the_vmm(tmp_path: Path) -> None:
    """Killed, it can tell its servers nothing."""
    script = (
        "import sys, time; from corral.config import ShareConfig;"
        "from corral.backends.folder_server import FolderServer;"
        "server = FolderServer(ShareConfig(sys.argv[1])); print(server._process, flush=True); time.sleep(600)"
    )
    vmm = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert vmm.stdout
    end = os.pidfd_open(int(vmm.stdout.readline()))
    vmm.kill()
    vmm.wait()
    vmm.stdout.close()
    poll = select.poll()
    poll.register(end, select.POLLIN)
    assert poll.poll(20_000)
    os.close(end)


def test_what_the_server_complains_of_is_kept_and_harmless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, monkeypatch, r"printf 'a\033]0;\007b\n\none line\none line\n' >&2; exec sleep 0")
    server = FolderServer(ShareConfig(str(tmp_path)))
    server.close(20)
    assert server.complaints == [r"'a\x1b]0;\x07b'", "one line"]


def test_a_server_that_crashes_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, monkeypatch, "kill -SEGV $$")
    server = FolderServer(ShareConfig(str(tmp_path)))
    server.close(20)
    assert server.complaints == ["its server crashed (Segmentation fault)"]


def test_a_device_that_talks_nonsense_is_told_of(tmp_path: Path) -> None:
    for content in (struct.pack("<IBH", 6, 100, 1), struct.pack("<IBH", 1 << 30, 100, 1)):
        server = FolderServer(ShareConfig(str(tmp_path)))
        with socket.socket(fileno=os.dup(server.fd)) as line:
            line.settimeout(20)
            line.sendall(content)
            assert line.recv(1) == b""
        server.close()
        assert server.complaints == ["it was sent a message of an impossible length"]


def test_a_server_that_cannot_run_here_is_told_before_a_boot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder_server.try_out(ShareConfig(str(tmp_path)))
    program(tmp_path, monkeypatch, "echo 'it needs Linux 5.8 or newer' >&2; exit 1")
    with pytest.raises(HostError, match=r"does not run here: it needs Linux 5\.8"):
        folder_server.try_out(ShareConfig(str(tmp_path)))


def test_folders_that_cannot_be_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="is no folder"):
        ShareConfig(str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="tag"):
        ShareConfig(str(tmp_path), tag="")
    share = ShareConfig(str(tmp_path))
    monkeypatch.setattr(folder_server, "PROGRAM", str(tmp_path / "none"))
    with pytest.raises(HostError, match=r"none is missing.*make venv"):
        FolderServer(share)


def test_a_folder_that_has_gone_since(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    share = ShareConfig(str(folder))
    folder.rmdir()
    with pytest.raises(HostError, match=r"cannot start the server of '.*folder': No such file"):
        FolderServer(share)


# --- its jail ---


def status_of(thread: Path) -> dict[str, str]:
    return dict(line.split(":\t", 1) for line in (thread / "status").read_text().splitlines())


def served_by(client: Client) -> int:
    """The process that serves: a child of the one that was started, where namespaces are possible."""
    pid = client.server._process
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(children[0]) if children else pid


@pytest.mark.parametrize("writable", [False, True])
def test_it_serves_with_no_right_that_it_does_not_need(tmp_path: Path, writable: bool) -> None:
    facts = folder_server.jail()
    with Client(tmp_path, writable=writable) as client:
        client.at()
        pid = served_by(client)
        threads = [status_of(path) for path in Path(f"/proc/{pid}/task").iterdir()]
        assert len(threads) == 8
        for status in threads:
            assert status["NoNewPrivs"] == "1"
            assert int(status["CapEff"], 16) & ~(0b11001111 if writable else 0b100) == 0
            assert int(status["CapBnd"], 16) == 0
            assert int(status["Seccomp"]) == (2 if facts.filter else 0)
        if os.geteuid() != 0:
            return  # it is closed to its own user
        for name in ("mnt", "net", "pid", "ipc", "uts", "cgroup"):
            apart = os.readlink(f"/proc/{pid}/ns/{name}") != os.readlink(f"/proc/self/ns/{name}")
            assert apart == facts.namespaces, name
        if facts.own_root:
            assert os.path.samestat(os.stat(f"/proc/{pid}/root/"), os.stat(tmp_path))
        open_files = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
        assert all(name.startswith(("/dev/null", "pipe:", "socket:", "/", "net:")) for name in open_files)
        assert len(open_files) <= 8


def test_what_its_jail_is_made_of_here_is_told() -> None:
    facts = folder_server.jail()
    assert facts.filter or b"__asan_init" in Path(folder_server.PROGRAM).read_bytes()
    assert facts.landlock >= 0
    assert str(facts.landlock) in facts.text or not facts.landlock


# What a server that was taken over might try, and the errors of the layers below the filter of system calls. `None`:
# nothing is below it, and it does no harm.
ATTEMPTS = [
    "open a file outside",
    "open by the way up",
    "open by the socket's way",
    "open the host's processes",
    "run a program",
    "make a socket",
    "make a process",
    "mount",
    "enter a namespace",
    "leave the root",
    "become another user",
    "trace",
    "kill the vmm",
    "executable memory",
    "io_uring",
    "a device",
    "a set-uid file",
    "a set-uid bit",
    "bpf",
    "open by handle",
    "a kernel's log",
    "change the host's name",
]


@pytest.fixture(scope="module")
def attempts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program that is in a server's jail and tries one of them; with "bare" it has no filter."""
    folder = tmp_path_factory.mktemp("attempts")
    sources = [
        build_ffi.SERVER_SOURCES / f"{name}.c"
        for name in ("namespaces", "warden", "landlock", "capabilities", "filter")
    ]
    command = ["gcc", "-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", f"-I{build_ffi.SERVER_SOURCES}"]
    subprocess.run([*command, *map(str, [SOURCE, *sources]), "-o", str(folder / "attempts")], check=True)
    return folder / "attempts"


def attempt(program: Path, folder: Path, mode: str, what: str, layers: str) -> subprocess.CompletedProcess[str]:
    fd = os.open(folder, os.O_PATH)
    try:
        words = [str(program), mode, str(fd), str(ATTEMPTS.index(what)), layers]
        return subprocess.run(words, pass_fds=[fd], capture_output=True, text=True, timeout=60, check=False)
    finally:
        os.close(fd)


@pytest.mark.parametrize("mode", ["ro", "rw"])
@pytest.mark.parametrize("what", ATTEMPTS)
def test_a_server_that_is_taken_over_gets_nowhere(attempts: Path, tmp_path: Path, what: str, mode: str) -> None:
    (tmp_path / "secret").write_text("secret")
    folder = tmp_path / "folder"
    folder.mkdir()
    done = attempt(attempts, folder, mode, what, "all")
    assert done.stdout in ("", "refused\n"), done.stderr
    assert done.returncode == -signal.SIGSYS or done.stdout == "refused\n", done.stderr
    assert list(folder.iterdir()) == [] or what == "a set-uid bit"
    assert not any(path.stat().st_mode & 0o6000 for path in folder.iterdir())


@pytest.mark.parametrize("mode", ["ro", "rw"])
@pytest.mark.parametrize("what", [what for what in ATTEMPTS if what.startswith(("open ", "enter", "mount", "leave"))])
def test_without_the_filter_the_other_layers_hold(attempts: Path, tmp_path: Path, what: str, mode: str) -> None:
    facts = folder_server.jail()
    if not (facts.own_root and facts.landlock):
        pytest.skip("no namespaces or no Landlock here")
    (tmp_path / "secret").write_text("secret")
    folder = tmp_path / "folder"
    folder.mkdir()
    done = attempt(attempts, folder, mode, what, "bare")
    assert (done.returncode, done.stdout) == (0, "refused\n"), done.stderr


def test_what_is_tried_works_without_a_jail(attempts: Path, tmp_path: Path) -> None:
    """Else the tests above would show nothing."""
    if os.geteuid() != 0 or subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode:
        pytest.skip("root alone may do most of it, in namespaces where it does no harm")
    mounts = Path("/proc/self/mountinfo").read_text()
    (tmp_path / "secret").write_text("secret")
    folder = tmp_path / "folder"
    folder.mkdir()
    works = [what for what in ATTEMPTS if attempt(attempts, folder, "rw", what, "none").stdout == "done\n"]
    # A container's root may lack some.
    least = {"open a file outside", "open by the way up", "run a program", "make a socket", "make a process"}
    assert least | {"executable memory", "a set-uid file", "a set-uid bit", "become another user"} <= set(works)
    assert Path("/proc/self/mountinfo").read_text() == mounts


# --- as whom it serves ---


def owners(folder: str) -> tuple[int, int, bytes]:
    """Of a file that is made by a guest's root, and what is written there."""
    with Client(folder, writable=True, user=0) as client:
        fid = client.create(b"made")
        client.write(fid, b"content")
        client.setattr(fid, 6, uid=0, gid=0)
        try:
            client.setattr(fid, 2, uid=1000)
        except PermissionError:
            about = client.getattr(client.at("made"))
            return about.uid, about.gid, client.read(fid)
    raise AssertionError("a user's server gave a file away")


def test_a_user_who_is_not_root_is_the_guest_s_root(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        assert owners(str(tmp_path)) == (0, 0, b"content")
        return
    script = (
        "import os, sys, pathlib; from encodings import ascii, utf_8; sys.path.insert(0, os.getcwd());"
        "from corral.backends import folder_server; from tests.unit.virtio import test_folder_server as tests;"
        "folder_server.PROGRAM = sys.argv[2];"
        "os.setgroups([]); os.setgid(4242); os.setuid(4242); os.chdir('/');"
        "print(tests.owners(sys.argv[1]), os.stat(sys.argv[1] + '/made').st_uid)"
    )
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        server = Path(folder, "server")
        server.write_bytes(Path(folder_server.PROGRAM).read_bytes())
        server.chmod(0o755)
        shared = Path(folder, "shared")
        shared.mkdir()
        os.chown(shared, 4242, 4242)
        done = subprocess.run(
            [sys.executable, "-c", script, str(shared), str(server)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.stdout.strip() == "(0, 0, b'content') 4242", done.stderr


def test_fids_are_as_many_as_there_may_be(tmp_path: Path) -> None:
    """Each costs the host a descriptor; the limit is this process's own, which the server has too."""
    script = (
        "import resource, sys; from tests.support.p9_client import Client, ROOT;"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (300, 300)); client = Client(sys.argv[1]);"
        "count = 0\ntry:\n while True:\n  client.walk(ROOT, 1000 + count); count += 1\n"
        "except OSError as error: print(count, error.strerror)\n"
        "client.clunk(1000); client.walk(ROOT, 1000); client.close()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.strip() == "235 Too many open files in system", done.stderr
