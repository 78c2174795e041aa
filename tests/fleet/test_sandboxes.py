"""Ray's sandbox API with guests: what its documentation shows, and what gVisor's backend has not."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from tests.fleet.conftest import Nodes, descendants

LIMIT = 60.0


@pytest.fixture
def sandbox(nodes: Nodes, root: str) -> Any:
    """The module; a Sandbox of the image by create()."""
    from corral.ray import sandbox

    return sandbox


def get(nodes: Nodes, reference: Any) -> Any:
    return nodes.ray.get(reference, timeout=LIMIT)


def failure(nodes: Nodes, reference: Any) -> str:
    with pytest.raises(nodes.ray.exceptions.RayError) as raised:
        get(nodes, reference)
    return str(raised.value)


def test_commands_files_and_status(nodes: Nodes, sandbox: Any, root: str) -> None:
    box = sandbox.create(root, cpu=0.1, memory="128Mi", env={"A": "b"}, workdir="/job")
    done = get(nodes, box.exec.remote("echo $A $B; pwd; touch here; touch /no", env={"B": "c"}, shell="/bin/sh"))
    assert (done.exit_code, done.stdout) == (1, "b c\n/job\n")
    assert "Read-only file system" in done.stderr
    assert get(nodes, box.exec.remote(["id", "-un"], user="web")).stdout == "web\n"
    assert "leave the group out" in failure(nodes, box.exec.remote(["id"], user="33:34"))
    get(nodes, box.write_file.remote("deep/er/file", "one"))
    get(nodes, box.write_file.remote("/job/deep/er/file", b" two", append=True))
    assert get(nodes, box.read_file.remote("deep/er/file")) == b"one two"
    assert "SandboxError" in failure(nodes, box.read_file.remote("/not/there"))
    assert "SandboxTimeoutError" in failure(nodes, box.exec.remote(["sleep", "60"], timeout=0.2))
    assert get(nodes, box.get_status.remote()) is sandbox.SandboxStatus.RUNNING
    get(nodes, box.delete.remote())
    assert get(nodes, box.get_status.remote()) is sandbox.SandboxStatus.TERMINATED
    assert "SandboxNotFoundError" in failure(nodes, box.exec.remote(["id"]))
    nodes.ray.kill(box)


def test_its_time_to_live_ends_it(nodes: Nodes, sandbox: Any, root: str) -> None:
    box = sandbox.create(root, cpu=0.1, memory="128Mi", readonly=False, ttl_seconds=1)
    until = time.monotonic() + LIMIT
    while get(nodes, box.get_status.remote()) is sandbox.SandboxStatus.RUNNING:
        assert time.monotonic() < until
        time.sleep(0.1)
    nodes.ray.kill(box)


def test_forks_go_on_from_where_it_is_and_apart(nodes: Nodes, sandbox: Any, root: str) -> None:
    box = sandbox.create(root, cpu=0.1, memory="128Mi", readonly=False)
    get(nodes, box.write_file.remote("/job/file", "parent"))
    forks = get(nodes, box.fork.remote(2))
    get(nodes, forks[0].write_file.remote("/job/file", "child"))
    found = [get(nodes, one.read_file.remote("/job/file")) for one in (box, *forks)]
    assert found == [b"parent", b"child", b"parent"]
    for one in (box, *forks):
        nodes.ray.kill(one)


def test_a_suspended_one_goes_on_on_another_node(nodes: Nodes, sandbox: Any, root: str, tmp_path: Path) -> None:
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as At

    path = str(tmp_path / "suspended")
    ids = [node["NodeID"] for node in nodes.ray.nodes() if node["Alive"]]
    box = sandbox.Sandbox.options(num_cpus=0.1, scheduling_strategy=At(ids[0], soft=False)).remote(
        root, memory="128Mi", env={"A": "b"}, workdir="/job"
    )
    get(nodes, box.write_file.remote("file", "kept"))
    assert get(nodes, box.suspend.remote(path)) > 1 << 20
    assert get(nodes, box.get_status.remote()) is sandbox.SandboxStatus.TERMINATED
    nodes.ray.kill(box)
    again = sandbox.Sandbox.options(num_cpus=0.1, scheduling_strategy=At(ids[1], soft=False)).remote(resumed=path)
    assert get(nodes, again.exec.remote("cat file; echo $A", shell="/bin/sh")).stdout == "keptb\n"
    nodes.ray.kill(again)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"network": "host"}, "use network='public'"),
        ({"network": "public", "dns": ["8.8.8.8"]}, "leave dns out"),
        ({"_oci_spec_transform_fn": dict}, "leave _oci_spec_transform_fn out"),
    ],
)
def test_what_a_guest_cannot_have_is_told(
    nodes: Nodes, sandbox: Any, root: str, wrong: dict[str, Any], said: str
) -> None:
    assert said in failure(nodes, sandbox.create(root, **wrong).get_status.remote())


def test_an_image_that_is_none_is_told(nodes: Nodes, sandbox: Any, tmp_path: Path) -> None:
    assert "SandboxCreationError" in failure(nodes, sandbox.create(f"{tmp_path}/none.erofs").get_status.remote())


def test_what_is_no_suspended_sandbox_is_told(nodes: Nodes, sandbox: Any, tmp_path: Path) -> None:
    path = tmp_path / "none"
    assert "cannot read" in failure(nodes, sandbox.resume(str(path)).get_status.remote())
    path.write_bytes(b"no snapshot")
    Path(f"{path}.json").write_text("[]")
    assert "is not what suspend() wrote" in failure(nodes, sandbox.resume(str(path)).get_status.remote())
    Path(f"{path}.json").write_text('{"config": {"image": "a"}, "folder": "/", "env": {}}')
    assert "SandboxCreationError" in failure(nodes, sandbox.resume(str(path)).get_status.remote())


def test_the_actor_of_rays_http_front_has_a_guest(nodes: Nodes, root: str) -> None:
    from ray.experimental.sandbox.http.schemas import SandboxAPISettings

    from corral.ray.http import CorralHandleResolver

    resolver = CorralHandleResolver(SandboxAPISettings())
    spec = {"image": root, "memory_limit_mb": 128, "shell": "/bin/sh"}
    host = resolver.create("sb-1", {"num_cpus": 0.1}, {"sandbox_id": "sb-1", "spec": spec, "settings": {}})
    try:
        get(nodes, host.boot.remote())
        info = get(nodes, host.describe.remote())
        assert (info["status"], info["error"]) == ("running", None)
        begun = get(nodes, host.start_exec.remote("echo $((6*7))"))
        job = get(nodes, host.get_exec.remote(begun["exec_id"], 10.0))
        assert (job["status"], job["stdout"]) == ("completed", "42\n")
        assert get(nodes, host.terminate.remote()) == {"ok": True}
    finally:
        resolver.kill(host)


def test_a_guest_ends_with_its_actor(nodes: Nodes, sandbox: Any, root: str) -> None:
    box = sandbox.create(root, cpu=0.1, memory="128Mi")
    get(nodes, box.get_status.remote())
    guests = descendants(b"--name\0sandbox-")
    assert guests
    nodes.ray.kill(box)
    until = time.monotonic() + LIMIT
    while any(Path(f"/proc/{pid}/exe").exists() for pid in guests):
        assert time.monotonic() < until
        time.sleep(0.05)
