"""A backend of Ray's sandboxes whose sandboxes are guests: ray.experimental.sandbox has gVisor's.

Each is a corral.Sandbox: a virtual machine in a jailed process of its own, child of the process that has the backend,
with which it ends.
"""

from __future__ import annotations

import json
import math
import os
import posixpath
import uuid
from dataclasses import asdict, dataclass, replace

from ray.experimental.sandbox import (
    BaseSandboxBackend,
    ExecResult,
    SandboxCreationError,
    SandboxError,
    SandboxExecError,
    SandboxNotFoundError,
    SandboxStatus,
    SandboxTimeoutError,
    parse_memory_bytes,
)
from ray.experimental.sandbox.config import SandboxConfig

from corral.agent.connection import Refused
from corral.errors import CorralError, GuestTimeout
from corral.ray.images import CorralImageManager
from corral.running import place
from corral.script.sandbox import Sandbox

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

ABOUT = ".json"  # after a suspended sandbox's path: what its configuration was
_OF_HOST = ("_oci_spec_transform_fn", "_ignore_cgroups")


@dataclass
class _Held:
    """A sandbox of this backend."""

    box: Sandbox
    config: SandboxConfig
    folder: str
    env: dict[str, str]


class CorralSandboxBackend(BaseSandboxBackend):
    """Beside Ray's verbs: snapshot(), fork(), suspend() and resume(). All raise Ray's SandboxError.

    Of a SandboxConfig, `cpu` is rounded up to whole vCPUs, 1 at least; `memory` is the guest's, 1 GiB where it is 0.
    `rootless`, `capabilities` and `_ignore_cgroups` are about a kernel that a container shares with its host; the guest
    has its own, and Corral needs no root, so they change nothing.
    """

    def __init__(self, image_manager: CorralImageManager | None = None) -> None:
        super().__init__(image_manager or CorralImageManager())
        self._held: dict[str, _Held] = {}
        self._sandbox_metadata: dict[str, dict[str, Any]] = {}  # by Ray's name: its actor asks for "config"

    def create_sandbox(self, config: SandboxConfig) -> str:
        """Boots a guest of the image, or goes on from an earlier boot of it. Raises SandboxCreationError,
        SandboxTimeoutError."""
        options = _options(config)
        envs = dict(text.split("=", 1) for text in self.image_manager.get_envs(config.image) if "=" in text)
        folder = config.workdir or self.image_manager.get_workdir(config.image) or "/"
        size = parse_memory_bytes(config.memory) or 1 << 30
        try:
            box = Sandbox(
                image=config.image,
                memory=max(1, size >> 20),
                cpus=max(1, math.ceil(config.cpu or 0)),
                timeout=config.timeout_seconds,
                options=options,
                **_network(config),
            )
        except GuestTimeout as error:
            raise SandboxTimeoutError(str(error)) from None
        except CorralError as error:
            raise SandboxCreationError(str(error)) from None
        return self._hold(_Held(box, config, folder, {**envs, **config.env}))

    def _hold(self, held: _Held) -> str:
        name = f"corral-sandbox-{uuid.uuid4().hex[:12]}"
        self._held[name] = held
        self._sandbox_metadata[name] = {"config": held.config}
        return name

    def delete_sandbox(self, sandbox_id: str) -> None:
        """Ends the guest at once. Does nothing where there is none."""
        held = self._held.pop(sandbox_id, None)
        self._sandbox_metadata.pop(sandbox_id, None)
        if held is not None:
            held.box.close()

    def exec_command(
        self,
        sandbox_id: str,
        command: str | list[str],
        timeout: float | None = None,
        cwd: str | None = None,
        env: dict[str, str] | None = None,
        shell: str | None = None,
        user: str | None = None,
    ) -> ExecResult:
        """Raises SandboxTimeoutError for a command whose time was over; it is killed with all that it has started."""
        held = self._of(sandbox_id)
        if user and ":" in user:
            raise SandboxExecError(
                f"user {user!r}: a guest has a user's groups from its /etc/group; leave the group out"
            )
        words = [shell or held.config.shell, "-c", command] if isinstance(command, str) else command
        variables = {**held.env, **(env or {})}
        try:
            done = held.box.run(words, env=variables, cwd=cwd or held.folder, user=user or "", timeout=timeout)
        except GuestTimeout:
            raise SandboxTimeoutError(f"the command was not done within {timeout} s") from None
        except Refused as error:
            return ExecResult(127, "", f"{error}\n", 0.0)
        except CorralError as error:
            raise SandboxExecError(str(error)) from None
        return ExecResult(done.returncode, done.stdout, done.stderr, done.duration)

    def write_file(self, sandbox_id: str, path: str, content: str | bytes, append: bool = False) -> None:
        """Makes the folders above it too."""
        held = self._of(sandbox_id)
        whole = posixpath.join(held.folder, path)
        try:
            held.box.files.mkdir(posixpath.dirname(whole) or "/")
            held.box.files.write(whole, content.encode() if isinstance(content, str) else content, append=append)
        except CorralError as error:
            raise SandboxError(f"cannot write {path!r}: {error}") from None

    def read_file(self, sandbox_id: str, path: str) -> bytes:
        held = self._of(sandbox_id)
        try:
            return held.box.files.read(posixpath.join(held.folder, path))
        except CorralError as error:
            raise SandboxError(f"cannot read {path!r}: {error}") from None

    def get_status(self, sandbox_id: str) -> SandboxStatus:
        """TERMINATED also for a guest that has ended by itself."""
        held = self._held.get(sandbox_id)
        if held is None:
            return SandboxStatus.TERMINATED
        try:
            place.running(held.box.name)
        except CorralError:
            return SandboxStatus.TERMINATED
        return SandboxStatus.RUNNING

    def snapshot(self, sandbox_id: str, path: str) -> int:
        """Saves the guest, which goes on, to a new file, and its configuration beside it; returns the bytes of memory
        that are in there."""
        held = self._of(sandbox_id)
        try:
            size = held.box.snapshot(path)
        except CorralError as error:
            raise SandboxError(str(error)) from None
        try:
            with open(path + ABOUT, "w", encoding="utf-8") as file:
                json.dump({"folder": held.folder, "env": held.env, "config": _plain(held.config)}, file)
        except OSError as error:
            os.unlink(path)
            raise SandboxError(f"cannot write {path + ABOUT!r}: {error.strerror}") from None
        return size

    def fork(self, sandbox_id: str, count: int = 1) -> list[str]:
        """Sandboxes that go on from where this one is, in this process; it goes on too."""
        held = self._of(sandbox_id)
        try:
            boxes = held.box.fork(count)
        except CorralError as error:
            raise SandboxCreationError(str(error)) from None
        return [self._hold(_Held(box, held.config, held.folder, dict(held.env))) for box in boxes]

    def suspend(self, sandbox_id: str, path: str) -> int:
        """snapshot(), then the guest ends; resume() has it go on, here or on another node that sees the file."""
        size = self.snapshot(sandbox_id, path)
        self.delete_sandbox(sandbox_id)
        return size

    def resume(self, path: str, timeout_seconds: float = 30.0) -> str:
        """A sandbox that goes on from what snapshot() or suspend() saved. Raises SandboxCreationError for a file that
        is none, and where this node's CPU lacks what the guest was told it has."""
        about = _about(path)
        try:
            box = Sandbox(snapshot=path, timeout=timeout_seconds)
        except GuestTimeout as error:
            raise SandboxTimeoutError(str(error)) from None
        except CorralError as error:
            raise SandboxCreationError(str(error)) from None
        return self._hold(_Held(box, SandboxConfig(**about["config"]), about["folder"], about["env"]))

    def _of(self, sandbox_id: str) -> _Held:
        held = self._held.get(sandbox_id)
        if held is None:
            raise SandboxNotFoundError(f"Sandbox ID {sandbox_id!r} not found.")
        return held


def _options(config: SandboxConfig) -> list[str]:
    """Words of `corral run`. As Ray has it, of a read-only image /tmp and the folder asked for can be written."""
    if config._oci_spec_transform_fn is not None:
        raise SandboxCreationError("a guest of Corral's has no OCI spec; leave _oci_spec_transform_fn out")
    words = []
    if config.readonly:
        words += ["--read-only", "--tmpfs", "/tmp"]
        if config.workdir and posixpath.normpath(config.workdir) not in ("/", "/tmp"):
            words += ["--tmpfs", config.workdir]
    return words


def _network(config: SandboxConfig) -> dict[str, str]:
    """Arguments of a Sandbox. "public" and "sandbox": where the host may connect to, but not the host itself."""
    if config.dns is not None:
        raise SandboxCreationError("the guest asks its host's resolver; leave dns out")
    if config.network == "none":
        return {}
    if config.network == "host":
        raise SandboxCreationError("a guest has a network stack of its own, not its host's; use network='public'")
    return {"nets": "user", "allow": "all", "deny": "host"}


def _plain(config: SandboxConfig) -> dict[str, Any]:
    return {name: value for name, value in asdict(replace(config)).items() if name not in _OF_HOST}


def _about(path: str) -> dict[str, Any]:
    try:
        with open(path + ABOUT, encoding="utf-8") as file:
            found = json.loads(file.read(1 << 20))
        SandboxConfig(**found["config"])
        if not isinstance(found["folder"], str) or not isinstance(found["env"], dict):
            raise TypeError("its folder and env are none")
    except OSError as error:
        raise SandboxCreationError(f"cannot read {path + ABOUT!r}: {error.strerror}") from None
    except (ValueError, TypeError, KeyError) as error:
        raise SandboxCreationError(f"{path + ABOUT!r} is not what suspend() wrote: {error}") from None
    return dict(found)
