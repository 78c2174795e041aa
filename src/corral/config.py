"""What a machine is made of, as frozen values that can be checked with no KVM present."""

from __future__ import annotations

from corral.errors import ConfigError
from corral.memory import check_size
from corral.record import record

MOST_CPUS = 64
_UNITS = {"": 1 << 20, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


@record(frozen=True)
class MachineConfig:
    """`memory` is in bytes, a multiple of 4 KiB; `cmdline` is the kernel's whole command line.

    Raises ConfigError for what no machine can have. Files are opened, and found wanting, when the machine is built.
    """

    kernel: str
    initrd: str | None = None
    cmdline: str = ""
    memory: int = 512 << 20
    cpus: int = 1

    def __post_init__(self) -> None:
        check_size(self.memory)
        if not 1 <= self.cpus <= MOST_CPUS:
            raise ConfigError(f"{self.cpus} CPUs: a guest has 1 to {MOST_CPUS}")
        if "\0" in self.cmdline:
            raise ConfigError("the kernel command line has a NUL byte in it")


def parse_size(text: str) -> int:
    """Bytes from "512M", "6G", "1T"; a bare number is MiB. Raises ConfigError."""
    number, unit = text.strip().upper().removesuffix("IB").removesuffix("B"), ""
    if number[-1:].isalpha():
        number, unit = number[:-1], number[-1]
    if not (number.isascii() and number.isdigit()) or unit not in _UNITS or len(number) > 15:
        raise ConfigError(f"{text!r} is not a size; write it like 512M or 6G")
    return int(number) * _UNITS[unit]
