"""Machine configurations and sizes, right and absurd."""

from __future__ import annotations

import pytest

from corral.config import MachineConfig, parse_size
from corral.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "size"),
    [("512M", 512 << 20), ("512", 512 << 20), ("6G", 6 << 30), ("2gib", 2 << 30), ("1t", 1 << 40), ("64k", 65536)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "M", "-1G", "1.5G", "1X", "0x10", "१G", "9" * 400, "1 G", "1GG", "nan"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ConfigError, match="not a size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("memory", 0),
        ("memory", -4096),
        ("memory", 4096),
        ("memory", (64 << 20) + 1),
        ("memory", 1 << 60),
        ("cpus", 0),
        ("cpus", -1),
        ("cpus", 65),
        ("cmdline", "a\0b"),
    ],
)
def test_what_no_machine_can_have(field: str, value: object) -> None:
    with pytest.raises(ConfigError):
        MachineConfig(kernel="vmlinux", **{field: value})  # type: ignore[arg-type]
