"""What KVM counts of a VM or a vCPU: its binary statistics (api.rst, 4.133, KVM_GET_STATS_FD)."""

from __future__ import annotations

import os
import struct

from corral.errors import HostError
from corral.native import Handle, ioctl
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_HEADER = struct.Struct("<IIIIII")  # flags, name_size, num_desc, id_offset, desc_offset, data_offset
_DESCRIPTOR = struct.Struct("<IhHII")  # flags, exponent, size, offset, bucket_size; the name follows
_KINDS = ("cumulative", "instant", "peak", "linear histogram", "logarithmic histogram")
_UNITS = ("", "bytes", "seconds", "cycles", "boolean")
_MOST = 4096  # statistics, or bytes of a name: more is no KVM


@record(frozen=True)
class Statistic:
    """`values`: one, or the buckets of a histogram. In `unit`s of `base` to the power of `exponent`."""

    name: str
    kind: str
    unit: str
    base: int
    exponent: int
    bucket: int
    values: tuple[int, ...]

    @property
    def value(self) -> int:
        """The one, or the sum of all buckets."""
        return sum(self.values)


class Statistics:
    """Of the VM or vCPU with the descriptor `fd`, which may be closed before. Raises KvmError: this KVM has none."""

    def __init__(self, fd: Handle) -> None:
        cure = "this host's KVM keeps no statistics (Linux 5.14 does)"
        self._fd = Handle(ioctl(fd, "KVM_GET_STATS_FD", cure=cure), os.close, "this tally")

    def read(self) -> list[Statistic]:
        """All, as they are now."""
        return parse(self._bytes)

    @property
    def fd(self) -> int:
        """For C, until close()."""
        return int(self._fd.value)

    def offset(self, name: str) -> int:
        """Where a statistic is in what the descriptor reads. Raises HostError: this KVM has none of this name."""
        header = self._bytes(0, _HEADER.size)
        _, name_size, count, _, descriptors, data = _HEADER.unpack(header)
        size = _DESCRIPTOR.size + min(name_size, _MOST)
        for number in range(min(count, _MOST)):
            raw = self._bytes(descriptors + size * number, size)
            if raw[_DESCRIPTOR.size :].partition(b"\0")[0] == name.encode():
                return int(data + _DESCRIPTOR.unpack_from(raw)[3])
        raise HostError(f"this host's KVM does not count {name}")

    def _bytes(self, offset: int, length: int) -> bytes:
        """By preadv2(2), which the jail has for other things."""
        data = bytearray(length)
        return bytes(data[: self._fd.call(os.preadv, [data], offset)])

    def close(self) -> None:
        self._fd.close()


def parse(read: Callable[[int, int], bytes]) -> list[Statistic]:
    """From `read(offset, length)`. Raises HostError for what is none of KVM's."""
    try:
        _, name_size, count, _, descriptors, data = _HEADER.unpack(read(0, _HEADER.size))
        if not 0 < name_size <= _MOST or count > _MOST:
            raise ValueError
        size = _DESCRIPTOR.size + name_size
        table = read(descriptors, size * count)
        return [_statistic(table[at : at + size], data, read) for at in range(0, size * count, size)]
    except (struct.error, ValueError, IndexError):
        raise HostError("KVM's statistics have a form that Corral does not know; please report it") from None


def _statistic(raw: bytes, data: int, read: Callable[[int, int], bytes]) -> Statistic:
    flags, exponent, size, offset, bucket = _DESCRIPTOR.unpack_from(raw)
    if not 0 < size <= _MOST:
        raise ValueError
    values = struct.unpack(f"<{size}Q", read(data + offset, 8 * size))
    name = raw[_DESCRIPTOR.size :].partition(b"\0")[0].decode("ascii")
    base = 10 if not flags >> 8 & 15 else 2
    return Statistic(name, _KINDS[flags & 15], _UNITS[flags >> 4 & 15], base, exponent, bucket, values)
