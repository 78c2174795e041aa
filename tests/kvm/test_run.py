"""corral run: a container image as a guest, which behaves as people know it of docker run."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

import corral
from corral.arch.x86_64.supervisor import Supervisor, supervisor_mode
from corral.guests import container, initramfs
from tests.support.named_guest import Guests, skip_without_kernel

APPLETS = ("sh", "ls", "cat", "echo", "true", "id", "env", "hostname", "sleep", "kill", "head", "touch", "pwd", "mount")
APPLETS += ("tr", "test", "nproc", "grep", "dd", "httpd")
PASSWD = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34:web:/srv:/bin/sh\n"
GROUP = "root:x:0:\nweb:x:34:\nextra:x:50:web\n"


@pytest.fixture(scope="module", autouse=True)
def small() -> None:
    skip_without_kernel()


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("image")
    root = folder / "root"
    for name in ("bin", "etc", "srv"):
        (root / name).mkdir(parents=True)
    (root / "bin/busybox").write_bytes(initramfs.busybox())
    (root / "bin/busybox").chmod(0o755)
    for name in APPLETS:
        (root / "bin" / name).symlink_to("busybox")
    (root / "etc/passwd").write_text(PASSWD)
    (root / "etc/group").write_text(GROUP)
    (root / "etc/resolv.conf").symlink_to("../run/nowhere/resolv.conf")
    (root / "srv/no-program").write_text("no program\n")
    container.initramfs_path(print)  # what the first run tells of would be among what it says
    made = folder / "image.erofs"
    subprocess.run(["mkfs.erofs", made, root], check=True, capture_output=True)
    return str(made)


@pytest.fixture
def guests() -> Iterator[Guests]:
    made = Guests(Path(tempfile.mkdtemp(prefix="r")))  # short: sockets have a path in there
    yield made
    made.close()
    shutil.rmtree(made.folder.parent)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Guests:
    return Guests(tmp_path_factory.mktemp("r"))


def output(done: subprocess.CompletedProcess[bytes]) -> str:
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def test_streams_are_apart_and_the_status_is_the_commands(shared: Guests, image: str) -> None:
    done = shared.run("run", image, "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.stdout, done.stderr, done.returncode) == (b"out\n", b"err\n", 7)


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("nothing-there",), 127, "nothing-there: there is no such program"),
        (("/srv/no-program",), 126, "/srv/no-program: it is no program"),
        (("-u", "nobody-here", "IMAGE", "true"), 126, "no such user"),
        (("-u", "web:nobodies", "IMAGE", "true"), 126, "no such group"),
        (("sh", "-c", "kill -9 $$"), 137, ""),
        (("sh", "-c", "kill -TERM $$"), 143, ""),
        (("--nonsense", "IMAGE"), 125, "no option"),
        (("--memory", "1", "IMAGE", "true"), 125, "memory"),
    ],
)
def test_exit_statuses_are_dockers(shared: Guests, image: str, words: tuple[str, ...], status: int, said: str) -> None:
    given = [image if word == "IMAGE" else word for word in words]
    done = shared.run("run", *(given if image in given else [image, *given]))
    assert done.returncode == status, done.stderr.decode()
    assert said in done.stderr.decode()
    assert done.stderr.decode().count("\n") <= 1


@pytest.mark.parametrize(
    ("user", "who"),
    [
        ("", "uid=0(root) gid=0(root) groups=0(root)"),
        ("web", "uid=33(web) gid=34(web) groups=34(web),50(extra)"),
        ("33", "uid=33(web) gid=34(web) groups=34(web),50(extra)"),
        ("web:extra", "uid=33(web) gid=50(extra) groups=50(extra)"),
        ("1234", "uid=1234 gid=0(root) groups=0(root)"),
        ("1234:4321", "uid=1234 gid=4321 groups=4321"),
    ],
)
def test_users_are_of_the_image(shared: Guests, image: str, user: str, who: str) -> None:
    assert output(shared.run("run", *(("-u", user) if user else ()), image, "id")).strip() == who


def test_another_user_may_open_the_streams_again(shared: Guests, image: str) -> None:
    done = shared.run("run", "-u", "web", image, "sh", "-c", "echo out >/dev/stdout; echo err >/dev/stderr")
    assert (done.stdout, done.stderr) == (b"out\n", b"err\n")


def test_environment_folder_and_names(shared: Guests, image: str) -> None:
    script = (
        "echo $A $HOME $HOSTNAME; pwd; hostname; cat /etc/hostname; grep -c box-1 /etc/hosts; cat /dev/null; ls /etc"
    )
    done = shared.run(
        "run", "-e", "A=b c", "-w", "/new/one", "--hostname", "box-1", "-u", "web", image, "sh", "-c", script
    )
    assert output(done).splitlines()[:5] == ["b c /srv box-1", "/new/one", "box-1", "box-1", "1"]


def test_input_is_the_commands_if_it_is_asked_for(shared: Guests, image: str) -> None:
    data = os.urandom(300_000)
    assert shared.run("run", "-i", image, "cat", input=data).stdout == data
    assert shared.run("run", image, "cat", input=b"not read").stdout == b""


def test_a_terminal_with_t(shared: Guests, image: str) -> None:
    assert output(shared.run("run", "-t", image, "sh", "-c", "test -t 1 && echo $TERM")).strip() == "xterm"


def test_what_is_written_is_gone_unless_it_is_kept(guests: Guests, image: str) -> None:
    name = f"test-{os.getpid()}"
    for words, there in (((), "none"), (("--keep", name), "none"), (("--keep", name), "kept"), ((), "none")):
        script = "cat /srv/x 2>/dev/null || echo none; echo kept >/srv/x"
        assert output(guests.run("run", *words, "--disk-size", "16M", image, "sh", "-c", script)).strip() == there


def test_no_more_is_written_than_the_disk_has(shared: Guests, image: str) -> None:
    script = "dd if=/dev/zero of=/srv/x bs=1000000 count=30; echo status $?"
    done = shared.run("run", "--disk-size", "16M", image, "sh", "-c", script)
    assert done.stdout == b"status 1\n"
    assert b"No space left" in done.stderr


def test_read_only_but_for_memory(shared: Guests, image: str) -> None:
    script = "touch /x; touch /fast/y && ls /fast; mount | grep /fast"
    done = shared.run("run", "--read-only", "--tmpfs", "/fast:size=4m", image, "sh", "-c", script)
    assert done.stdout.startswith(b"y\n")
    assert b"size=4096k" in done.stdout
    assert b"Read-only file system" in done.stderr


def test_folders_of_the_host(shared: Guests, image: str, tmp_path: Path) -> None:
    first, second = tmp_path / "one", tmp_path / "two"
    for folder in (first, second):
        folder.mkdir()
        (folder / "file").write_text(folder.name)
    script = "cat /a/b/file /two/file; echo new >/a/b/new; echo no >/two/new"
    done = shared.run("run", "-v", f"{first}:/a/b", "-v", f"{second}:/two:ro", image, "sh", "-c", script)
    assert done.stdout == b"onetwo"
    assert b"Read-only" in done.stderr
    assert (first / "new").read_text() == "new\n"
    assert not (second / "new").exists()


def test_signals_go_to_the_command(shared: Guests, image: str) -> None:
    script = "trap 'echo got it; exit 9' TERM; echo ready; while :; do sleep 0.05; done"
    with shared.start("run", image, "sh", "-c", script) as process:
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == b"got it\n"
        assert process.wait(timeout=60) == 9


def test_the_third_signal_ends_a_command_that_takes_none(shared: Guests, image: str) -> None:
    with shared.start("run", image, "sh", "-c", "trap '' INT; echo ready; while :; do sleep 0.05; done") as process:
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
        for _ in range(3):
            assert process.poll() is None
            process.send_signal(signal.SIGINT)
            time.sleep(0.3)
        assert process.wait(timeout=60) == 130


def test_in_the_background_with_all_that_finds_it(guests: Guests, image: str, tmp_path: Path) -> None:
    script = "trap 'echo bye; exit 5' TERM; echo started; echo oh >&2; while :; do sleep 0.05; done"
    assert output(guests.run("run", "-d", "--name", "web", image, "sh", "-c", script)) == "web\n"
    assert output(guests.exec("web", "cat", "/etc/hostname")) == "web\n"
    (tmp_path / "file").write_text("content")
    output(guests.run("cp", str(tmp_path / "file"), "web:/srv/file"))
    assert output(guests.exec("web", "cat", "/srv/file")) == "content"
    assert b"run " in guests.run("ps").stdout
    assert guests.run("stop", "web").returncode == 0
    assert guests.run("wait", "web").returncode == 5
    assert output(guests.run("logs", "web")) == "started\noh\nbye\n"


def test_a_guest_in_the_background_has_a_name_of_its_image(guests: Guests, image: str) -> None:
    name = output(guests.run("run", "-d", image, "echo", "hello")).strip()
    assert name.startswith("imageerofs-")
    assert guests.run("wait", name).returncode == 0
    assert output(guests.run("logs", name)) == "hello\n"


def test_more_output_than_a_log_keeps_ends_all_the_same(guests: Guests, image: str) -> None:
    output(guests.run("run", "-d", "--name", "much", image, "sh", "-c", "head -c 3000000 /dev/zero; echo end"))
    assert guests.run("wait", "much").returncode == 0
    assert guests.run("logs", "much").stdout.endswith(b"end\n")


def test_a_published_port_leads_there(guests: Guests, image: str) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    script = "cat /etc/resolv.conf; httpd -f -h /etc"
    output(guests.run("run", "-d", "--name", "net", "-p", f"{port}:80", image, "sh", "-c", script))
    deadline, data = time.monotonic() + 60, b""
    while not data and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/passwd", timeout=5) as answer:
                data = answer.read()
        except OSError:
            time.sleep(0.1)
    assert data.decode() == PASSWD
    assert guests.run("kill", "net").returncode == 0
    assert output(guests.run("logs", "net")).startswith("nameserver 10.0.2.3\n")


def test_cpus_and_memory(shared: Guests, image: str) -> None:
    script = "nproc; head -n 1 /proc/meminfo"
    lines = output(shared.run("run", "--cpus", "2", "-m", "256m", image, "sh", "-c", script)).split()
    assert lines[0] == "2"
    assert 200_000 < int(lines[2]) < 262_144


@pytest.mark.skipif(
    supervisor_mode().supervisor is not Supervisor.NATIVE, reason="this KVM does not run a guest's kernel natively"
)
def test_the_second_start_goes_on_from_the_first(shared: Guests, image: str) -> None:
    first = shared.run("run", "--stats", "--memory", "300M", image, "true")
    deadline = time.monotonic() + 60
    again = first
    while b"start: went on" not in again.stderr and time.monotonic() < deadline:
        again = shared.run("run", "--stats", "--memory", "300M", image, "sh", "-c", "echo mine >/srv/x; cat /srv/x")
    assert b"start: booted" in first.stderr
    assert b"start: went on" in again.stderr
    assert again.stdout == b"mine\n"


def test_a_sandbox_of_an_image_has_its_files_and_options(image: str) -> None:
    with corral.Sandbox(image=image, memory="128M", options=["--read-only", "--tmpfs", "/run"]) as box:
        assert box.run(["cat", "/srv/no-program"]).stdout == "no program\n"
        assert box.run(["touch", "/srv/file"]).returncode == 1
        box.files.write("/run/file", b"kept")
        (fork,) = box.fork()
        with fork:
            assert fork.files.read("/run/file") == b"kept"


def test_a_sandbox_has_a_system_or_an_image() -> None:
    with pytest.raises(corral.ConfigError, match="a system, a snapshot or an image"):
        corral.Sandbox("debian", image="python:3.12")
