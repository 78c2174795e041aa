"""SHA-256 by the interpreter's own module, where it has one: hashlib loads all of OpenSSL, in 3 ms."""

from __future__ import annotations

import sys


def sha256(data: bytes) -> bytes:
    try:
        if sys.version_info >= (3, 12):
            from _sha2 import sha256
        else:
            from _sha256 import sha256  # type: ignore[import-not-found]
    except ImportError:
        from hashlib import sha256
    digest: bytes = sha256(data).digest()
    return digest
