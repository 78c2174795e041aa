"""The small kernel as a package of Python's, `corral-kernel`, which a release comes with: who installs it beside
Corral builds none. guests/package makes it.

Beside the kernel it has busybox, so that a first guest takes nothing from the distribution's packages.
"""

from __future__ import annotations

import os

MODULE = "corral_kernel"
KERNEL, SYMBOLS, BUSYBOX, ABOUT = "vmlinux", "System.map", "busybox", "about.json"


def folder() -> str | None:
    """Where it is installed; None where it is not."""
    from importlib.util import find_spec

    spec = find_spec(MODULE)
    return next(iter(spec.submodule_search_locations or ()), None) if spec else None


def version(installed: str) -> tuple[str, str]:
    """Linux's version, and the key of what it is built from (kernel.key)."""
    import json

    with open(os.path.join(installed, ABOUT), encoding="utf-8") as file:
        about = json.load(file)
    return str(about["version"]), str(about["key"])
