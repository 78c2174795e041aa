"""A PC's BIOS for guests that cannot do without: SeaBIOS, from the distribution's package, and a small ROM of ours."""

from __future__ import annotations

import os

from corral.arch.x86_64 import layout
from corral.config import Firmware
from corral.errors import HostError
from corral.guests import cache, programs, sources

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

PACKAGE = "seabios"
ROM = "rom"
IMAGE = "bios-microvm.bin"  # the one that finds virtio disks without PCI
_FLAGS = ["-m32", "-nostdlib", "-static", "-Wl,-Ttext=0,--build-id=none,--oformat=binary"]
_DEFINES = {
    "HANDOVER_PORT": layout.HANDOVER_PORT,
    "SETUP_SEGMENT": layout.REAL_MODE_SETUP >> 4,
    "STACK": layout.REAL_MODE_STACK - layout.REAL_MODE_SETUP,
}
_BLOCK = 512


def get(progress: Callable[[str], None] = lambda text: None) -> Firmware:
    """The firmware, fetched if the cache lacks it. Raises HostError when it or a compiler can't be had."""
    with open(_source(), "rb") as file:
        key = sources.digest(file.read(), repr((_FLAGS, _DEFINES)).encode())
    target = cache.folder("bios", key)
    with cache.making(target) as unfinished:
        if unfinished:
            from corral.guests import debian

            progress(f"fetching {PACKAGE}")
            os.link(debian.file(PACKAGE, IMAGE), os.path.join(unfinished, "bios.bin"))
            rom = os.path.join(unfinished, ROM)
            if carried := programs.carries(ROM):
                import shutil

                shutil.copyfile(carried, rom)
            else:
                assemble(rom)
    return Firmware(os.path.join(target, "bios.bin"), os.path.join(target, ROM))


def assemble(target: str) -> None:
    """Writes the option ROM to `target`. Raises HostError without a compiler."""
    import subprocess

    defines = [f"-D{name}={value:#x}" for name, value in _DEFINES.items()]
    try:
        subprocess.run(["gcc", *_FLAGS, *defines, _source(), "-o", target], check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise HostError("no gcc to assemble an option ROM; install it: apt-get install gcc") from error
    except subprocess.CalledProcessError as error:
        raise HostError(f"gcc cannot assemble an option ROM: {error.stderr.strip().splitlines()[-1]}") from error
    with open(target, "r+b") as file:
        rom = finished(file.read())
        file.seek(0)
        file.write(rom)


def _source() -> str:
    return os.path.join(sources.folder("bios"), "rom.S")


def finished(code: bytes) -> bytes:
    """The ROM as a BIOS takes it: whole blocks, how many in the third byte, and the sum of all bytes zero."""
    rom = bytearray(code + bytes(-(len(code) + 1) % _BLOCK) + b"\0")
    rom[2] = len(rom) // _BLOCK
    rom[-1] = -sum(rom) & 0xFF
    return bytes(rom)
