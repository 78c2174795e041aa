"""Where on this host's disk the user's cache is."""

from __future__ import annotations

import os

from corral.errors import HostError


def folder(*parts: str) -> str:
    """$XDG_CACHE_HOME/corral, or ~/.cache/corral, and below it `parts`; nothing is created."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    if not base.startswith("/"):  # as of a user without a home: another folder wherever one is
        raise HostError(f"the cache would be in {base!r}, no path from /; set XDG_CACHE_HOME to a folder of yours")
    return os.path.join(base, "corral", *parts)
