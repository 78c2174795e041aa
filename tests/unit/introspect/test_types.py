"""BTF: where the members of structures are, of what a hostile kernel may have in its memory."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.introspect.types import BadTypes, Types

STRUCT, UNION, INT, ENUM = 4, 5, 1, 6


def btf(types: bytes, names: bytes) -> bytes:
    return struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(names)) + types + names


def head(name: int, kind: int, parts: int, size: int) -> bytes:
    return struct.pack("<III", name, kind << 24 | parts, size)


NAMES = b"\0int\0task\0pid\0comm\0next\0list\0PG_slab\0"


def at(name: bytes) -> int:
    return NAMES.index(b"\0" + name + b"\0") + 1


KERNEL = btf(
    head(at(b"int"), INT, 0, 4)  # 1
    + struct.pack("<I", 0)
    + head(at(b"list"), STRUCT, 1, 8)  # 2
    + struct.pack("<III", at(b"next"), 1, 0)
    + head(0, UNION, 1, 8)  # 3: without a name
    + struct.pack("<III", at(b"pid"), 1, 0)
    + head(at(b"task"), STRUCT, 3, 40)  # 4
    + struct.pack("<III", at(b"comm"), 1, 0)
    + struct.pack("<III", 0, 3, 128)
    + struct.pack("<III", at(b"list"), 2, 192)
    + head(0, ENUM, 1, 4)
    + struct.pack("<Ii", at(b"PG_slab"), 9),
    NAMES,
)


def test_a_member_is_where_the_kernel_says() -> None:
    types = Types(KERNEL)
    assert types.size("task") == 40
    assert types.offset("task", "comm") == 0
    assert types.offset("task", "list", "next") == 24
    assert [one.name for one in types.members("task")] == ["comm", "pid", "list"]


def test_a_member_of_a_union_without_a_name_is_the_structures_own() -> None:
    assert Types(KERNEL).offset("task", "pid") == 16


def test_a_constant_has_its_value() -> None:
    types = Types(KERNEL)
    assert types.constant("PG_slab") == 9
    assert types.constant("PG_table") is None


@pytest.mark.parametrize("path", [("nothing",), ("task", "nothing"), ("task", "comm", "next")])
def test_what_there_is_not_is_told(path: tuple[str, ...]) -> None:
    with pytest.raises(BadTypes, match="this kernel"):
        Types(KERNEL).offset(*path)


def test_a_structure_in_itself_ends() -> None:
    endless = btf(head(1, STRUCT, 1, 8) + struct.pack("<III", 0, 1, 0), b"\0a\0")
    assert Types(endless).members("a") == []


def test_structures_that_multiply_are_told() -> None:
    types = b"".join(
        head(1 if depth == 0 else 0, STRUCT, 8, 8) + struct.pack("<III", 0, depth + 2, 0) * 8 for depth in range(12)
    )
    with pytest.raises(BadTypes, match="members"):
        Types(btf(types + head(0, STRUCT, 0, 0), b"\0a\0")).members("a")


@pytest.mark.parametrize("length", [0, 10, 23, 30, len(KERNEL) - len(NAMES) - 3])
def test_types_that_are_cut_off_are_told(length: int) -> None:
    try:
        types = Types(KERNEL[:length])
    except BadTypes:
        return
    with pytest.raises(BadTypes):
        types.offset("task", "pid")


@given(st.data())
def test_damaged_types_raise_nothing_else(data: st.DataObject) -> None:
    damaged = bytearray(KERNEL)
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        types = Types(bytes(damaged))
        types.offset("task", "list", "next")
        types.members("task")
        types.constant("PG_slab")
    except BadTypes:
        pass
