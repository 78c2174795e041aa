"""The real CPU as a reference: native_cpu.c and native_run.c, compiled on demand into the user's cache folder."""

from __future__ import annotations

import ctypes
import hashlib
import os
import subprocess
from pathlib import Path

from tests.support.tiny_guests import cache

FOLDER = Path(__file__).parent


def compiled(name: str) -> ctypes.CDLL:
    source = FOLDER / f"{name}.c"
    target = cache() / f"{name}-{hashlib.sha256(source.read_bytes()).hexdigest()[:16]}.so"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_suffix(f".{os.getpid()}")
        # No vector instructions of the compiler's own between the loads and saves of vector state.
        flags = ["-O1", "-mno-sse", "-mno-mmx", "-mno-80387", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror"]
        subprocess.run(["gcc", *flags, str(source), "-o", str(temporary)], check=True)
        temporary.replace(target)
    return ctypes.CDLL(str(target))


def load() -> ctypes.CDLL:
    library = compiled("native_cpu")
    library.native_cmpxchg.restype = library.native_xcr0.restype = ctypes.c_uint64
    return library


PAGE = 4096
XSAVE = 4096
# struct kvm_regs' order
ORDER = ["rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rbp", *(f"r{n}" for n in range(8, 16))]


class State(ctypes.Structure):
    """struct state of native_run.c."""

    _fields_ = [
        ("regs", ctypes.c_uint64 * 16),
        ("rip", ctypes.c_uint64),
        ("rflags", ctypes.c_uint64),
        ("features", ctypes.c_uint32),
        ("vector", ctypes.c_uint32),
        ("address", ctypes.c_uint64),
        ("unused", ctypes.c_uint8 * 32),
        ("xsave", ctypes.c_uint8 * XSAVE),
    ]


class RealCpu:
    """Runs one instruction in its own page, with two pages of data that have nothing before and behind them."""

    def __init__(self) -> None:
        self._library = compiled("native_run")
        self._library.native_pages.restype = ctypes.c_void_p
        self._page = self._library.native_pages()
        self.data = self._page + 2 * PAGE
        self._buffer = ctypes.create_string_buffer(ctypes.sizeof(State) + 64)
        self._state = State.from_address((ctypes.addressof(self._buffer) + 63) & ~63)

    def place(self, at: int) -> int:
        return int(self._page + at)

    def run(
        self, code: bytes, at: int, regs: dict[str, int], rflags: int, features: int, xsave: bytes, data: bytes
    ) -> tuple[State, bytes]:
        """The state and the two pages of data after the instruction."""
        state = self._state
        for number, name in enumerate(ORDER):
            state.regs[number] = regs[name]
        state.rflags, state.features = rflags, features
        ctypes.memmove(state.xsave, xsave, XSAVE)
        ctypes.memmove(self.data, data, 2 * PAGE)
        self._library.native_run(ctypes.byref(state), ctypes.c_void_p(self._page), at, code, len(code))
        return state, ctypes.string_at(self.data, 2 * PAGE)
