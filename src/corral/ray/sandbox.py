"""ray.experimental.sandbox with guests: `from corral.ray import sandbox` in the place of Ray's, and the rest stays."""

from __future__ import annotations

import os
import tempfile
import threading

import ray
from ray.experimental.sandbox import (
    DEFAULT_PUBLIC_DNS,
    DOCKER_DEFAULT_CAPABILITIES,
    BaseSandboxBackend,
    ExecResult,
    ExecutionResult,
    SandboxCreationError,
    SandboxError,
    SandboxExecError,
    SandboxNotFoundError,
    SandboxRuntime,
    SandboxStatus,
    SandboxTimeoutError,
    parse_memory_bytes,
)
from ray.experimental.sandbox.config import SandboxConfig

from corral.ray.backend import ABOUT, CorralSandboxBackend
from corral.ray.images import CorralImageManager
from corral.ray.node import GUESTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MOST_FORKS = 100  # of one call
_FORK_TIME = 120.0  # seconds for all of one call to be there


class CorralSandboxRuntime(SandboxRuntime):
    """Ray's runtime on a node, with guests; and snapshot(), fork(), suspend(), resume() of CorralSandboxBackend."""

    def __init__(self) -> None:
        self._image_manager = CorralImageManager()
        self._backend = CorralSandboxBackend(self._image_manager)
        self._ttl_timers: dict[str, threading.Timer] = {}

    def snapshot(self, instance_id: str, path: str) -> int:
        return self._backend.snapshot(instance_id, path)

    def fork(self, instance_id: str, count: int = 1) -> list[str]:
        return self._backend.fork(instance_id, count)

    def suspend(self, instance_id: str, path: str) -> int:
        size = self._backend.suspend(instance_id, path)
        self.delete(instance_id)  # its time to live
        return size

    def resume(self, path: str, timeout_seconds: float = 30.0) -> str:
        return self._backend.resume(path, timeout_seconds)


class SandboxActor:
    """Ray's Sandbox actor with a guest: the same verbs, and `user` for exec(); snapshot, fork, suspend. `resumed`: the
    path of what snapshot() or suspend() saved, from which it goes on; the other arguments are left out then."""

    def __init__(self, image: str = "", resumed: str | None = None, **options: Any) -> None:
        assigned = ray.get_runtime_context().get_assigned_resources()
        if not options.get("cpu") and assigned.get("CPU"):
            options["cpu"] = float(assigned["CPU"])
        if options.get("memory") is None and assigned.get("memory"):
            options["memory"] = int(assigned["memory"])
        self._resources = {name: share for name, share in assigned.items() if not name.startswith("node:")}
        self.runtime = CorralSandboxRuntime()
        if resumed is not None:
            self.instance_id = self.runtime.resume(resumed, options.get("timeout_seconds", 30.0))
        else:
            given = {name: value for name, value in options.items() if value is not None}
            self.instance_id = self.runtime.create(image, **given)

    def get_instance_id(self) -> str:
        return self.instance_id

    def get_config(self) -> SandboxConfig:
        found = self.runtime.backend._sandbox_metadata.get(self.instance_id)
        if not found:
            raise SandboxNotFoundError(f"Sandbox {self.instance_id!r} not found or already deleted.")
        return found["config"]

    def exec(
        self,
        command: str | list[str],
        timeout: float | None = None,
        cwd: str | None = None,
        env: dict[str, str] | None = None,
        shell: str | None = None,
        user: str | None = None,
    ) -> ExecResult:
        return self.runtime.exec(self.instance_id, command, timeout, cwd, env, shell, user)

    def upload_file(self, local_path: str, remote_path: str) -> None:
        self.runtime.upload_file(self.instance_id, local_path, remote_path)

    def download_file(self, remote_path: str, local_path: str) -> None:
        self.runtime.download_file(self.instance_id, remote_path, local_path)

    def write_file(self, path: str, content: str | bytes, append: bool = False) -> None:
        self.runtime.write_file(self.instance_id, path, content, append)

    def read_file(self, path: str) -> bytes:
        return self.runtime.read_file(self.instance_id, path)

    def get_status(self) -> SandboxStatus:
        return self.runtime.get_status(self.instance_id)

    def snapshot(self, path: str) -> int:
        """To a new file of this node, or of a folder that nodes share; returns bytes."""
        return self.runtime.snapshot(self.instance_id, path)

    def suspend(self, path: str) -> int:
        """snapshot(), and the guest ends; resume(path) has it go on."""
        return self.runtime.suspend(self.instance_id, path)

    def fork(self, count: int = 1) -> list[Any]:
        """Handles of `count` actors on this node that go on from where this guest is, each with this one's resources.
        Raises SandboxCreationError where they do not get them within two minutes."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        if not 1 <= count <= MOST_FORKS:
            raise SandboxError(f"fork({count}): 1 to {MOST_FORKS}")
        node = ray.get_runtime_context().get_node_id()
        options = _claims(self._resources)
        options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(node, soft=False)
        with tempfile.TemporaryDirectory(prefix="corral-fork-", dir=os.environ.get("TMPDIR", "/var/tmp")) as folder:
            path = os.path.join(folder, "parent")
            self.snapshot(path)
            made = [Sandbox.options(**options).remote(resumed=path) for _ in range(count)]
            try:
                ray.get([one.get_instance_id.remote() for one in made], timeout=_FORK_TIME)
            except ray.exceptions.RayError as error:
                for one in made:
                    ray.kill(one)
                raise SandboxCreationError(f"not all forks could begin: {error}") from None
        return made

    def delete(self) -> None:
        self.runtime.delete(self.instance_id)

    def terminate(self) -> None:
        self.delete()


def _claims(assigned: dict[str, float]) -> dict[str, Any]:
    """Options of an actor that claims what another has."""
    rest = {name: share for name, share in assigned.items() if name not in ("CPU", "memory")}
    claims: dict[str, Any] = {"num_cpus": assigned.get("CPU", 0), "resources": rest}
    if "memory" in assigned:
        claims["memory"] = assigned["memory"]
    return claims


Sandbox = ray.remote(SandboxActor)


def create(
    image: str,
    cpu: float | None = None,
    memory: str | float | None = None,
    env: dict[str, str] | None = None,
    workdir: str | None = None,
    ttl_seconds: int | None = None,
    timeout_seconds: float = 30.0,
    rootless: bool = True,
    network: str = "none",
    dns: list[str] | None = None,
    capabilities: list[str] | None = None,
    resources: dict[str, float] | None = None,
    readonly: bool = True,
    **options: Any,
) -> Any:
    """The handle of a new Sandbox actor, as ray.experimental.sandbox.create() gives it, and with its arguments. It
    claims `cpu` and `memory` of a node, and one of `corral_guests`, so it comes to a node that runs guests."""
    given = {
        "cpu": cpu,
        "memory": memory,
        "env": env,
        "workdir": workdir,
        "ttl_seconds": ttl_seconds,
        "timeout_seconds": timeout_seconds,
        "rootless": rootless,
        "network": network,
        "dns": dns,
        "capabilities": capabilities,
        "readonly": readonly,
    }
    return Sandbox.options(**_wanted(cpu, memory, resources)).remote(image, **given, **options)


def resume(
    path: str,
    cpu: float | None = None,
    memory: str | float | None = None,
    resources: dict[str, float] | None = None,
    timeout_seconds: float = 30.0,
) -> Any:
    """The handle of a Sandbox actor that goes on from what suspend() or snapshot() saved, on a node that sees the file;
    `cpu`, `memory`, `resources` are what it claims there."""
    return Sandbox.options(**_wanted(cpu, memory, resources)).remote(resumed=path, timeout_seconds=timeout_seconds)


def _wanted(cpu: float | None, memory: str | float | None, resources: dict[str, float] | None) -> dict[str, Any]:
    claims: dict[str, Any] = {"resources": {GUESTS: 1, **(resources or {})}}
    if cpu is not None and cpu >= 0:
        claims["num_cpus"] = cpu
    if size := parse_memory_bytes(memory):
        claims["memory"] = size
    return claims


__all__ = [
    "ABOUT",
    "DEFAULT_PUBLIC_DNS",
    "DOCKER_DEFAULT_CAPABILITIES",
    "BaseSandboxBackend",
    "CorralImageManager",
    "CorralSandboxBackend",
    "CorralSandboxRuntime",
    "ExecResult",
    "ExecutionResult",
    "Sandbox",
    "SandboxCreationError",
    "SandboxError",
    "SandboxExecError",
    "SandboxNotFoundError",
    "SandboxStatus",
    "SandboxTimeoutError",
    "create",
    "resume",
]
