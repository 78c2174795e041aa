"""Requests of Firecracker's clients, to a service whose guest's process only says that it runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from corral.api import dispatch, own, pair, settings
from corral.api.fault import AFTER, BEFORE, Fault
from corral.api.guest import GuestStart
from corral.api.messages import Answer, HttpRequest
from corral.api.service import Service
from corral.core.waiting import wait_for
from corral.launch.request import BootRequest
from corral.running.named import READY


def runs(start: GuestStart) -> int:
    os.write(start.ready, READY)
    wait_for({start.lifeline: 1}, time.monotonic() + 20)
    return 7


def fails(start: GuestStart) -> int:
    os.write(start.ready, b"no such kernel")
    return 2


@pytest.fixture(autouse=True)
def own_runtime_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


@pytest.fixture
def service() -> Iterator[Service]:
    one = Service("", runs, lambda: None)
    yield one
    one.close()


def ask(service: Service, method: str, path: str, body: Any = None) -> Answer:
    data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    found = dispatch.answer(service, HttpRequest(method, path, data, True))
    assert found is not None
    if isinstance(found, Answer):
        return found
    wait_for({found.fileno(): 1})
    return found.finish()


def fault(service: Service, method: str, path: str, body: Any = None) -> str:
    answer = ask(service, method, path, body)
    assert answer.status == 400
    return str(answer.content["fault_message"])


@pytest.fixture
def kernel(tmp_path: Path) -> str:
    path = tmp_path / "vmlinux"
    path.write_bytes(b"kernel")
    return str(path)


def start(service: Service, kernel: str) -> Answer:
    assert ask(service, "PUT", "/boot-source", {"kernel_image_path": kernel}) == Answer()
    return ask(service, "PUT", "/actions", {"action_type": "InstanceStart"})


def test_a_guest_that_has_not_started(service: Service) -> None:
    about = ask(service, "GET", "/").content
    assert (about["id"], about["state"]) == ("anonymous-instance", "Not started")
    assert ask(service, "GET", "/machine-config").content["mem_size_mib"] == 128
    assert ask(service, "GET", "/version").content["firecracker_version"].count(".") == 2


def test_what_was_set_is_told(service: Service, kernel: str, tmp_path: Path) -> None:
    drive = {"drive_id": "root", "path_on_host": kernel, "is_root_device": True, "is_read_only": True}
    card = {"iface_id": "eth0", "host_dev_name": "tap0", "guest_mac": "02:00:00:00:00:01"}
    vsock = {"guest_cid": 5, "uds_path": str(tmp_path / "v")}
    for path, body in (
        ("/machine-config", {"vcpu_count": 2, "mem_size_mib": 256}),
        ("/boot-source", {"kernel_image_path": kernel, "boot_args": "a=b"}),
        ("/drives/root", drive),
        ("/network-interfaces/eth0", card),
        ("/vsock", vsock),
        ("/entropy", {}),
        ("/balloon", {"amount_mib": 0, "deflate_on_oom": True}),
        ("/logger", {"log_path": str(tmp_path / "log"), "level": "debug"}),
        ("/metrics", {"metrics_path": str(tmp_path / "metrics")}),
    ):
        assert ask(service, "PUT", path, body) == Answer(), path
    found = ask(service, "GET", "/vm/config").content
    assert found["drives"] == [drive]
    assert found["network-interfaces"] == [card]
    assert (found["vsock"], found["entropy"]) == (vsock, {})
    request = service.settings.request()
    assert (request.kernel, request.cpus, request.memory) == (kernel, 2, 256 << 20)
    assert (request.parameters, request.root) == ("ro a=b", "0")
    assert [disk.path for disk in request.disks] == [kernel]
    assert [(net.backend, net.target, net.mac) for net in request.nets] == [("tap", "tap0", "02:00:00:00:00:01")]
    assert [device.module for device in request.others] == ["vsock", "balloon", "rng"]


def test_the_root_drive_is_the_first_whenever_it_came(service: Service, kernel: str) -> None:
    for name, root in (("data", False), ("root", True)):
        body = {"drive_id": name, "path_on_host": kernel, "is_root_device": root, "partuuid": "1234-01"}
        assert ask(service, "PUT", f"/drives/{name}", body) == Answer()
    ask(service, "PUT", "/boot-source", {"kernel_image_path": kernel})
    request = service.settings.request()
    assert [disk.id for disk in request.disks] == ["root", "data"]
    assert request.parameters == "root=PARTUUID=1234-01 rw"
    body = {"drive_id": "other", "path_on_host": kernel, "is_root_device": True}
    assert "root block device already" in fault(service, "PUT", "/drives/other", body)


def test_a_rate_limiter_is_its_steady_rate() -> None:
    bucket = {"size": 1000, "refill_time": 100}
    assert settings.limits({"bandwidth": bucket, "ops": {"size": 5, "refill_time": 1000}}) == (10000, 5)
    assert settings.limits({"bandwidth": {"size": 0, "refill_time": 0}}) == (0, 0)
    with pytest.raises(Fault, match="never refilled"):
        settings.limits({"ops": {"size": 5, "refill_time": 0}})


@pytest.mark.parametrize(
    ("method", "path", "body", "word"),
    [
        ("GET", "/nothing", None, "Invalid request method and/or path: GET, /nothing."),
        ("DELETE", "/vm", None, "Invalid request method"),
        ("PUT", "/vm", {"state": "Paused"}, "Invalid request method"),
        ("PUT", "/drives/", {}, "Invalid request method"),
        ("PUT", "/drives/a-b", {}, "An id has"),
        ("PUT", "/vsock", None, "Empty PUT request"),
        ("GET", "/", {"a": 1}, "cannot have a body"),
        ("PUT", "/vsock", b"{", "deserializing the json body"),
        ("PUT", "/vsock", b"[" * 50000, "nested too deeply"),
        ("PUT", "/vsock", b"\xff", "deserializing the json body"),
        ("PUT", "/vsock", [], "the body is not an object"),
        ("PUT", "/vsock", {"guest_cid": 3}, "missing field `uds_path`"),
        ("PUT", "/vsock", {"guest_cid": 2, "uds_path": "v"}, "guest_cid: 3 to"),
        ("PUT", "/vsock", {"guest_cid": True, "uds_path": "v"}, "not a whole number"),
        ("PUT", "/vsock", {"guest_cid": 3, "uds_path": "a\0b"}, "NUL"),
        ("PUT", "/vsock", {"guest_cid": 3, "uds_path": "\ud800"}, "no Unicode"),
        ("PUT", "/vsock", {"guest_cid": 3, "uds_path": "v", "x": 1}, "unknown field `x`, expected one of"),
        ("PUT", "/machine-config", {"vcpu_count": 65, "mem_size_mib": 1}, "1 to 64"),
        ("PUT", "/machine-config", {"vcpu_count": 1, "mem_size_mib": 128, "smt": True}, "Not supported by Corral: smt"),
        ("PUT", "/boot-source", {"kernel_image_path": "/no/such"}, "The kernel file cannot be opened: No such file"),
        ("PUT", "/drives/a", {"drive_id": "b", "is_root_device": False}, "does not match the id from the body"),
        ("PUT", "/drives/a", {"drive_id": "a", "is_root_device": False}, "missing field `path_on_host`"),
        ("PUT", "/drives/a", {"drive_id": "a", "is_root_device": False, "socket": "s"}, "vhost-user"),
        ("PUT", "/network-interfaces/a", {"iface_id": "a", "host_dev_name": "t", "guest_mac": "1"}, "mac=1"),
        ("PUT", "/balloon", {"amount_mib": 1, "deflate_on_oom": True}, "Not supported by Corral: a balloon that takes"),
        ("GET", "/balloon", None, "No balloon device"),
        ("PUT", "/mmds", {"a": 1}, "Not supported by Corral: MMDS"),
        ("PUT", "/mmds/config", {"network_interfaces": ["eth0"]}, "Not supported by Corral: MMDS"),
        ("PUT", "/logger", {"level": "Loud"}, "is none of Error"),
        ("PUT", "/logger", {"log_path": "/no/such/log"}, "It cannot be written: No such file"),
        ("PUT", "/actions", {"action_type": "InstanceStart"}, "Cannot start microvm without kernel"),
        ("PUT", "/actions", {"action_type": "SendCtrlAltDel"}, BEFORE),
        ("PUT", "/actions", {"action_type": "FlushMetrics"}, "no metrics_path"),
        ("PATCH", "/vm", {"state": "Paused"}, BEFORE),
        ("PUT", "/snapshot/create", {"snapshot_path": "s", "mem_file_path": "m"}, BEFORE),
        ("PUT", "/snapshot/load", {"snapshot_path": "/no/such"}, "Either `mem_backend` or"),
        ("PUT", "/snapshot/load", {"snapshot_path": "/no/such", "mem_file_path": "/m"}, "There is no such file"),
        ("PUT", "/corral/exec", {"command": ["a"]}, BEFORE),
        ("GET", "/corral/console", None, BEFORE),
    ],
)
def test_what_cannot_be_is_said_by_name(service: Service, method: str, path: str, body: Any, word: str) -> None:
    assert word in fault(service, method, path, body)
    assert service.guest is None


def test_after_the_start_nothing_is_set_any_more(service: Service, kernel: str) -> None:
    assert start(service, kernel) == Answer()
    assert ask(service, "GET", "/").content["state"] == "Running"
    for path, body in (
        ("/boot-source", {"kernel_image_path": kernel}),
        ("/machine-config", {"vcpu_count": 1, "mem_size_mib": 128}),
        ("/actions", {"action_type": "InstanceStart"}),
        ("/snapshot/load", {"snapshot_path": kernel, "mem_file_path": kernel}),
    ):
        assert fault(service, "PUT", path, body) == AFTER
    assert service.close() == 7
    assert not os.path.exists(f"{os.environ['XDG_RUNTIME_DIR']}/corral/api-{os.getpid()}")


def test_while_a_guest_starts_others_wait(service: Service, kernel: str) -> None:
    ask(service, "PUT", "/boot-source", {"kernel_image_path": kernel})
    body = json.dumps({"action_type": "InstanceStart"}).encode()
    job = dispatch.answer(service, HttpRequest("PUT", "/actions", body, True))
    assert job is not None
    assert not isinstance(job, Answer)
    assert dispatch.answer(service, HttpRequest("GET", "/", b"", True)) is None
    wait_for({job.fileno(): 1})
    assert job.finish() == Answer()
    assert ask(service, "GET", "/").content["state"] == "Running"


def test_a_guest_that_is_starting_ends_with_the_service(kernel: str) -> None:
    def never(start: GuestStart) -> int:
        wait_for({start.lifeline: 1})
        return 7

    service = Service("", never, lambda: None)
    ask(service, "PUT", "/boot-source", {"kernel_image_path": kernel})
    body = json.dumps({"action_type": "InstanceStart"}).encode()
    assert dispatch.answer(service, HttpRequest("PUT", "/actions", body, True)) is not None
    assert service._starting
    pid = service._starting.pid
    assert os.path.exists(f"/proc/{pid}")
    service.close()
    assert not os.path.exists(f"/proc/{pid}")


def test_a_guest_that_cannot_start_can_be_set_anew(kernel: str) -> None:
    service = Service("", fails, lambda: None)
    ask(service, "PUT", "/boot-source", {"kernel_image_path": kernel})
    assert fault(service, "PUT", "/actions", {"action_type": "InstanceStart"}) == "no such kernel"
    assert ask(service, "PUT", "/boot-source", {"kernel_image_path": kernel}) == Answer()
    assert service.guest is None


def test_a_snapshot_is_of_a_paused_guest(service: Service, kernel: str) -> None:
    start(service, kernel)
    body = {"snapshot_path": "s", "mem_file_path": "m"}
    assert "paused" in fault(service, "PUT", "/snapshot/create", body)
    assert service.guest
    service.guest.paused = True
    assert "are the same" in fault(service, "PUT", "/snapshot/create", {"snapshot_path": "m", "mem_file_path": "m"})
    assert "another file" in fault(service, "PUT", "/snapshot/create", body | {"snapshot_path": kernel})
    assert "Not supported by Corral" in fault(service, "PUT", "/snapshot/create", body | {"snapshot_type": "Diff"})


def test_exec_wants_a_vsock(service: Service, kernel: str) -> None:
    start(service, kernel)
    assert "PUT /vsock" in fault(service, "PUT", "/corral/exec", {"command": ["true"]})
    with pytest.raises(Fault):
        own.execute(service, {"command": ["true"]})


def test_the_metrics_count_requests(service: Service, tmp_path: Path) -> None:
    path = tmp_path / "metrics"
    ask(service, "PUT", "/metrics", {"metrics_path": str(path)})
    ask(service, "GET", "/nothing")
    assert ask(service, "PUT", "/actions", {"action_type": "FlushMetrics"}) == Answer()
    assert json.loads(path.read_text())["api_server"] == {"requests": 2, "refused": 1}


def test_a_log_has_a_line_for_each_request(service: Service, tmp_path: Path) -> None:
    path = tmp_path / "log"
    ask(service, "PUT", "/logger", {"log_path": str(path), "show_level": True})
    ask(service, "GET", "/nothing")
    assert path.read_text().splitlines()[-1].endswith("[anonymous-instance] [INFO] GET /nothing: 400")


def snapshot(path: Path, digest: bytes = b"d" * 32) -> str:
    path.write_bytes(b"CORRALSN" + bytes(8) + digest + bytes(4096))
    return str(path)


def test_a_pair_of_files_goes_together(tmp_path: Path) -> None:
    memory, other = snapshot(tmp_path / "m"), snapshot(tmp_path / "o", b"e" * 32)
    path = str(tmp_path / "s")
    pair.write(path, memory, {"drives": [{"drive_id": "a"}]})
    assert pair.read(path, memory).settings == {"drives": [{"drive_id": "a"}]}
    assert json.loads(Path(path).read_text())["block_devices"] == [{"drive_id": "a"}]
    with pytest.raises(Fault, match="not that of this snapshot"):
        pair.read(path, other)
    assert pair.read(memory, None) == pair.SnapshotPair(memory, {})
    pair.check_place(path)
    with pytest.raises(Fault, match="another file"):
        pair.check_place(memory)


def test_a_guest_that_goes_on_has_the_devices_it_had(tmp_path: Path) -> None:
    from corral.api import loading

    memory, path = snapshot(tmp_path / "m"), str(tmp_path / "s")
    had = {
        "vsock": {"guest_cid": 9, "uds_path": "/a"},
        "network-interfaces": [{"iface_id": "eth0", "host_dev_name": "tap0"}],
    }
    pair.write(path, memory, had)
    body = {
        "snapshot_path": path,
        "mem_file_path": memory,
        "vsock_override": {"uds_path": "/b"},
        "network_overrides": [{"iface_id": "eth0", "host_dev_name": "tap1"}],
    }
    found, request = loading.request(body)
    assert isinstance(request, BootRequest)
    assert request.snapshot == memory
    assert [net.target for net in request.nets] == ["tap1"]
    assert (found.vsock, request.others[0].module) == ({"guest_cid": 9, "uds_path": "/b"}, "vsock")
    with pytest.raises(Fault, match="no network interface eth9"):
        loading.request(body | {"network_overrides": [{"iface_id": "eth9", "host_dev_name": "t"}]})
    Path(path).write_text(json.dumps(json.loads(Path(path).read_text()) | {"settings": {"vsock": 3}}))
    with pytest.raises(Fault, match="vsock is not an object"):
        loading.request(body)


def test_a_configuration_file_is_set_like_requests(service: Service, kernel: str) -> None:
    dispatch.configure(
        service,
        {
            "boot-source": {"kernel_image_path": kernel},
            "drives": [{"drive_id": "a", "is_root_device": False, "path_on_host": kernel}],
            "machine-config": {"vcpu_count": 2, "mem_size_mib": 256},
        },
        starts=True,
    )
    assert service.guest
    assert service.settings.machine["vcpu_count"] == 2
    with pytest.raises(Fault, match="unknown field `nothing`"):
        dispatch.configure(service, {"nothing": {}})


def test_the_limits_are_the_machines() -> None:
    from corral import config
    from corral.api import bodies

    assert bodies.MOST_CPUS == config.MOST_CPUS


def test_the_start_imports_neither_the_shim_nor_json() -> None:
    code = "import sys, corral.cli.api_serving; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"corral.native", "corral.config", "json", "re", "socket", "threading"}.isdisjoint(done.stdout.split())


def test_the_openapi_document_has_every_route_and_body() -> None:
    from corral.api import openapi
    from corral.api.routes import ROUTES

    document = openapi.document()
    for route in ROUTES:
        assert route.method.lower() in document["paths"][route.path]
    text = json.dumps(document)
    names = set(document["components"]["schemas"])
    assert {part.partition('"')[0] for part in text.split("#/components/schemas/")[1:]} <= names
    operations = [one["operationId"] for path in document["paths"].values() for one in path.values()]
    assert len(set(operations)) == len(operations) == len(ROUTES)
