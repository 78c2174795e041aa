"""A small ISO 9660 image with Rock Ridge names: files in its root folder, and nothing that differs from run to run.

Sources: ECMA-119; IEEE P1281 (SUSP) and P1282 (RRIP) for the names as they are.
"""

from __future__ import annotations

import struct

SECTOR = 2048
_DESCRIPTOR, _TERMINATOR, _PATHS_LITTLE, _PATHS_BIG, _ROOT, _FIRST_FILE = 16, 17, 18, 19, 20, 21
_DATE = bytes((80, 1, 1, 0, 0, 0, 0))  # 1980-01-01
_NO_DATE = b"0" * 16 + b"\0"
_FOLDER = 2  # a flag of a record
_FILE_MODE, _FOLDER_MODE = 0o100444, 0o040555
_MOST_FILES, _LONGEST_NAME = 8, 64  # whose records fit into the root folder's one sector


def image(label: str, files: dict[str, bytes]) -> bytes:
    """An image with the volume label `label`, at most 32 capitals and digits, and `files` by name: at most 8, whose
    names have at most 64 letters, digits and hyphens and differ in their first eight. Raises ValueError."""
    names = {_short_name(name): name for name in files}
    if len(names) < len(files) or len(files) > _MOST_FILES or any(len(name) > _LONGEST_NAME for name in files):
        raise ValueError(f"an image cannot have these files: {', '.join(files)}")
    at, places = _FIRST_FILE, {}
    for short in sorted(names):
        places[short] = at
        at += -(-len(files[names[short]]) // SECTOR)
    root = _record(
        b"\0", _ROOT, SECTOR, _FOLDER, _entry(b"SP", b"\xbe\xef\0") + _attributes(_FOLDER_MODE) + _ROCK_RIDGE
    )
    root += _record(b"\1", _ROOT, SECTOR, _FOLDER, _attributes(_FOLDER_MODE))
    for short, place in places.items():
        name = names[short]
        known_as = _entry(b"NM", b"\0" + name.encode())
        root += _record(short, place, len(files[name]), 0, _attributes(_FILE_MODE) + known_as)
    sectors = [
        bytes(SECTOR * _DESCRIPTOR),
        _descriptor(label, at),
        b"\xffCD001\1",
        struct.pack("<BBIHxx", 1, 0, _ROOT, 1),
        struct.pack(">BBIHxx", 1, 0, _ROOT, 1),
        root,
        *(files[names[short]] for short in places),
    ]
    return b"".join(sector + bytes(-len(sector) % SECTOR) for sector in sectors)


def _short_name(name: str) -> bytes:
    """What the name is to a reader without Rock Ridge."""
    letters = "".join(c if c.isalnum() else "_" for c in name.upper())
    return f"{letters[:8]}.;1".encode("ascii")


def _both_endian(value: int, size: int) -> bytes:
    return value.to_bytes(size, "little") + value.to_bytes(size, "big")


def _record(name: bytes, sector: int, size: int, flags: int, extra: bytes = b"") -> bytes:
    """A directory record (ECMA-119, 9.1)."""
    padding = bytes(1 - len(name) % 2)
    body = _both_endian(sector, 4) + _both_endian(size, 4) + _DATE + bytes((flags, 0, 0)) + _both_endian(1, 2)
    body += bytes((len(name),)) + name + padding + extra
    body += bytes(len(body) % 2)
    return bytes((2 + len(body), 0)) + body


def _entry(kind: bytes, body: bytes) -> bytes:
    """A system use entry: signature, length, version."""
    return kind + bytes((4 + len(body), 1)) + body


def _attributes(mode: int) -> bytes:
    links = 2 if mode == _FOLDER_MODE else 1
    return _entry(b"PX", b"".join(_both_endian(number, 4) for number in (mode, links, 0, 0)))


_ROCK_RIDGE = _entry(b"ER", bytes((10, 0, 0, 1)) + b"RRIP_1991A")


def _descriptor(label: str, sectors: int) -> bytes:
    """The primary volume descriptor (ECMA-119, 8.4)."""
    return b"".join(
        (
            b"\1CD001\1\0",
            b" " * 32,
            label.encode("ascii").ljust(32),
            bytes(8),
            _both_endian(sectors, 4),
            bytes(32),
            _both_endian(1, 2),
            _both_endian(1, 2),
            _both_endian(SECTOR, 2),
            _both_endian(10, 4),  # of the path table
            struct.pack("<II", _PATHS_LITTLE, 0),
            struct.pack(">II", _PATHS_BIG, 0),
            _record(b"\0", _ROOT, SECTOR, _FOLDER),
            b" " * (4 * 128 + 3 * 37),
            _NO_DATE * 4,
            b"\1",
        )
    )
