"""Machine configurations and sizes, right and absurd."""

from __future__ import annotations

import pytest

from corral.config import DiskConfig, MachineConfig, parse_disk, parse_size
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


@pytest.mark.parametrize(
    ("text", "disk"),
    [
        ("a.img", DiskConfig("a.img")),
        ("a,,b.img,ro", DiskConfig("a,b.img", read_only=True)),
        ("a.img,ro,cache=direct", DiskConfig("a.img", read_only=True, cache="direct")),
        ("/dev/sdb,serial=S 1,id=data", DiskConfig("/dev/sdb", serial="S 1", id="data")),
        ("a.img,ops=100,bytes=20M", DiskConfig("a.img", operations=100, bandwidth=20 << 20)),
        ("a.img,format=raw", DiskConfig("a.img", raw=True)),
        ("a.img,lock=off", DiskConfig("a.img", locked=False)),
        ("a.img,snapshot=on,layer=2G", DiskConfig("a.img", snapshot=True, layer=2 << 30)),
        ("a.img,snapshot=off,cache=writethrough", DiskConfig("a.img", cache="writethrough")),
    ],
)
def test_disks_as_words(text: str, disk: DiskConfig) -> None:
    assert parse_disk(text) == disk


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            ",ro",
            "a,rw",
            "a,cache=fast",
            "a,serial=",
            "a,serial=" + "x" * 21,
            "a,ops=-1",
            "a,format=qcow2",
            "a,ops=",
            "a,bytes=x",
        ),
        *(
            "a,ro,snapshot=on",
            "a,snapshot=maybe",
            "a,snapshot=on,cache=direct",
            "a,layer=1G",
            "a,snapshot=on,layer=",
            "a,",
            "a,serial=\x1b[2J",
        ),
    ],
)
def test_disks_that_cannot_be(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--disk|size"):
        parse_disk(text)


def test_machines_with_too_many_disks_or_two_of_a_name() -> None:
    with pytest.raises(ConfigError, match="at most 16"):
        MachineConfig("k", disks=(DiskConfig("a"),) * 17)
    with pytest.raises(ConfigError, match="same id"):
        MachineConfig("k", disks=(DiskConfig("a", id="x"), DiskConfig("b", id="x")))


@pytest.mark.parametrize("port", [0x1, 0xF4, 0x501, 0xFFFC])
def test_debug_exit_ports(port: int) -> None:
    assert MachineConfig("k", debug_exit=port).debug_exit == port


@pytest.mark.parametrize("port", [-1, 0, 0xFFFD, 1 << 16])
def test_ports_that_debug_exit_cannot_have(port: int) -> None:
    with pytest.raises(ConfigError, match="QEMU's is 0xf4"):
        MachineConfig("k", debug_exit=port)
