"""corral.Sandbox and its asynchronous twin."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

import corral
from corral.agent.connection import Refused
from corral.running import place
from corral.script.process import CommandFailed
from corral.script.sandbox import Sandbox
from tests.support.named_guest import skip_without_kernel
from tests.support.tiny_guests import tiny_guest


@pytest.fixture(scope="module", autouse=True)
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    skip_without_kernel()
    folder = tmp_path_factory.mktemp("s")
    folder.chmod(0o700)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(folder))
        yield
        assert place.every() == []


@pytest.fixture(scope="module")
def box(small: None) -> Iterator[Sandbox]:
    with corral.Sandbox(memory="256M") as box:
        yield box


def test_a_command(box: Sandbox) -> None:
    done = box.run("echo out; echo err >&2; exit 3")
    assert (done.stdout, done.stderr, done.returncode, done.ok) == ("out\n", "err\n", 3, False)
    assert 0 < done.duration < 60
    with pytest.raises(CommandFailed, match="ended with 3: err"):
        box.run("echo err >&2; exit 3", check=True)


def test_a_program_with_input_variables_and_a_folder(box: Sandbox) -> None:
    done = box.run(["sh", "-c", 'cat; echo "$A" "$PWD"'], input="in ", env={"A": "b c"}, cwd="/tmp")
    assert done.stdout == "in b c /tmp\n"


def test_lines_come_as_they_are_written(box: Sandbox) -> None:
    lines = box.run("echo one; sleep 0.5; printf two", stream=True)
    began = time.monotonic()
    assert next(lines) == "one"
    first = time.monotonic() - began
    assert list(lines) == ["two"]
    assert time.monotonic() - began - first > 0.3


def test_a_process(box: Sandbox) -> None:
    with box.popen(["cat"]) as process:
        process.write("hello\n")
        assert next(iter(process)) == "hello"
        assert process.poll() is None
        assert "running" in repr(process)
        process.terminate()
        assert process.wait(20) == -signal.SIGTERM
    with box.popen(["sleep", "100"]) as process, pytest.raises(corral.GuestTimeout):
        process.wait(0.1)
    with pytest.raises(Refused, match="No such file"):
        box.popen(["/nosuch"])
    with pytest.raises(corral.GuestTimeout, match="was killed"):
        box.run("sleep 100", timeout=0.2)


def test_files(box: Sandbox, tmp_path: Path) -> None:
    data = os.urandom(300_000)
    box.files.mkdir("/tmp/a/b")
    box.files.write("/tmp/a/b/c", data, mode=0o600)
    box.files.write("/tmp/a/b/c", b"more", append=True)
    assert box.files.read("/tmp/a/b/c") == data + b"more"
    about = box.files.stat("/tmp/a/b/c")
    assert (about.size, about.mode & 0o7777, about.uid) == (300_004, 0o600, 0)
    assert [one.name for one in box.files.list("/tmp/a")] == ["b"]
    assert box.files.download("/tmp/a", tmp_path / "a") == 300_004
    box.files.upload(tmp_path / "a", "/tmp/again")
    assert box.run("cmp /tmp/a/b/c /tmp/again/b/c").ok
    with pytest.raises(Refused, match="not empty"):
        box.files.remove("/tmp/a")
    box.files.remove("/tmp/a/b/c")
    with pytest.raises(Refused, match="No such file"):
        box.files.read("/tmp/a/b/c")


def test_mounts(box: Sandbox) -> None:
    box.files.mount("none", "/tmp/m/here", "tmpfs", options="size=64k")
    with pytest.raises(Refused, match="No space left"):
        box.files.write("/tmp/m/here/x", bytes(100_000))
    box.files.unmount("/tmp/m/here")
    assert box.files.list("/tmp/m/here") == []
    box.files.mount("none", "/tmp/m/here", "tmpfs", read_only=True)
    with pytest.raises(Refused, match="Read-only"):
        box.files.write("/tmp/m/here/x", b"")
    box.files.unmount("/tmp/m/here")
    for wrong in ("nosuch", ""):
        with pytest.raises(Refused, match=r"mount it: (No such device|Invalid argument)"):
            box.files.mount("none", "/tmp/m/here", wrong)


def test_a_port(box: Sandbox) -> None:
    box.run("mkdir -p /www; echo page >/www/index.html; httpd -p 8080 -h /www")
    url = box.port(8080)
    assert box.port(8080) == url
    with urllib.request.urlopen(f"{url}/index.html", timeout=20) as answer:
        assert answer.read() == b"page\n"


def test_it_ends_with_close_and_says_so() -> None:
    box = corral.Sandbox(name="named")
    guest = place.find("named")
    assert guest.runs
    assert "named" in repr(box)
    box.close()
    box.close()
    assert not place.find("named").runs
    place.remove(place.find("named"))
    with pytest.raises(corral.ClosedError):
        box.run("true")


def test_it_ends_with_its_process_however_that_ends() -> None:
    script = "import corral, time; box = corral.Sandbox(name='orphan'); print('up', flush=True); time.sleep(100)"
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert process.stdout
    assert process.stdout.readline() == b"up\n"
    guest = place.find("orphan")
    process.kill()
    process.communicate()
    assert guest.wait(time.monotonic() + 20)
    place.remove(guest)


def test_one_that_cannot_start() -> None:
    with pytest.raises(corral.CorralError, match="nosuch"):
        corral.Sandbox("/nosuch")
    with pytest.raises(corral.GuestError, match="ended before its agent answered"):
        corral.Sandbox(str(tiny_guest("reset")))
    for guest in place.every():
        place.remove(guest)


def test_the_asynchronous_twin() -> None:
    import corral.aio

    async def work() -> tuple[list[str], list[str]]:
        async with corral.aio.Sandbox(memory="256M") as box:
            done = await asyncio.gather(*(box.run(f"echo {number}") for number in range(5)))
            lines = [line async for line in box.stream("echo a; echo b")]
            return [one.stdout for one in done], lines

    assert asyncio.run(work()) == ([f"{number}\n" for number in range(5)], ["a", "b"])


def test_the_fixture(sandbox: Sandbox) -> None:
    assert sandbox.run("echo $((6*7))").stdout == "42\n"
