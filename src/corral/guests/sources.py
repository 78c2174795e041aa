"""The sources that guests are built from: guests/ of the checkout, or their copies in an installed Corral."""

from __future__ import annotations

import os

from corral.startup.digest import sha256


def folder(name: str) -> str:
    """The folder guests/<name>."""
    here = os.path.dirname(os.path.abspath(__file__))
    installed = os.path.join(here, "data", name)
    if os.path.isdir(installed):
        return installed
    return os.path.join(os.path.dirname(here), "..", "..", "guests", name)


def digest(*contents: bytes) -> str:
    """A key for what is built from `contents`."""
    return sha256(b"\0".join(contents)).hex()[:16]
