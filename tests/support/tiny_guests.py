"""guests/asm assembled on demand: one PVH executable a file, kept in the user's cache folder by content."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

ASM = Path(__file__).resolve().parents[2] / "guests" / "asm"
SHARED = (ASM / "pvh.inc", ASM / "pvh.ld")


def cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "corral" / "asm"


def raw(executable: Path) -> Path:
    """The same as a file without a format: from its lowest byte to its last, .bss left out."""
    target = executable.with_name(f"{executable.name}.raw")
    subprocess.run(["objcopy", "-O", "binary", str(executable), str(target)], check=True)
    return target


def flat(name: str, address: int) -> Path:
    """guests/asm/<name>.S as raw code for `address`."""
    source = ASM / f"{name}.S"
    target = cache() / f"{name}-{hashlib.sha256(source.read_bytes()).hexdigest()[:16]}.flat"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_suffix(f".{os.getpid()}")
        link = ["-m32", "-nostdlib", "-static", f"-Wl,-Ttext={address:#x},--build-id=none,--oformat=binary"]
        subprocess.run(["gcc", *link, str(source), "-o", str(temporary)], check=True)
        temporary.replace(target)
    return target


def tiny_guest(name: str, **defines: int) -> Path:
    """The executable of guests/asm/<name>.S, with -D<key>=<value> for each define."""
    source = ASM / f"{name}.S"
    flags = [f"-D{key}={value}" for key, value in sorted(defines.items())]
    content = b"".join(path.read_bytes() for path in (source, *SHARED)) + " ".join(flags).encode()
    target = cache() / f"{name}-{hashlib.sha256(content).hexdigest()[:16]}"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_suffix(f".{os.getpid()}")
        link = ["-m32", "-nostdlib", "-static", f"-Wl,-T{ASM}/pvh.ld,--build-id=none,-z,noexecstack"]
        subprocess.run(["gcc", *link, f"-I{ASM}", *flags, str(source), "-o", str(temporary)], check=True)
        temporary.replace(target)
    return target
