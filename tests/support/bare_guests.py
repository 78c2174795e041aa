"""guests/bare and guests/hostile compiled on demand, into the user's cache folder by content, and the disk images that
the first knows."""

from __future__ import annotations

import hashlib
import os
import struct
import subprocess
from pathlib import Path

from tests.support.tiny_guests import ASM, cache

BARE, HOSTILE = ASM.parent / "bare", ASM.parent / "hostile"
_SUPPORT = ("entry.S", "bare.c", "bare.h", "device.c", "device.h")
SECTOR = 512
_FLAGS = ("-O2", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-m64", "-mno-red-zone", "-mgeneral-regs-only")
_FREESTANDING = ("-ffreestanding", "-fno-pic", "-fno-stack-protector", "-fno-asynchronous-unwind-tables")
_LINK = ("-nostdlib", "-static", f"-Wl,-T{ASM}/pvh.ld,--build-id=none,-z,noexecstack,--no-warn-rwx-segments")
_PIECE = 2048  # sectors


def blk_guest() -> Path:
    """The executable of guests/bare: any PVH loader starts it, its command line says what it does (blk.c)."""
    return _guest(BARE / "blk.c")


def hostile_guest(name: str, queue_size: int = 256) -> Path:
    """That of guests/hostile/<name>.c, whose queues have so many descriptors."""
    return _guest(HOSTILE / f"{name}.c", f"-DQUEUE_SIZE={queue_size}")


def _guest(program: Path, *defines: str) -> Path:
    sources = [program, *(BARE / name for name in _SUPPORT)]
    command = ["gcc", *_FLAGS, *_FREESTANDING, *defines, f"-I{BARE}", "-fcf-protection=none", *_LINK]
    content = b"".join(path.read_bytes() for path in (*sources, ASM / "pvh.ld")) + " ".join(command).encode()
    target = cache() / f"{program.stem}-{hashlib.sha256(content).hexdigest()[:16]}"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_suffix(f".{os.getpid()}")
        inputs = [str(path) for path in sources if path.suffix != ".h"]
        subprocess.run([*command, *inputs, "-o", str(temporary)], check=True)
        temporary.replace(target)
    return target


def sector(number: int) -> bytes:
    """What the guest expects in a sector that it has not written: blk.c's pattern()."""
    return struct.pack("<Q", (number + 1) * 0x9E3779B97F4A7C15 & (1 << 64) - 1) * (SECTOR // 8)


def written_sector(number: int) -> bytes:
    """What it leaves in one that it has written."""
    return bytes(byte ^ 0xFF for byte in sector(number))


def make_image(path: Path, size: int) -> Path:
    """An image of `size` bytes, a multiple of 4096, with its pattern in it."""
    sectors = size // SECTOR
    with open(path, "wb") as file:
        for first in range(0, sectors, _PIECE):
            file.write(b"".join(map(sector, range(first, min(first + _PIECE, sectors)))))
    return path
