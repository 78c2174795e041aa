"""guests/asm assembled on demand, kept in the user's cache folder by content: PVH executables, and raw code."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from corral.guests import tiny

ASM = Path(__file__).resolve().parents[2] / "guests" / "asm"
SHARED = (ASM / "pvh.inc", ASM / "pvh.ld", ASM / "long.inc")


def cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "corral" / "asm"


def raw(executable: Path) -> Path:
    """The same as a file without a format: from its lowest byte to its last, .bss left out."""
    target = executable.with_name(f"{executable.name}.raw")
    subprocess.run(["objcopy", "-O", "binary", str(executable), str(target)], check=True)
    return target


def flat(name: str, address: int, bits: int = 32, **defines: int | str) -> Path:
    """guests/asm/<name>.S as raw code for `address`."""
    return _linked(name, ".flat", [f"-m{bits}", f"-Wl,-Ttext={address:#x},--oformat=binary"], defines)


def multiboot(name: str, **defines: int | str) -> Path:
    """guests/asm/<name>.S, which has a Multiboot header, as a 32-bit executable for 1 MiB."""
    return _linked(name, ".multiboot", ["-m32", "-Wl,-Ttext=0x100000,-n"], defines)


def tiny_guest(name: str, **defines: int) -> Path:
    """The executable of guests/asm/<name>.S, with -D<key>=<value> for each define."""
    return Path(tiny.tiny_guest(name, **defines))


def _linked(name: str, suffix: str, options: list[str], defines: Mapping[str, int | str]) -> Path:
    source = ASM / f"{name}.S"
    flags = options + [f"-D{key}={value}" for key, value in sorted(defines.items())]
    content = b"".join(path.read_bytes() for path in (source, *SHARED)) + " ".join(flags).encode()
    target = cache() / f"{name}-{hashlib.sha256(content).hexdigest()[:16]}{suffix}"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_suffix(f".{os.getpid()}")
        link = ["-nostdlib", "-static", f"-I{ASM}", "-Wl,--build-id=none,-z,noexecstack"]
        subprocess.run(["gcc", *link, *flags, str(source), "-o", str(temporary)], check=True)
        temporary.replace(target)
    return target
