"""Ray's HTTP and gRPC fronts of sandboxes, with guests: `serve run corral.ray.http:build_app`."""

from __future__ import annotations

import ray
from ray.experimental.sandbox.http.host import HostSettings, SandboxHost, SandboxSpec
from ray.experimental.sandbox.http.resolver import RayActorHandleResolver
from ray.experimental.sandbox.http.schemas import SandboxAPISettings

from corral.ray.node import GUESTS
from corral.ray.sandbox import CorralSandboxRuntime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class CorralSandboxHost(SandboxHost):
    """The actor of a sandbox that was made by HTTP or gRPC."""

    def __init__(self, sandbox_id: str, spec: SandboxSpec, settings: HostSettings) -> None:
        super().__init__(sandbox_id, spec, settings, CorralSandboxRuntime)


class CorralHandleResolver(RayActorHandleResolver):
    """Makes those actors, each with one of a node's `corral_guests`: for `handle_resolver` of Ray's create_app() and of
    its gRPC facade."""

    _made: Any = None

    def _actor_class(self) -> Any:
        if self._made is None:
            self._made = ray.remote(resources={GUESTS: 1})(CorralSandboxHost)
        return self._made


def build_app(args: dict[str, Any] | None = None) -> Any:
    """For `serve run`; arguments are fields of Ray's SandboxAPISettings. It needs ray[serve]."""
    from ray import serve
    from ray.experimental.sandbox.http.app import create_app

    settings = SandboxAPISettings(**(args or {}))
    app = create_app(settings, handle_resolver=CorralHandleResolver(settings))

    @serve.deployment(name="CorralSandboxAPI", max_ongoing_requests=1000)
    @serve.ingress(app)
    class Ingress:
        pass

    deployment: Any = Ingress
    return deployment.options(num_replicas=settings.num_replicas).bind()
