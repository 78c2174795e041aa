"""Extended attributes that an archive tells of, and which of them Linux has (xattr(7)).

Archives of other systems, and other tars, have some that no file system here can hold; those are left out and told of.
"""

from __future__ import annotations

SCHILY = b"SCHILY.xattr."  # as star writes them, and with it GNU tar
# The same things as others write them; star's form is beside most of them.
_OTHERS = (b"LIBARCHIVE.xattr.", b"RHT.", b"SCHILY.acl.")
_NAMESPACES = (b"user.", b"trusted.", b"security.")
_ACLS = (b"system.posix_acl_access", b"system.posix_acl_default")
LONGEST = 255  # bytes of a name: XATTR_NAME_MAX

Pairs = tuple[tuple[bytes, bytes], ...]


def sort_out(pax: dict[bytes, bytes]) -> tuple[Pairs, tuple[bytes, ...]]:
    """Names and values that a file can have, and the names of the others. A name may be longer than LONGEST."""
    kept, left_out = [], []
    for key, value in pax.items():
        if key.startswith(SCHILY):
            name = key[len(SCHILY) :]
            if _has_place(name, value):
                kept.append((name, value))
            else:
                left_out.append(name)
        elif key.startswith(_OTHERS) and SCHILY + key.removeprefix(_OTHERS[0]).removeprefix(_OTHERS[1]) not in pax:
            left_out.append(key)
    return tuple(kept), tuple(left_out)


def _has_place(name: bytes, value: bytes) -> bool:
    if name in _ACLS:  # version 2, and entries of 8 bytes
        return value[:4] == b"\2\0\0\0" and len(value) % 8 == 4
    return name.startswith(_NAMESPACES) and name not in _NAMESPACES
