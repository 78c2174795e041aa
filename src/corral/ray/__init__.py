"""Guests by Ray: a backend of its sandboxes (pip install 'corral[ray]'), and jobs of many guests (docs/fleet.md)."""

from __future__ import annotations

from corral.ray import versions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

versions.check()

_NAMES = {
    "CorralSandboxBackend": "corral.ray.backend",
    "CorralImageManager": "corral.ray.images",
    "CorralSandboxRuntime": "corral.ray.sandbox",
    "create": "corral.ray.sandbox",
    "resume": "corral.ray.sandbox",
}
__all__ = ["CorralImageManager", "CorralSandboxBackend", "CorralSandboxRuntime", "create", "resume"]


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(__import__(_NAMES[name], fromlist=[name]), name)
