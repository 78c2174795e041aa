"""Whose a page of a guest's RAM is, by its struct page: slab objects, page tables, programs' memory, files', free."""

from __future__ import annotations

import struct

from corral.introspect.subject import KERNEL_HALF
from corral.memory import PAGE, GuestMemoryError
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.introspect.kernel import GuestKernel
    from corral.introspect.types import Types

_MOST_CACHES = 4096
_LARGEST_OBJECT = 1 << 23
_NAME = 64
_ORDERS = 11  # of free blocks: MAX_ORDER
_BASE, _OLD_TABLE, _OLD_BUDDY = 0xF0000000, 0x200, 0x80  # page_type before Linux 6.11 (include/linux/page-flags.h)
_ANONYMOUS, _MOVABLE = 1, 3
SLAB, TABLE, ANONYMOUS, FILE, FREE, KERNEL, RESERVED = (
    *("slab", "page table", "program memory", "page cache"),
    *("free memory", "kernel pages", "since boot"),
)


@record(frozen=True)
class SlabCache:
    """A slab cache: `size` bytes from an object to the next. `alone`: no other kind of object is in it."""

    name: str
    size: int
    alone: bool


@record(frozen=True)
class Owner:
    """`kind` is one of the above; RESERVED is what the kernel took before it had an allocator, as struct pages. Of a
    slab: its cache, and the guest physical address that its first object is at."""

    kind: str
    cache: SlabCache | None = None
    first: int = 0


class Pages:
    """The struct pages of a guest's kernel (include/linux/mm_types.h), of Linux 6.1 and later. Raises BadTypes."""

    def __init__(self, kernel: GuestKernel, types: Types) -> None:
        self._kernel = kernel
        self._size = types.size("page")
        self._head_at = types.offset("page", "compound_head")
        self._mapping_at, self._private_at = types.offset("page", "mapping"), types.offset("page", "private")
        self._type_at, self._count_at = types.offset("page", "page_type"), types.offset("page", "_refcount")
        self._cache_at = types.offset("slab" if types.has("slab") else "page", "slab_cache")
        self._cache_fields = [types.offset("kmem_cache", name) for name in ("name", "size", "refcount")]
        flags = [types.constant(name) for name in ("PG_slab", "PG_reserved")]
        self._slab_flag, self._reserved = (None if one is None else 1 << (one & 63) for one in flags)
        self._slab_type = types.constant("PGTY_slab")
        self._table_type, self._buddy_type = types.constant("PGTY_table"), types.constant("PGTY_buddy")
        self._mapped: dict[int, bytes] = {}  # pages of struct pages
        self._caches: dict[int, SlabCache | None] = {}

    def is_reserved(self, gpa: int) -> bool:
        """Whether it is none that the kernel gives out, as its own code and variables are, but for what it has given
        back once it was up."""
        if self._reserved is None:
            return True
        try:
            return bool(self._u64(self._page(gpa // PAGE), 0) & self._reserved)
        except GuestMemoryError:
            return False

    def owner(self, gpa: int) -> Owner:
        """What the guest's kernel says of the page; KERNEL where it says nothing that is known."""
        number = gpa // PAGE
        try:
            page = self._page(number)
            head = self._u64(page, self._head_at)
            if head & 1:
                at = head - 1 - self._kernel.vmemmap
                if at < 0 or at % self._size:
                    return Owner(KERNEL)
                number = at // self._size
                page = self._page(number)
            return self._owner(page, number)
        except (GuestMemoryError, struct.error):
            return Owner(KERNEL)

    def _owner(self, page: bytes, number: int) -> Owner:
        kind = int.from_bytes(page[self._type_at : self._type_at + 4], "little")
        if self._is_slab(page, kind):
            cache = self._cache(self._u64(page, self._cache_at))
            return Owner(SLAB, cache, number * PAGE)
        if self._is(kind, self._table_type, _OLD_TABLE):
            return Owner(TABLE)
        if self._reserved is not None and self._u64(page, 0) & self._reserved:
            return Owner(RESERVED)
        mapping = self._u64(page, self._mapping_at)
        count = int.from_bytes(page[self._count_at : self._count_at + 4], "little")
        if count == 0 or self._is_free(number):
            return Owner(FREE)
        if mapping & _MOVABLE == _ANONYMOUS:
            return Owner(ANONYMOUS)
        return Owner(FILE if mapping >= KERNEL_HALF and not mapping & _MOVABLE else KERNEL)

    def _is_slab(self, page: bytes, kind: int) -> bool:
        if self._slab_type is not None:
            return kind >> 24 == self._slab_type
        return self._slab_flag is not None and bool(self._u64(page, 0) & self._slab_flag)

    @staticmethod
    def _is(kind: int, new: int | None, old: int) -> bool:
        return kind >> 24 == new if new is not None else kind & (_BASE | old) == _BASE

    def _is_free(self, number: int) -> bool:
        for order in range(_ORDERS):
            first = number & ~((1 << order) - 1)
            page = self._page(first)
            kind = int.from_bytes(page[self._type_at : self._type_at + 4], "little")
            if self._is(kind, self._buddy_type, _OLD_BUDDY) and order <= self._u64(page, self._private_at) < _ORDERS:
                return True
        return False

    def _page(self, number: int) -> bytes:
        """A struct page. Raises GuestMemoryError."""
        address = self._kernel.vmemmap + number * self._size
        window, at = address - address % PAGE, address % PAGE
        data = self._mapped.get(window)
        if data is None:
            data = self._mapped[window] = self._kernel.read(window, PAGE)
        if at + self._size > PAGE:
            return self._kernel.read(address, self._size)
        return data[at : at + self._size]

    @staticmethod
    def _u64(data: bytes, at: int) -> int:
        return int.from_bytes(data[at : at + 8], "little")

    def _cache(self, at: int) -> SlabCache | None:
        if at not in self._caches and len(self._caches) < _MOST_CACHES:
            try:
                name, size, users = (at + offset for offset in self._cache_fields)
                kernel = self._kernel
                found = SlabCache(kernel.text(kernel.u64(name), _NAME), kernel.u32(size), kernel.u32(users) == 1)
                self._caches[at] = found if 0 < found.size <= _LARGEST_OBJECT else None
            except GuestMemoryError:
                self._caches[at] = None
        return self._caches.get(at)
