"""The sources that guests are built from: guests/ of the checkout, or their copies in an installed Corral."""

from __future__ import annotations

import os
import sys


def folder(name: str) -> str:
    """The folder guests/<name>."""
    here = os.path.dirname(os.path.abspath(__file__))
    installed = os.path.join(here, "data", name)
    if os.path.isdir(installed):
        return installed
    return os.path.join(os.path.dirname(here), "..", "..", "guests", name)


def digest(*contents: bytes) -> str:
    """A key for what is built from `contents`."""
    return sha256(b"\0".join(contents))[:16]


def sha256(data: bytes) -> str:
    """In hexadecimal, by the interpreter's own module where it has one: hashlib loads all of OpenSSL, in 3 ms."""
    try:
        if sys.version_info >= (3, 12):
            from _sha2 import sha256
        else:
            from _sha256 import sha256  # type: ignore[import-not-found]
    except ImportError:
        from hashlib import sha256
    digest: str = sha256(data).hexdigest()
    return digest
