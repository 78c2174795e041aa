"""corral api with a guest: started, asked, paused, saved and gone on with by HTTP, as curl would; and how it ends."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from corral.guests import initramfs, kernel
from tests.support.named_guest import skip_without_kernel

LONG = 120.0


@pytest.fixture(scope="module", autouse=True)
def small() -> None:
    skip_without_kernel()


class Api:
    """A process of `corral api`, in a folder of its own."""

    def __init__(self, folder: Path, *words: str, command: tuple[str, ...] = ("api", "--socket")) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder, self.socket = folder, str(folder / "s")
        self.environment = os.environ | {"XDG_RUNTIME_DIR": str(folder)}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "corral", *command, self.socket, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.environment,
        )
        end = time.monotonic() + LONG
        while not os.path.exists(self.socket):
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < end
            time.sleep(0.01)

    def ask(self, method: str, path: str, body: Any = None, expect: int = 204) -> Any:
        connection = http.client.HTTPConnection("localhost")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(LONG)
        connection.sock.connect(self.socket)
        connection.request(method, path, None if body is None else json.dumps(body))
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        assert answer.status == expect, content
        return json.loads(content) if content else None

    def start(self, *, vsock: bool = True) -> None:
        self.ask("PUT", "/machine-config", {"vcpu_count": 1, "mem_size_mib": 128})
        words = "console=ttyS0 reboot=k panic=1 pci=off corral.agent=1"
        images = {"kernel_image_path": small_kernel(), "initrd_path": initramfs.path()}
        self.ask("PUT", "/boot-source", images | {"boot_args": words})
        if vsock:
            self.ask("PUT", "/vsock", {"guest_cid": 3, "uds_path": str(self.folder / "v")})
        self.ask("PUT", "/actions", {"action_type": "InstanceStart"})

    def run(self, *command: str) -> Any:
        """The agent may not be there yet."""
        return self.ask("PUT", "/corral/exec", {"command": list(command)}, 200)

    def close(self) -> tuple[int, str]:
        if self.process.poll() is None:
            self.process.terminate()
        _, errors = self.process.communicate(timeout=LONG)
        return self.process.returncode, errors.decode()


def small_kernel() -> str:
    return next(one.path for one in kernel.ready() if one.name == kernel.SMALL)


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    one = Api(tmp_path / "a", "--id", "web")
    yield one
    _, errors = one.close()
    assert "Traceback" not in errors
    assert not os.path.exists(one.socket)


def test_a_guest_boots_runs_a_command_is_saved_and_goes_on(api: Api, tmp_path: Path) -> None:
    api.start()
    assert api.run("echo out; echo err >&2; exit 3") == {
        "status": 3,
        "stdout": "out\n",
        "stderr": "err\n",
        "out_of_time": False,
        "too_much": False,
    }
    assert api.ask("GET", "/corral/stats", expect=200)["exits"] > 0
    assert "corral: init" in api.ask("GET", "/corral/console", expect=200)["text"]
    api.run("echo kept >/tmp/file || echo kept >/file")
    files = {"snapshot_path": str(tmp_path / "snapshot"), "mem_file_path": str(tmp_path / "memory")}
    api.ask("PUT", "/snapshot/create", files, 400)
    api.ask("PATCH", "/vm", {"state": "Paused"})
    assert api.ask("GET", "/", expect=200)["state"] == "Paused"
    api.ask("PUT", "/snapshot/create", files)
    api.ask("PATCH", "/vm", {"state": "Resumed"})
    assert api.run("cat /tmp/file /file 2>/dev/null; true")["stdout"] == "kept\n"

    other = Api(tmp_path / "b")
    try:
        load = {"snapshot_path": files["snapshot_path"], "vsock_override": {"uds_path": str(tmp_path / "b" / "v")}}
        memory = {"backend_type": "File", "backend_path": files["mem_file_path"]}
        other.ask("PUT", "/snapshot/load", load | {"mem_backend": memory})
        assert other.ask("GET", "/", expect=200)["state"] == "Paused"
        assert other.ask("GET", "/vm/config", expect=200)["machine-config"]["mem_size_mib"] == 128
        other.ask("PATCH", "/vm", {"state": "Resumed"})
        assert other.run("cat /tmp/file /file 2>/dev/null; true")["stdout"] == "kept\n"
    finally:
        status, errors = other.close()
    assert (status, errors.strip()) == (143, "")
    assert not os.path.exists(tmp_path / "b" / "v")
    assert [one.name for one in (tmp_path / "b" / "corral").iterdir()] == []  # a guest without a name leaves nothing


def test_commands_find_a_guest_by_its_id(api: Api) -> None:
    api.start()
    done = subprocess.run(
        [sys.executable, "-m", "corral", "exec", "web", "--", "uname"],
        capture_output=True,
        env=api.environment,
        timeout=LONG,
    )
    assert done.stdout == b"Linux\n"


def test_the_process_ends_with_its_guest(api: Api) -> None:
    api.start()
    api.run("true")
    api.ask("PUT", "/corral/exec", {"command": ["reboot -f"], "timeout_s": 5}, 400)
    assert api.process.wait(LONG) == 0


def test_a_kernel_that_is_none_is_a_fault_and_another_can_be_named(api: Api, tmp_path: Path) -> None:
    wrong = tmp_path / "vmlinux"
    wrong.write_bytes(bytes(4096))
    api.ask("PUT", "/boot-source", {"kernel_image_path": str(wrong)})
    said = api.ask("PUT", "/actions", {"action_type": "InstanceStart"}, 400)["fault_message"]
    assert str(wrong) in said
    api.start(vsock=False)
    assert api.ask("GET", "/", expect=200)["state"] == "Running"


def test_the_guests_process_is_in_the_jail_and_ends_with_the_apis(tmp_path: Path) -> None:
    api = Api(tmp_path / "a", "--id", "web")
    api.start()
    api.run("true")
    pid = json.loads((tmp_path / "a" / "corral" / "web" / "about.json").read_text())["pid"]
    status = Path(f"/proc/{pid}/status").read_text()
    assert "Seccomp:\t2" in status
    assert status.startswith("Name:\tcorral-guest\n")
    api.process.send_signal(signal.SIGKILL)
    api.process.wait()
    end = time.monotonic() + LONG
    while os.path.exists(f"/proc/{pid}"):
        assert time.monotonic() < end
        time.sleep(0.02)
    api.close()


def test_a_link_called_firecracker_takes_its_command_line(tmp_path: Path) -> None:
    program = tmp_path / "firecracker"
    corral = Path(sys.executable).parent / "corral"
    if not corral.exists():
        pytest.skip("the command corral is not installed beside this Python")
    program.symlink_to(corral)
    said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=LONG)
    assert said.stdout.startswith("Firecracker v1.")
    (tmp_path / "vm.json").write_text(
        json.dumps({"boot-source": {"kernel_image_path": small_kernel(), "boot_args": "console=ttyS0 panic=-1"}})
    )
    done = subprocess.run(
        [program, "--no-api", "--config-file", tmp_path / "vm.json", "--id", "x"],
        capture_output=True,
        timeout=LONG,
        stdin=subprocess.DEVNULL,
        env=os.environ | {"XDG_RUNTIME_DIR": str(tmp_path)},
    )
    assert b"Kernel panic" in done.stdout  # it has neither a root nor an initramfs
    assert done.returncode == 4
