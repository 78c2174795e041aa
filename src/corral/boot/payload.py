"""What a person writes of a payload on the command line, as values."""

from __future__ import annotations

from corral.arch.x86_64.registers import Mode
from corral.config import FlatEntry, Module
from corral.errors import ConfigError

_MODES = {mode.value: mode for mode in Mode}


def parse_module(text: str) -> Module:
    """From "FILE[=WORDS]". Raises ConfigError."""
    path, _, words = text.partition("=")
    if not path:
        raise ConfigError(
            f"--module {text!r} names no file; write it like --module disk.img or --module disk.img=words"
        )
    if "\0" in words:
        raise ConfigError(f"--module {path}: its words have a NUL byte in them")
    return Module(path, words)


def parse_flat(text: str) -> FlatEntry:
    """From "MODE@ADDRESS[,entry=ADDRESS]", addresses guest physical. Raises ConfigError."""
    place, _, rest = text.partition(",")
    mode, _, address = place.partition("@")
    name, _, entry = rest.partition("=")
    if mode not in _MODES or (rest and name != "entry"):
        raise ConfigError(f"--flat {text!r} is not MODE@ADDRESS[,entry=ADDRESS], like real@0x7c00 or long@0x200000")
    return FlatEntry(_MODES[mode], parse_address(address), parse_address(entry) if rest else None)


def parse_address(text: str, option: str = "--flat") -> int:
    """From hexadecimal with 0x, or decimal; below 2^64. Raises ConfigError."""
    try:
        if not text.isascii() or text != text.strip() or "_" in text or len(text) > 20:
            raise ValueError
        value = int(text, 0)
    except ValueError:
        value = -1
    if not 0 <= value < 1 << 64:
        raise ConfigError(f"{option}: {text!r} is not a number like 0x7c00")
    return value
