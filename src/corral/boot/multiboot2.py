"""Multiboot 2: a header of tags, and an information structure of tags.

Source: the Multiboot2 Specification 2.0, chapter 3 (i386 machine state).
"""

from __future__ import annotations

import struct

from corral.arch.x86_64 import e820, layout
from corral.arch.x86_64.registers import Entry, Mode
from corral.boot.modules import load as load_modules
from corral.boot.multiboot import LOADER_NAME, MultibootKernel, basic_memory, by_addresses
from corral.files.file import Flaw
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os

    from corral.files.elf import Elf
    from corral.files.file import ImageFile
    from corral.memory import GuestMemory

_MAGIC = b"\xd6\x50\x52\xe8"
_ENTRY_MAGIC = 0x36D76289  # in EAX
_HEADER = struct.Struct("<IIII")  # magic, architecture, length, checksum
_I386 = 0
_TAG = struct.Struct("<HHI")  # type, flags, size
_OPTIONAL = 1
_ALIGN = 8

# Tags of the header.
_END, _REQUEST, _ADDRESSES, _ENTRY, _CONSOLE, _FRAMEBUFFER, _ALIGNED, _EFI_SERVICES = range(8)
_EFI_I386_ENTRY, _EFI_ENTRY, _RELOCATABLE = 8, 9, 10
_IGNORED = (_CONSOLE, _ALIGNED, _EFI_SERVICES, _EFI_I386_ENTRY, _EFI_ENTRY, _RELOCATABLE)
_FROM_START = 0xFFFFFFFF  # as a load address: the file's own start
# Tags of the information structure.
_CMDLINE, _LOADER, _MODULE, _BASIC, _MAP, _SECTIONS, _OLD_RSDP, _NEW_RSDP = 1, 2, 3, 4, 6, 9, 14, 15
_GIVEN = (_CMDLINE, _LOADER, _MODULE, _BASIC, _MAP, _SECTIONS)
_RSDP_SIZE = 36  # of ACPI 2.0 and later; the first 20 bytes are ACPI 1.0's
_OLD_RSDP_SIZE = 20


@record(frozen=True)
class Header:
    """What of a header matters: `addresses` are where it is, load, its end and the end of .bss; `wants_acpi`: it
    cannot do without."""

    offset: int
    addresses: tuple[int, int, int, int] | None
    entry: int | None
    wants_acpi: bool


def recognise(file: ImageFile, head: bytes, executable: Elf | None) -> Multiboot2 | None:
    """As multiboot.recognise(). Raises Flaw."""
    header = _find(head)
    if header is None:
        return None
    if header.addresses is not None:
        where, load, load_end, bss_end = header.addresses
        if header.entry is None:
            raise Flaw("has load addresses in its Multiboot2 header, but no entry address; build it again")
        if load == _FROM_START:
            load = where - header.offset
        image = by_addresses(header.offset, where, load, load_end, bss_end, header.entry, file.size)
    elif executable is not None:
        image = executable
    else:
        return None
    entry = image.entry if header.entry is None else header.entry
    if not any(segment.physical <= entry < segment.end for segment in image.segments):
        raise Flaw(f"has its Multiboot2 entry {entry:#x} in no segment; build it again")
    return Multiboot2(file, image, header.addresses is None, entry, header.wants_acpi)


def _find(head: bytes) -> Header | None:
    at = head.find(_MAGIC)
    while at >= 0:
        if at % _ALIGN == 0 and at + _HEADER.size <= len(head):
            magic, machine, length, checksum = _HEADER.unpack_from(head, at)
            if (magic + machine + length + checksum) & 0xFFFFFFFF == 0 and machine == _I386:
                return _parse(head, at, length)
        at = head.find(_MAGIC, at + 1)
    return None


def _parse(head: bytes, start: int, length: int) -> Header:
    """Each tag of the header at `start`. Raises Flaw for what cannot be met."""
    end = start + length
    if end > len(head):
        raise Flaw("has a Multiboot2 header that ends behind its first 32 KiB; copy or build it again")
    addresses, entry, wants_acpi = None, None, False
    at = start + _HEADER.size
    while at + _TAG.size <= end:
        kind, flags, size = _TAG.unpack_from(head, at)
        body = head[at + _TAG.size : min(at + size, end)]
        if kind == _END:
            break
        if size < _TAG.size or at + size > end:
            raise Flaw(f"has a tag of {size} bytes in its Multiboot2 header that do not fit; build it again")
        if kind == _ADDRESSES and len(body) >= 16:
            addresses = struct.unpack_from("<IIII", body)
        elif kind == _ENTRY and len(body) >= 4:
            entry = int.from_bytes(body[:4], "little")
        elif kind == _REQUEST and not flags & _OPTIONAL:
            wants_acpi = _requested(body) or wants_acpi
        elif kind not in (*_IGNORED, _REQUEST) and not flags & _OPTIONAL:
            what = "a frame buffer, and there is no screen" if kind == _FRAMEBUFFER else f"Multiboot2's tag {kind}"
            raise Flaw(f"requires {what}; mark it as optional in its header")
        at += -(-size // _ALIGN) * _ALIGN
    return Header(start, addresses, entry, wants_acpi)


def _requested(body: bytes) -> bool:
    """Whether ACPI is among the information that a kernel requires."""
    kinds = {kind for (kind,) in struct.iter_unpack("<I", body[: len(body) & ~3])}
    missing = kinds - {*_GIVEN, _OLD_RSDP, _NEW_RSDP}
    if missing:
        tags = ", ".join(map(str, sorted(missing)[:8]))
        raise Flaw(f"requires information that is not there (Multiboot2's tags {tags}); mark it as optional")
    return not kinds.isdisjoint((_OLD_RSDP, _NEW_RSDP))


class Multiboot2(MultibootKernel):
    """Version 2."""

    kind = "multiboot2"

    def __init__(self, file: ImageFile, image: Elf, is_elf: bool, entry: int, wants_acpi: bool) -> None:
        super().__init__(file, image, is_elf)
        self.entry, self._wants_acpi = entry, wants_acpi

    def _load(self, memory: GuestMemory, cmdline: bytes, initrd: str | os.PathLike[str] | None, rsdp: int) -> Entry:
        if self._wants_acpi and not rsdp:
            raise Flaw("requires ACPI; give it that: --acpi on")
        taken = self._place_image(memory)
        tags = [_tag(_CMDLINE, cmdline + b"\0"), _tag(_LOADER, LOADER_NAME)]
        if modules := self._all_modules(initrd):
            # In the upper half, where the structure does not reach: it has the words once more.
            half = (layout.COMMAND_LINE + layout.COMMAND_LINE_END) // 2
            for address, size, words in load_modules(memory, modules, taken, half, layout.COMMAND_LINE_END):
                text = bytes(memory.view(words, layout.COMMAND_LINE_END - words)).partition(b"\0")[0]
                taken.append((address, address + size))
                tags.append(_tag(_MODULE, struct.pack("<II", address, address + size) + text + b"\0"))
        tags.append(_tag(_BASIC, struct.pack("<II", *basic_memory(memory))))
        ranges = e820.memory_map(memory.regions)
        entries = b"".join(struct.pack("<QQII", *entry, 0) for entry in ranges)
        tags.append(_tag(_MAP, struct.pack("<II", 24, 0) + entries))
        if sections := self._place_sections(memory, taken):
            numbers = struct.pack("<III", sections.count, sections.entry_size, sections.names)
            tags.append(_tag(_SECTIONS, numbers + sections.table))
        if rsdp:
            root = memory.read(rsdp, _RSDP_SIZE)
            tags += [_tag(_OLD_RSDP, root[:_OLD_RSDP_SIZE]), _tag(_NEW_RSDP, root)]
        tags.append(_tag(_END, b""))
        body = b"".join(tags)
        if 8 + len(body) > layout.COMMAND_LINE_END - layout.COMMAND_LINE >> bool(modules):
            raise Flaw("would get a command line and words for its modules that are too long; shorten them")
        memory.write(layout.COMMAND_LINE, struct.pack("<II", 8 + len(body), 0) + body)
        return Entry(Mode.PROTECTED, self.entry, layout.COMMAND_LINE, _ENTRY_MAGIC)


def _tag(kind: int, body: bytes) -> bytes:
    data = struct.pack("<II", kind, 8 + len(body)) + body
    return data + bytes(-len(data) % _ALIGN)
