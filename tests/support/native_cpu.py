"""native_cpu.c, compiled on demand into the user's cache folder and loaded."""

from __future__ import annotations

import ctypes
import hashlib
import os
import subprocess
from pathlib import Path

from tests.support.tiny_guests import cache

SOURCE = Path(__file__).with_suffix(".c")


def load() -> ctypes.CDLL:
    target = cache() / f"native_cpu-{hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]}.so"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_suffix(f".{os.getpid()}")
        # No vector instructions of the compiler's own between the loads and saves of vector state.
        flags = ["-O1", "-mno-sse", "-mno-mmx", "-mno-80387", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror"]
        subprocess.run(["gcc", *flags, str(SOURCE), "-o", str(temporary)], check=True)
        temporary.replace(target)
    library = ctypes.CDLL(str(target))
    library.native_popcnt.restype = library.native_cmpxchg.restype = library.native_xcr0.restype = ctypes.c_uint64
    return library
