"""What scripts/kallsyms.c writes, invented."""

from __future__ import annotations

import struct


def tables(names: list[str], addresses: list[int], base: int, several_cpus: bool, new: bool) -> bytes:
    """`new`: as since 6.4, with the offsets last and each symbol's place by name before the tokens."""
    tokens = [bytes([code]) if 0x20 < code < 0x7F else b"%c_" % (0x41 + code % 26) for code in range(256)]
    compressed = [b"T" + name.encode() for name in names]
    packed, markers = b"", []
    for number, name in enumerate(compressed):
        if number % 256 == 0:
            markers.append(len(packed))
        assert len(name) < 0x80
        packed += bytes([len(name)]) + name

    def aligned(data: bytes) -> bytes:
        return data + bytes(-len(data) % 8)

    offsets = [base - 1 - at if several_cpus and at >= base else at if several_cpus else at - base for at in addresses]
    places = aligned(struct.pack(f"<{len(names)}i", *offsets)) + struct.pack("<Q", base)
    table = b"".join(token + b"\0" for token in tokens)
    starts = [0]
    for token in tokens[:-1]:
        starts.append(starts[-1] + len(token) + 1)
    parts = [b"" if new else places, struct.pack("<Q", len(names)), aligned(packed)]
    parts += [aligned(struct.pack(f"<{len(markers)}I", *markers)), aligned(bytes(3 * len(names)) if new else b"")]
    parts += [aligned(table), struct.pack("<256H", *starts), places if new else b""]
    return b"".join(parts)
