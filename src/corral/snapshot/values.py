"""Records as JSON, and back: a file's author may be hostile, so each value is held against its field's type."""

from __future__ import annotations

import os

from corral.errors import BootError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_PLAIN = {"int": int, "str": str, "bool": bool}
MOST_BITS = 64  # of an int


class BadValue(BootError):
    """A value that its field cannot have; the text says which."""


def to_plain(value: Any) -> Any:
    """What json can write: records as objects, bytes as hexadecimal digits, tuples as lists."""
    if value is None or isinstance(value, int | str):
        return value
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, tuple):
        return [to_plain(one) for one in value]
    return {name: to_plain(getattr(value, name)) for name in type(value).__annotations__}


def from_plain(kind: str, value: Any, records: dict[str, type], where: str = "") -> Any:
    """The value of a field of type `kind`, as annotations write it: int, str, bool, bytes, one of `records`, any of
    these or None, and tuples. Raises BadValue."""
    if kind.endswith(" | None"):
        return None if value is None else from_plain(kind.removesuffix(" | None"), value, records, where)
    if kind in _PLAIN:
        if type(value) is not _PLAIN[kind] or (isinstance(value, int) and value.bit_length() > MOST_BITS):
            raise _bad(where)
        if isinstance(value, str) and not _can_be_named(value):
            raise _bad(where)
        return value
    if kind == "bytes":
        return _bytes(value, where)
    if kind.startswith("tuple["):
        return _tuple(kind, value, records, where)
    record = records[kind.rpartition(".")[2]]
    fields = record.__annotations__
    if not isinstance(value, dict) or value.keys() != fields.keys():
        raise _bad(where or kind)
    return record(**{name: from_plain(fields[name], value[name], records, f"{where}.{name}") for name in fields})


def _can_be_named(text: str) -> bool:
    """Whether a file of the host or a kernel's parameters can be called so."""
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def _bytes(value: Any, where: str) -> bytes:
    try:
        return bytes.fromhex(value)
    except (TypeError, ValueError):
        raise _bad(where) from None


def _tuple(kind: str, value: Any, records: dict[str, type], where: str) -> tuple[Any, ...]:
    inner = kind.removeprefix("tuple[").removesuffix("]")
    if not isinstance(value, list):
        raise _bad(where)
    kinds = [inner.removesuffix(", ...")] * len(value) if inner.endswith(", ...") else inner.split(", ")
    if len(kinds) != len(value):
        raise _bad(where)
    return tuple(from_plain(one, item, records, where) for one, item in zip(kinds, value, strict=True))


def _bad(where: str) -> BadValue:
    return BadValue(f"its {where.lstrip('.')} makes no sense")
