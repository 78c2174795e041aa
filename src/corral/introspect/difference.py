"""What differs between two snapshots of a guest: from pages to the kernel's variables, slab objects and fields."""

from __future__ import annotations

import re

from corral.errors import ConfigError, CorralError
from corral.introspect import pages
from corral.introspect.kernel import KERNEL_MAP, GuestKernel, NotLinux, find
from corral.introspect.linux import types_of
from corral.introspect.pages import Owner, Pages
from corral.introspect.types import BadTypes, Types
from corral.memory import PAGE, GuestMemoryError
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from corral.introspect.subject import Saved
    from corral.memory import GuestMemory

_WINDOW = 1 << 18
_CHANGED = re.compile(rb"[^\0]+")
VARIABLE, PER_CPU, STACK, RAM = "kernel", "per-CPU", "kernel stack", "memory"
HEAP = (pages.SLAB, pages.KERNEL)  # what the kernel has allocated for itself
_MOST_CPUS = 1024
_STACK = 16384  # bytes
_LARGEST = 1 << 24  # bytes of a variable
# The structures in caches that are called otherwise.
_STRUCTURES = {
    "filp": "file",
    "inode_cache": "inode",
    "files_cache": "files_struct",
    "signal_cache": "signal_struct",
    "sighand_cache": "sighand_struct",
    "fs_cache": "fs_struct",
    "cred_jar": "cred",
    "radix_tree_node": "xa_node",
    "kernfs_node_cache": "kernfs_node",
    "proc_inode_cache": "proc_inode",
    "shmem_inode_cache": "shmem_inode_info",
    "sock_inode_cache": "socket_alloc",
    "ext4_inode_cache": "ext4_inode_info",
}


@record(frozen=True)
class MemoryChange:
    """`name` is a variable, a slab cache, a task; `bytes` how many differ, `objects` in how many objects or pages;
    `fields` which members of the structure differ, and in how many objects each."""

    kind: str
    name: str
    bytes: int
    objects: int
    fields: tuple[tuple[str, int], ...] = ()


@record(frozen=True)
class Difference:
    """`pages` is how many differ. `note` says why less is told than could be, "" for nothing."""

    pages: int
    bytes: int
    changes: tuple[MemoryChange, ...]
    note: str

    def named(self, kinds: tuple[str, ...] = HEAP) -> float:
        """The part of the bytes of these kinds that has a name; 1.0 where there are none."""
        every = [one for one in self.changes if one.kind in kinds]
        total = sum(one.bytes for one in every)
        return sum(one.bytes for one in every if one.name) / total if total else 1.0


def between(before: Saved, after: Saved) -> Difference:
    """Raises ConfigError for snapshots of guests that are not alike."""
    if before.memory.size != after.memory.size:
        sizes = (before.memory.size >> 20, after.memory.size >> 20)
        raise ConfigError(
            f"the guests of the snapshots have {sizes[0]} and {sizes[1]} MiB of memory; save one guest twice"
        )
    if before.kernel != after.kernel:
        raise ConfigError(f"the snapshots are of guests with other kernels, {before.kernel!r} and {after.kernel!r}")
    tally, note = _Tally(*_meaning(after)), ""
    count = 0
    for gpa, old, new in _pages(before, after):
        tally.add(gpa, old, new)
        count += 1
    if tally.kernel is None:
        note = "no Linux with known symbols is in it: only pages are told"
    elif tally.pages is None:
        note = "the kernel's types are not known, so that its heap is not told apart; see corral kernel debuginfo"
    changes = tally.changes()
    return Difference(count, sum(one.bytes for one in changes), changes, note)


def _meaning(saved: Saved) -> tuple[GuestKernel | None, Types | None]:
    try:
        kernel = find(saved.subject)
    except NotLinux:
        return None, None
    try:
        return kernel, types_of(kernel)
    except BadTypes:
        return kernel, None


def _pages(before: Saved, after: Saved) -> Iterator[tuple[int, bytes, bytes]]:
    """(gpa, old, new) of each page that differs, in order."""
    extents = sorted((*before.extents(), *after.extents()))
    done = 0
    for start, end in extents:
        for at in range(max(start, done), end, _WINDOW):
            length = min(_WINDOW, end - at)
            for gpa, size in _gpas(after.memory, at, length):
                old, new = before.memory.read(gpa, size), after.memory.read(gpa, size)
                if old != new:
                    for page in range(0, size, PAGE):
                        one, other = old[page : page + PAGE], new[page : page + PAGE]
                        if one != other:
                            yield gpa + page, one, other
        done = max(done, end)


def _gpas(memory: GuestMemory, offset: int, length: int) -> Iterator[tuple[int, int]]:
    """The pieces of RAM at this offset of it."""
    at = 0
    for gpa, size in memory.regions:
        first, last = max(offset, at), min(offset + length, at + size)
        if first < last:
            yield gpa + first - at, last - first
        at += size


class _Tally:
    def __init__(self, kernel: GuestKernel | None, types: Types | None) -> None:
        self.kernel, self._types = kernel, types
        self.pages = Pages(kernel, types) if kernel and types else None
        self._bytes: dict[tuple[str, str], int] = {}
        self._objects: dict[tuple[str, str], set[int]] = {}
        self._fields: dict[tuple[str, str], dict[str, set[int]]] = {}
        self._layouts: dict[str, list[tuple[int, str]] | None] = {}
        self._image = range(0)
        self._per_cpu: list[range] = []
        self._stacks: dict[int, str] = {}
        if kernel:
            start, end = kernel.symbol("_text"), kernel.symbol("_end")
            self._image = range(start - KERNEL_MAP + kernel.phys_base, end - KERNEL_MAP + kernel.phys_base)
            self._per_cpu = _per_cpu(kernel)
            self._stacks = _stacks(kernel, types) if types else {}

    def add(self, gpa: int, old: bytes, new: bytes) -> None:
        different = int.from_bytes(old, "little") ^ int.from_bytes(new, "little")
        runs = [(found.start(), found.end()) for found in _CHANGED.finditer(different.to_bytes(PAGE, "little"))]
        if gpa in self._image and (self.pages is None or self.pages.is_reserved(gpa)):
            self._add_variables(KERNEL_MAP - self.kernel.phys_base if self.kernel else 0, VARIABLE, gpa, runs)
        elif area := next((area for area in self._per_cpu if gpa in area), None):
            self._add_variables(-area.start, PER_CPU, gpa, runs)
        elif gpa in self._stacks:
            self._count(STACK, self._stacks[gpa], gpa, sum(end - start for start, end in runs))
        else:
            owner = self.pages.owner(gpa) if self.pages else Owner(RAM)
            if owner.kind == pages.SLAB and owner.cache:
                self._add_objects(owner, gpa, runs)
            else:
                self._count(owner.kind, "", gpa, sum(end - start for start, end in runs))

    def _count(self, kind: str, name: str, thing: int, size: int) -> None:
        key = kind, name
        self._bytes[key] = self._bytes.get(key, 0) + size
        self._objects.setdefault(key, set()).add(thing)

    def _add_variables(self, base: int, kind: str, gpa: int, runs: list[tuple[int, int]]) -> None:
        assert self.kernel
        for start, end in runs:
            address = gpa + start + base
            near = self.kernel.symbols.near(address - (self.kernel.offset if kind == VARIABLE else 0), _LARGEST) or ""
            self._count(kind, near.partition("+")[0], address, end - start)

    def _add_objects(self, owner: Owner, gpa: int, runs: list[tuple[int, int]]) -> None:
        cache = owner.cache
        assert cache
        layout = self._layout(cache.name, cache.size) if cache.alone else None
        key = pages.SLAB, cache.name
        for start, end in runs:
            at = gpa + start - owner.first
            number, inner = divmod(at, cache.size)
            thing = owner.first + number * cache.size
            self._count(pages.SLAB, cache.name, thing, end - start)
            if layout:
                name = next((name for place, name in reversed(layout) if place <= inner), "")
                self._fields.setdefault(key, {}).setdefault(name, set()).add(thing)

    def _layout(self, name: str, size: int) -> list[tuple[int, str]] | None:
        if name not in self._layouts:
            structure = _STRUCTURES.get(name, name)
            fits = self._types and self._types.has(structure) and self._types.size(structure) <= size
            self._layouts[name] = (
                [(one.offset, one.name) for one in self._types.members(structure)] if fits and self._types else None
            )
        return self._layouts[name]

    def changes(self) -> tuple[MemoryChange, ...]:
        """Those with the most bytes first."""
        found = [
            MemoryChange(kind, name, size, len(self._objects[kind, name]), self._fields_of(kind, name))
            for (kind, name), size in self._bytes.items()
        ]
        return tuple(sorted(found, key=lambda one: (-one.bytes, one.kind, one.name)))

    def _fields_of(self, kind: str, name: str) -> tuple[tuple[str, int], ...]:
        counts = {field: len(things) for field, things in self._fields.get((kind, name), {}).items()}
        return tuple(sorted(counts.items(), key=lambda one: (-one[1], one[0])))


def _per_cpu(kernel: GuestKernel) -> list[range]:
    """Guest physical addresses of the static per-CPU variables of each CPU."""
    if not all(kernel.has(name) for name in ("__per_cpu_offset", "__per_cpu_start", "__per_cpu_end", "nr_cpu_ids")):
        return []
    found = []
    try:
        length = kernel.symbol("__per_cpu_end") - kernel.symbol("__per_cpu_start")
        for cpu in range(min(kernel.u32(kernel.symbol("nr_cpu_ids")), _MOST_CPUS)):
            base = kernel.locate(kernel.u64(kernel.symbol("__per_cpu_offset") + 8 * cpu))
            found.append(range(base, base + length))
    except GuestMemoryError:  # the rest is told as other memory
        pass
    return found


def _stacks(kernel: GuestKernel, types: Types) -> dict[int, str]:
    """The tasks whose stacks are in pages, by the pages' guest physical addresses."""
    from corral.introspect.linux import Linux
    from corral.introspect.subject import Subject

    found = {}
    try:
        linux = Linux(lambda: Subject(kernel.memory, (), ""))
        linux.use(kernel, types)
        at = types.offset("task_struct", "stack")
        for task in linux.tasks():
            stack = kernel.u64(task.address + at)
            for page in range(stack, stack + _STACK, PAGE):
                found[kernel.locate(page)] = f"{task.name} ({task.pid})"
    except (CorralError, ValueError):  # what is damaged has no names
        pass
    return found
