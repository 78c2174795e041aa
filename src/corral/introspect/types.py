"""The types of a kernel by its BTF (Documentation/bpf/btf.rst): sizes, and where the members of structures are.

Debian's kernels have BTF in their memory; that of the small kernel is made with its debug information.
"""

from __future__ import annotations

import struct

from corral.errors import BootError
from corral.printable import printable
from corral.startup.record import record

MAGIC = 0xEB9F
MOST = 64 << 20  # bytes; a distribution's kernel has 6 MiB
_MOST_TYPES = 1 << 20
_MOST_MEMBERS = 1 << 16  # of a structure, with those of the ones in it
_DEEPEST = 16  # structures without a name in each other
_HEADER = struct.Struct("<HBBIIIII")
_TYPE = struct.Struct("<III")
_MEMBER = struct.Struct("<III")
_ENUM, _ENUM64 = struct.Struct("<Ii"), struct.Struct("<III")
_STRUCT, _UNION, _ENUM_KIND, _ENUM64_KIND = 4, 5, 6, 19
_SKIPPED = {1: 4, 3: 12, 14: 4, 17: 4}  # bytes behind the head of a type: INT, ARRAY, VAR, DECL_TAG
_EACH = {4: 12, 5: 12, 6: 8, 13: 8, 15: 12, 19: 12}  # the same for each of its `vlen` parts
_PLAIN = frozenset((2, 7, 8, 9, 10, 11, 12, 16, 18))
_LAST = 19


class BadTypes(BootError):
    """Of BTF that cannot be read, or lacks what is asked for."""


@record(frozen=True)
class TypeMember:
    """`offset` in bytes from the beginning of the outermost structure; `type` is a number."""

    name: str
    offset: int
    type: int


class Types:
    """Of `data`, all of a kernel's BTF. Raises BadTypes."""

    def __init__(self, data: bytes) -> None:
        if len(data) > MOST:
            raise BadTypes(f"the kernel's BTF has {len(data)} bytes, at most {MOST}")
        try:
            self._index(data)
        except (struct.error, IndexError):
            raise BadTypes("the kernel's BTF is cut off or damaged") from None

    def _index(self, data: bytes) -> None:
        magic, version, _, length, types_at, types_size, names_at, names_size = _HEADER.unpack_from(data)
        if magic != MAGIC or version != 1:
            raise BadTypes("the kernel's BTF is damaged, or of a version that Corral does not know")
        self._names = data[length + names_at : length + names_at + names_size]
        self._types = types = data[length + types_at : length + types_at + types_size]
        self._offsets: dict[tuple[str, ...], int] = {}
        self._places = [0]  # of a type by its number; 0 is void
        self._named: dict[bytes, int] = {}  # structures and unions
        self._enums: list[int] = []
        at, names, unpack, places = 0, self._names, _TYPE.unpack_from, self._places
        while at < len(types):
            name, info, _ = unpack(types, at)
            kind, count = info >> 24 & 31, info & 0xFFFF
            if kind in _EACH:
                if kind in (_STRUCT, _UNION) and name:
                    self._named.setdefault(names[name : names.find(b"\0", name)], len(places))
                elif kind in (_ENUM_KIND, _ENUM64_KIND):
                    self._enums.append(at)
                size = 12 + _EACH[kind] * count
            elif kind in _PLAIN:
                size = 12
            elif kind in _SKIPPED:
                size = 12 + _SKIPPED[kind]
            else:
                raise BadTypes(f"the kernel's BTF has a type of kind {kind}, which Corral does not know")
            if len(places) > _MOST_TYPES:
                raise BadTypes(f"the kernel's BTF has more than {_MOST_TYPES} types")
            if at + size > len(types):
                raise BadTypes("the kernel's BTF is cut off or damaged")
            places.append(at)
            at += size

    def _name(self, at: int) -> str:
        end = self._names.find(b"\0", at)
        return printable(self._names[at:end].decode("latin-1")) if 0 <= at < end else ""

    def has(self, structure: str) -> bool:
        return structure.encode() in self._named

    def size(self, structure: str) -> int:
        """In bytes. Raises BadTypes for what there is not."""
        return int(_TYPE.unpack_from(self._types, self._places[self._number(structure)])[2])

    def _number(self, structure: str) -> int:
        found = self._named.get(structure.encode())
        if found is None:
            raise BadTypes(f"this kernel has no struct {structure}")
        return found

    def members(self, structure: str) -> list[TypeMember]:
        """In order; those of structures without a name as if they were its own."""
        return self._members(self._number(structure), 0)

    def _members(self, number: int, base: int) -> list[TypeMember]:
        """Raises BadTypes for more than can be, as of structures that are in each other many times."""
        found: list[TypeMember] = []
        self._add_members(number, base, 0, found, [_MOST_MEMBERS])
        return found

    def _add_members(self, number: int, base: int, depth: int, found: list[TypeMember], left: list[int]) -> None:
        at = self._places[number]
        _, info, _ = _TYPE.unpack_from(self._types, at)
        left[0] -= info & 0xFFFF
        if left[0] < 0:
            raise BadTypes(f"a structure of the kernel's BTF has more than {_MOST_MEMBERS} members")
        for index in range(info & 0xFFFF):
            name, kind, place = _MEMBER.unpack_from(self._types, at + 12 + 12 * index)
            offset = base + ((place & 0xFFFFFF) if info >> 31 else place) // 8
            if name:
                found.append(TypeMember(self._name(name), offset, kind))
            elif depth < _DEEPEST and self._is_structure(kind):
                self._add_members(kind, offset, depth + 1, found, left)

    def _is_structure(self, number: int) -> bool:
        if not 0 < number < len(self._places):
            return False
        return _TYPE.unpack_from(self._types, self._places[number])[1] >> 24 & 31 in (_STRUCT, _UNION)

    def offset(self, structure: str, *path: str) -> int:
        """In bytes, of a member, or of a member of a member. Raises BadTypes."""
        known = self._offsets.get((structure, *path))
        if known is None:
            known = self._offsets[structure, *path] = self._offset(structure, path)
        return known

    def _offset(self, structure: str, path: tuple[str, ...]) -> int:
        number, offset, where = self._number(structure), 0, structure
        for name in path:
            if not self._is_structure(number):
                raise BadTypes(f"{where} of this kernel is no structure")
            member = next((one for one in self._members(number, offset) if one.name == name), None)
            if member is None:
                raise BadTypes(f"struct {where} of this kernel has no member {name}")
            number, offset, where = member.type, member.offset, f"{where}.{name}"
        return offset

    def has_member(self, structure: str, name: str) -> bool:
        return self.has(structure) and any(one.name == name for one in self.members(structure))

    def constant(self, name: str) -> int | None:
        """Of an enum, by the constant's name; None where there is none."""
        wanted = name.encode() + b"\0"
        at = self._names.find(b"\0" + wanted) + 1
        if not at:
            return None
        for place in self._enums:
            _, info, _ = _TYPE.unpack_from(self._types, place)
            wide = info >> 24 & 31 == _ENUM64_KIND
            form = _ENUM64 if wide else _ENUM
            for index in range(info & 0xFFFF):
                fields = form.unpack_from(self._types, place + 12 + form.size * index)
                if fields[0] == at:
                    return int(fields[1] | fields[2] << 32 if wide else fields[1])
        return None
