"""bzImage: real-mode setup code, a decompressor, and vmlinux as its payload.

Source: boot.rst, "The Real-Mode Kernel Header". Neither the setup code nor the decompressor ever runs here:
the payload is unpacked on the host, straight to where its segments belong, and entered at vmlinux's own
entry.
"""

from __future__ import annotations

from itertools import chain

from corral.arch.x86_64 import layout
from corral.arch.x86_64.boot_params import (
    BOOT_FLAG,
    HEADER_MAGIC,
    LOADED_HIGH,
    VERSION_CMDLINE_SIZE,
    VERSION_INIT_SIZE,
    VERSION_PAYLOAD,
    VERSION_XLOADFLAGS,
    XLF_KERNEL_64,
    SetupHeader,
)
from corral.arch.x86_64.registers import Entry
from corral.boot import kept_vmlinux, linux
from corral.boot.kernel import Kernel, KernelFacts
from corral.boot.ram import MIB, require_ram, require_room, size_text
from corral.files import decompress, elf, magic
from corral.files.file import Flaw

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Iterator
    from typing import BinaryIO

    from corral.files.file import ImageFile
    from corral.memory import GuestMemory

# More than any kernel unpacks to.
MAX_UNPACKED = 256 * MIB
# And than one that is so small does: as packed as a kernel can be, and some room for zeros.
MOST_TIMES, MOST_BESIDE = 10, 32 * MIB

_SECTOR = 512
_DEFAULT_SETUP_SECTORS = 4  # what 0 in setup_sects means
_VERSION_STRING_BASE = 0x200
_VERSION_STRING_MAX = 256
_SIZE_WORD = 4  # the unpacked size, behind the compressed data
# boot.rst gives the command line's length for kernels that do not tell it.
_OLD_CMDLINE_SIZE = 255


def recognises(head: bytes) -> bool:
    """Whether a file that starts with `head` has a Linux setup header."""
    header = SetupHeader(head)
    return header.boot_flag == BOOT_FLAG and header.header == HEADER_MAGIC


def has_payload(head: bytes) -> bool:
    """Whether a file with such a header has a kernel packed in it, or is an old Linux: else it is another program."""
    header = SetupHeader(head)
    if not header.kernel_version or not header.loadflags & LOADED_HIGH:
        return True
    if header.version < VERSION_PAYLOAD:
        version = head[_VERSION_STRING_BASE + header.kernel_version :].partition(b"\0")[0]
        return header.code32_start != 0 or b"(" in version  # Linux tells who built it
    return header.payload_length != 0


class BzImage(Kernel):
    """Valid as far as its header goes; the payload is looked at when it is loaded."""

    kind = "bzImage"
    is_linux = True

    def __init__(self, file: ImageFile, head: bytes) -> None:
        """`head`: the first 4 KiB of the file. Raises Flaw."""
        super().__init__(file)
        self.header = SetupHeader(head)
        self._check_header()
        setup_size = _SECTOR * (1 + (self.header.setup_sects or _DEFAULT_SETUP_SECTORS))
        self._setup_size = min(setup_size, file.size)
        self._payload = setup_size + self.header.payload_offset
        self._payload_size = self.header.payload_length
        self._check_payload()

    def _check_header(self) -> None:
        header = self.header
        version = header.version
        if version < VERSION_PAYLOAD or not header.loadflags & LOADED_HIGH:
            protocol = f"{version >> 8}.{version & 0xFF:02}"
            raise Flaw(f"speaks boot protocol {protocol}: older than Linux 2.6.26, or no Linux; use a newer kernel")
        if version >= VERSION_XLOADFLAGS and not header.xloadflags & XLF_KERNEL_64:
            raise Flaw("is a 32-bit kernel; Corral runs x86-64, use such a kernel")

    def _check_payload(self) -> None:
        end = self._payload + self._payload_size
        if not self._payload_size:
            raise Flaw("has the header of a kernel but no payload, so it is not Linux; name a Linux kernel")
        if end > self.file.size:
            raise Flaw(f"is cut off: its payload ends at {end:#x}, the file at {self.file.size:#x}; copy it again")
        magic = self.file.read(self._payload, min(decompress.MAGIC_SIZE, self._payload_size))
        form = decompress.identify(magic)
        if form is None:
            raise Flaw(f"has a payload in no format that is known (it starts with {magic[:4].hex()}); build it again")
        if self._payload_size <= _SIZE_WORD:
            raise Flaw(f"has a payload of {self._payload_size} bytes, too short; build it again")
        self.compression = form
        self._unpacked_size = self._payload_size
        if form.packs:
            self._unpacked_size = int.from_bytes(self.file.read(end - _SIZE_WORD, _SIZE_WORD), "little")
        self._check_unpacked_size()

    def _check_unpacked_size(self) -> None:
        size = self._unpacked_size
        claim = f"has a payload that claims to unpack to {size >> 20} MiB"
        if size > MAX_UNPACKED:
            raise Flaw(f"{claim}, no kernel is that large; copy or build it again")
        if size > MOST_TIMES * self._payload_size + MOST_BESIDE:
            raise Flaw(f"{claim} from {size_text(self._payload_size)}, as no kernel does; copy or build it again")
        # The kernel unpacks itself within init_size, so an honest payload is never larger.
        if self.header.version >= VERSION_INIT_SIZE and size > self.header.init_size:
            raise Flaw(f"{claim}, more than its init_size {self.header.init_size:#x}; copy or build it again")

    def describe(self) -> KernelFacts:
        return KernelFacts(
            self.kind,
            self.file.size,
            version=self._version(),
            compression=self.compression.name,
            loaded_size=self.header.init_size or None,
            cmdline_limit=self._cmdline_limit,
        )

    @property
    def _cmdline_limit(self) -> int:
        return self.header.cmdline_size if self.header.version >= VERSION_CMDLINE_SIZE else _OLD_CMDLINE_SIZE

    def _version(self) -> str | None:
        offset = _VERSION_STRING_BASE + self.header.kernel_version
        if not self.header.kernel_version or offset >= self._setup_size:
            return None
        return linux.text(self.file.read(offset, min(_VERSION_STRING_MAX, self._setup_size - offset)))

    def _load(self, memory: GuestMemory, cmdline: bytes, initrd: str | os.PathLike[str] | None, rsdp: int) -> Entry:
        linux.check_cmdline(cmdline, self._cmdline_limit)
        if self.header.version >= VERSION_INIT_SIZE:
            require_ram(memory, self.header.pref_address, self.header.init_size, "the kernel (its init_size)")
        if self._unpacked_size > memory.size:
            raise Flaw(f"unpacks to {size_text(self._unpacked_size)}, more than the guest's RAM; see --memory")
        executable = self._unpack(memory)
        taken = (executable.start, max(executable.end, executable.start + self.header.init_size))
        return linux.prepare(memory, self.header, executable.entry, taken, cmdline, initrd, rsdp)

    def write_vmlinux(self, target: BinaryIO) -> None:
        """Write the kernel in the payload to `target`, as an ELF file: open_kernel() loads that many times faster.

        Raises BootError, and HostError when the library for its compression is missing.
        """
        try:
            for piece in self.vmlinux_pieces():
                target.write(piece)
        except Flaw as flaw:
            raise self.file.error(str(flaw)) from None

    def vmlinux_pieces(self) -> Iterator[bytes]:
        """The payload, unpacked, in pieces that add up to what it claims. Raises Flaw. Kept until it is loaded."""
        return kept_vmlinux.pieces(self.file) or kept_vmlinux.keeping(self.file, self._pieces())

    def _pieces(self) -> Iterator[bytes]:
        packed_size = self._payload_size - (_SIZE_WORD if self.compression.appended_size else 0)
        source = decompress.Source(self.file.read, self._payload, packed_size)
        left = self._unpacked_size
        for piece in decompress.unpack(self.compression, source):
            left -= len(piece)
            if left < 0:
                break
            yield piece
        if left:
            raise Flaw("has a payload that unpacks to another size than it claims; copy or build it again")

    def _unpack(self, memory: GuestMemory) -> elf.Elf:
        """Unpack vmlinux to where its segments belong, which its first pieces tell."""
        pieces = kept_vmlinux.pieces(self.file) or self._pieces()
        head = bytearray()
        while len(head) < elf.HEAD and (piece := next(pieces, b"")):
            head += piece
        executable = self._parse(bytes(head))
        require_room(executable, memory)
        self._check_rest(executable)
        offset = 0
        for piece in chain((bytes(head),), pieces):
            _scatter(executable, memory, offset, piece)
            offset += len(piece)
        kept_vmlinux.forget()
        return executable

    def _check_rest(self, executable: elf.Elf) -> None:
        """Behind the segments come section headers and relocations: far less than what they are about."""
        used = max(segment.offset + segment.file_size for segment in executable.segments)
        if self._unpacked_size > 2 * used + MIB:
            size = size_text(self._unpacked_size)
            raise Flaw(f"has a payload of {size} with a kernel of {size_text(used)} in it; copy or build it again")

    def _parse(self, head: bytes) -> elf.Elf:
        if not head.startswith(magic.ELF):
            raise Flaw("has a payload that is no ELF kernel; copy or build it again")
        try:
            executable = elf.parse(head[: elf.HEAD], self._unpacked_size, None)
            elf.require_kernel(executable)
            elf.require_free(executable.segments, layout.TAKEN_BY_LINUX)
        except Flaw as flaw:
            raise Flaw(f"has a payload that {flaw}") from None
        if executable.bits != 64:
            raise Flaw("has a 32-bit payload; Corral runs x86-64, use such a kernel")
        return executable


def _scatter(executable: elf.Elf, memory: GuestMemory, offset: int, piece: bytes) -> None:
    """Copy what of `piece`, the bytes from `offset` of the ELF file, belongs to segments."""
    with memoryview(piece) as view:
        for segment in executable.segments:
            low = max(offset, segment.offset)
            high = min(offset + len(piece), segment.offset + segment.file_size)
            if low < high:
                address = segment.physical + low - segment.offset
                memory.write(address, view[low - offset : high - offset])
