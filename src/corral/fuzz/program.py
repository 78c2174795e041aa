"""What a target is: a kernel, or a program that Corral's small Linux runs; and the machine for either."""

from __future__ import annotations

import os
import stat

from corral.config import MachineConfig
from corral.errors import ConfigError, HostError
from corral.files import cpio, elf
from corral.files.file import Flaw, ImageFile
from corral.launch.configure import configure
from corral.launch.events import ignore
from corral.launch.request import BootRequest
from corral.startup.record import replace
from corral.symbols import elf_symbols
from corral.symbols.table import Symbols

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.launch.events import Tell

LARGEST = 64 << 20  # bytes of a program
MEMORY = 128 << 20  # bytes of a guest that runs one
_KERNEL_MEMORY = 32 << 20
_PATH = "fuzz-target"  # in the guest's root


def config(
    path: str, folder: str, memory: int | None = None, tell: Tell = ignore
) -> tuple[MachineConfig, Symbols | None]:
    """The machine for a target, and its symbols where it is a program that has some. `folder` holds a file of it, until
    the machine is made. Raises BootError, ConfigError, HostError."""
    with ImageFile(path, "target") as file:
        program = _program(file)
        if program is None:
            return MachineConfig(kernel=path, memory=memory or _KERNEL_MEMORY), None
        rows = elf_symbols.find(file)
    symbols = Symbols(rows, path) if any(kind in "tT" for _, kind, _ in rows) else None
    made = configure(BootRequest(command=(f"/{_PATH}",), memory=memory or MEMORY), tell)
    assert made.initrd
    with open(made.initrd, "rb") as ours:
        archive = ours.read()
    archive += cpio.entry(_PATH, stat.S_IFREG | 0o755, program) + cpio.trailer()
    joined = os.path.join(folder, "initramfs.cpio")
    try:
        with open(joined, "wb") as new:
            new.write(archive)
    except OSError as error:
        raise HostError(f"cannot write {joined!r}: {error.strerror}; make room there, or set TMPDIR") from None
    return replace(made, initrd=joined), symbols


def _program(file: ImageFile) -> bytes | None:
    """Its content; None for a kernel. Raises BootError."""
    if file.read(0, 4) != b"\x7fELF":
        return None
    try:
        found = elf.parse(file.read(0, min(file.size, elf.HEAD)), file.size, None)
    except Flaw as flaw:
        raise file.error(str(flaw)) from None
    if not found.is_program:
        return None
    if found.is_dynamic:
        raise ConfigError(f"{file.path!r} needs libraries, which the guest has not; link it with -static")
    if found.bits != 64:
        raise ConfigError(
            f"{file.path!r} is a program of 32 bits, which Corral's small Linux does not run; build it with -m64"
        )
    if file.size > LARGEST:
        raise ConfigError(f"{file.path!r} has {file.size >> 20} MiB; a target has at most {LARGEST >> 20}; strip it")
    return file.read(0, file.size)
