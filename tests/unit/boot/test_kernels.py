"""Good kernels: told apart by content, loaded where they belong, described."""

from __future__ import annotations

import struct
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from corral import boot
from corral.arch.x86_64 import layout
from corral.arch.x86_64.boot_params import BootParams
from corral.boot import Mode
from corral.boot.bzimage import BzImage
from corral.boot.pvh import MAGIC, StartInfo
from corral.errors import BootError
from corral.memory import GuestMemory
from tests.support import kernels

MIB = 1 << 20
GIB = 1 << 30

Save = Callable[[bytes], Path]


def read_string(memory: GuestMemory, address: int) -> bytes:
    return memory.read(address, 256).split(b"\0")[0]


def zero_page(memory: GuestMemory) -> BootParams:
    return BootParams(memory.read(layout.ZERO_PAGE, 4096))


@pytest.mark.parametrize("compression", kernels.COMPRESSIONS)
def test_bzimage_is_unpacked_and_entered_at_the_entry_of_vmlinux(
    save: Save, memory: GuestMemory, compression: str
) -> None:
    path = save(kernels.bzimage(kernels.payload(kernels.vmlinux(), compression)))
    with boot.open_kernel(path) as kernel:
        assert kernel.kind == "bzImage"
        assert kernel.describe().compression == compression
        entry = kernel.load(memory, b"console=ttyS0")
    assert entry == boot.Entry(Mode.LONG, kernels.LOAD_ADDRESS, layout.ZERO_PAGE)
    code = memory.read(kernels.LOAD_ADDRESS, len(kernels.LONG_MODE_CODE))
    assert code == kernels.LONG_MODE_CODE


def test_lzo_needs_its_optional_library_and_then_works(save: Save, memory: GuestMemory) -> None:
    lzo = pytest.importorskip("lzo", reason="the optional package python-lzo is not installed")
    vmlinux = kernels.vmlinux(segments=(big_text(),))
    packed = kernels.lzop(vmlinux, lambda block: bytes(lzo.compress(block, 9, False)))
    packed += len(vmlinux).to_bytes(4, "little")
    with boot.open_kernel(save(kernels.bzimage(packed, init_size=32 * MIB))) as kernel:
        assert kernel.describe().compression == "lzo"
        kernel.load(memory)
    assert memory.read(kernels.LOAD_ADDRESS, len(BIG)) == BIG


def test_lzop_of_the_distribution(save: Save, memory: GuestMemory) -> None:
    pytest.importorskip("lzo", reason="the optional package python-lzo is not installed")
    vmlinux = kernels.vmlinux(segments=(big_text(),))
    packed = subprocess.run(["lzop", "-9"], input=vmlinux, stdout=subprocess.PIPE, check=True).stdout
    packed += len(vmlinux).to_bytes(4, "little")
    with boot.open_kernel(save(kernels.bzimage(packed, init_size=32 * MIB))) as kernel:
        kernel.load(memory)
    assert memory.read(kernels.LOAD_ADDRESS, len(BIG)) == BIG


# Larger than any piece that a decompressor hands over, and without a period that would hide a misplaced one.
BIG = b"".join(zlib.crc32(struct.pack("<I", n)).to_bytes(4, "little") for n in range(600_000))


def big_text() -> kernels.Segment:
    return kernels.Segment(data=BIG, memory_size=len(BIG) + 5000)


@pytest.mark.parametrize("compression", ["gzip", "bzip2", "xz", "lzma", "lz4", "zstd", "none"])
def test_segments_go_to_their_physical_addresses_across_pieces(
    save: Save, memory: GuestMemory, compression: str
) -> None:
    # The second segment in the file is the first in memory: pieces go to wherever they belong.
    low = kernels.Segment(physical=2 * MIB, data=b"low" * 1000, virtual=0)
    vmlinux = kernels.vmlinux(segments=(big_text(), low))
    path = save(kernels.bzimage(kernels.payload(vmlinux, compression), init_size=32 * MIB))
    with boot.open_kernel(path) as kernel:
        kernel.load(memory)
    assert memory.read(kernels.LOAD_ADDRESS, len(BIG)) == BIG
    assert memory.read(kernels.LOAD_ADDRESS + len(BIG), 5000) == bytes(5000)
    assert memory.read(2 * MIB, 3001) == b"low" * 1000 + b"\0"


def test_lz4_with_more_than_one_block(save: Save, memory: GuestMemory) -> None:
    text = BIG * 4  # a block is 8 MiB
    vmlinux = kernels.vmlinux(segments=(kernels.Segment(data=text),))
    path = save(kernels.bzimage(kernels.payload(vmlinux, "lz4"), init_size=32 * MIB))
    with boot.open_kernel(path) as kernel:
        kernel.load(memory)
    assert memory.read(kernels.LOAD_ADDRESS, len(text)) == text


def test_relocations_behind_the_payloads_elf_are_passed_over(save: Save, memory: GuestMemory) -> None:
    vmlinux = kernels.vmlinux() + b"\xff" * 100_000
    with boot.open_kernel(save(kernels.bzimage(kernels.payload(vmlinux)))) as kernel:
        kernel.load(memory)
    assert b"\xff" * 8 not in memory.read(kernels.LOAD_ADDRESS, 200_000)


def test_bytes_behind_the_payload_are_not_its_own(save: Save, memory: GuestMemory) -> None:
    """A signed kernel has its signature behind the payload."""
    path = save(kernels.bzimage(kernels.payload(kernels.vmlinux(), "xz")) + b"signature" * 100)
    with boot.open_kernel(path) as kernel:
        assert kernel.load(memory).rip == kernels.LOAD_ADDRESS


def test_the_vmlinux_of_a_bzimage(save: Save, tmp_path: Path) -> None:
    vmlinux = kernels.vmlinux() + b"relocations"
    packed = kernels.payload(vmlinux, "xz")
    with boot.open_kernel(save(kernels.bzimage(packed))) as kernel, open(tmp_path / "vmlinux", "wb") as target:
        assert isinstance(kernel, BzImage)
        kernel.write_vmlinux(target)
    assert (tmp_path / "vmlinux").read_bytes() == vmlinux
    damaged = kernels.bzimage(packed[:-4] + (len(vmlinux) - 1).to_bytes(4, "little"))
    with boot.open_kernel(save(damaged)) as kernel, open(tmp_path / "vmlinux", "wb") as target:
        assert isinstance(kernel, BzImage)
        with pytest.raises(BootError, match="another size than it claims"):
            kernel.write_vmlinux(target)


def test_vmlinux_is_loaded_by_physical_address(save: Save, memory: GuestMemory) -> None:
    with boot.open_kernel(save(kernels.vmlinux())) as kernel:
        assert kernel.kind == "vmlinux"
        assert kernel.load(memory) == boot.Entry(Mode.LONG, kernels.LOAD_ADDRESS, layout.ZERO_PAGE)
    code = memory.read(kernels.LOAD_ADDRESS, len(kernels.LONG_MODE_CODE))
    assert code == kernels.LONG_MODE_CODE


@pytest.mark.parametrize("rsdp", [0, layout.ACPI_TABLES])
def test_the_zero_page_has_the_root_of_acpi(save: Save, memory: GuestMemory, rsdp: int) -> None:
    for image in (kernels.vmlinux(), kernels.bzimage(kernels.payload(kernels.vmlinux(), "gzip"))):
        with boot.open_kernel(save(image)) as kernel:
            entry = kernel.load(memory, rsdp=rsdp)
        assert BootParams(memory.read(entry.boot_info, BootParams.SIZE)).acpi_rsdp_addr == rsdp


def test_a_virtual_entry_is_translated(save: Save, memory: GuestMemory) -> None:
    with boot.open_kernel(save(kernels.vmlinux(entry=kernels.TEXT + 0x20))) as kernel:
        assert kernel.load(memory).rip == kernels.LOAD_ADDRESS + 0x20


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("width", [4, 8])
def test_what_has_only_a_pvh_entry_is_entered_there(save: Save, memory: GuestMemory, bits: int, width: int) -> None:
    text = kernels.Segment(data=kernels.PROTECTED_MODE_CODE, physical=MIB, virtual=MIB)
    machine = kernels.EM_386 if bits == 32 else kernels.EM_X86_64
    elf = kernels.Elf((text, kernels.pvh_note(MIB + 3, width)), entry=MIB, bits=bits, machine=machine)
    with boot.open_kernel(save(elf.build())) as kernel:
        assert kernel.kind == "pvh"
        entry = kernel.load(memory, b"hello", rsdp=layout.ACPI_TABLES)
    assert entry == boot.Entry(Mode.PROTECTED, MIB + 3, layout.PVH_START_INFO)
    info = StartInfo(memory.read(entry.boot_info, StartInfo.SIZE))
    assert (info.magic, info.version, info.nr_modules, info.rsdp_paddr) == (MAGIC, 1, 0, layout.ACPI_TABLES)
    assert read_string(memory, info.cmdline_paddr) == b"hello"
    table = memory.read(info.memmap_paddr, 24 * info.memmap_entries)
    ranges = [entry[:3] for entry in struct.iter_unpack("<QQII", table)]
    assert ranges == [
        (0, layout.EBDA, 1),
        (layout.EBDA, 1 << 10, 2),
        (0xE0000, 0x20000, 2),
        (MIB, 63 * MIB, 1),
    ]


def test_a_pvh_guest_that_is_not_linux_may_have_any_initrd(save: Save, memory: GuestMemory) -> None:
    initrd = save(b"anything at all")
    with boot.open_kernel(save(kernels.pvh_guest())) as kernel:
        info = StartInfo(memory.read(kernel.load(memory, b"", initrd).boot_info, StartInfo.SIZE))
    assert info.nr_modules == 1
    address, size, _, _ = struct.unpack("<QQQQ", memory.read(info.modlist_paddr, 32))
    assert memory.read(address, size) == b"anything at all"


def test_linux_with_a_pvh_note_boots_by_its_own_protocol_unless_told(save: Save, memory: GuestMemory) -> None:
    note = kernels.pvh_note(kernels.LOAD_ADDRESS + 8)
    path = save(kernels.vmlinux(segments=(kernels.text_segment(), note)))
    with boot.open_kernel(path) as kernel:
        assert kernel.kind == "vmlinux"
        assert kernel.describe().pvh_entry == kernels.LOAD_ADDRESS + 8
    with boot.open_kernel(path, protocol="pvh") as kernel:
        assert kernel.kind == "pvh"
        assert kernel.load(memory).rip == kernels.LOAD_ADDRESS + 8


@pytest.mark.parametrize(
    ("data", "protocol", "message"),
    [
        (kernels.vmlinux(), "pvh", "no PVH entry"),
        (kernels.bzimage(kernels.payload(kernels.vmlinux())), "pvh", "no PVH entry"),
        (kernels.pvh_guest(), "linux", "32-bit"),
    ],
)
def test_a_protocol_that_the_kernel_does_not_speak(save: Save, data: bytes, protocol: str, message: str) -> None:
    with pytest.raises(BootError, match=message):
        boot.open_kernel(save(data), protocol=protocol)


@pytest.mark.parametrize("sign", [kernels.PT_TLS, kernels.PT_INTERP])
def test_what_looks_like_a_program_is_a_kernel_when_its_protocol_is_named(save: Save, sign: int) -> None:
    segments = (kernels.text_segment(), kernels.Segment(type=sign, data=b"x"))
    path = save(kernels.vmlinux(segments=segments))
    with boot.open_kernel(path, protocol="linux") as kernel:
        assert kernel.kind == "vmlinux"
    path = save(kernels.vmlinux(segments=(*segments, kernels.pvh_note(kernels.LOAD_ADDRESS))))
    with boot.open_kernel(path) as kernel:
        assert kernel.describe().pvh_entry == kernels.LOAD_ADDRESS


def test_zero_page_of_a_bzimage(save: Save, memory: GuestMemory) -> None:
    path = save(kernels.bzimage(kernels.payload(kernels.vmlinux())))
    with boot.open_kernel(path) as kernel:
        kernel.load(memory, b"quiet console=ttyS0")
    params = zero_page(memory)
    assert params.header == 0x53726448
    assert params.version == 0x20F
    assert params.type_of_loader == 0xFF
    assert read_string(memory, params.cmd_line_ptr) == b"quiet console=ttyS0"
    assert (params.ramdisk_image, params.ramdisk_size) == (0, 0)
    assert params.data[0x1EF] == 0, "the sentinel tells the kernel that the zero page is clean"
    assert params.e820() == [
        (0, layout.EBDA, 1),
        (layout.EBDA, 1 << 10, 2),
        (0xE0000, 0x20000, 2),
        (MIB, 63 * MIB, 1),
    ]


def test_a_header_that_claims_to_be_longer_does_not_spill(save: Save, memory: GuestMemory) -> None:
    data = bytearray(kernels.bzimage(kernels.payload(kernels.vmlinux()), jump_distance=0xFF))
    data[0x290:0x400] = b"\xaa" * (0x400 - 0x290)
    with boot.open_kernel(save(bytes(data))) as kernel:
        kernel.load(memory)
    assert zero_page(memory).data[0x290:0x2D0] == bytes(0x40)


def test_ram_above_4_gib_is_in_the_memory_map(save: Save) -> None:
    memory = GuestMemory(6 * GIB)
    try:
        with boot.open_kernel(save(kernels.vmlinux())) as kernel:
            kernel.load(memory)
        assert zero_page(memory).e820()[3:] == [(MIB, 3 * GIB - MIB, 1), (4 * GIB, 3 * GIB, 1)]
    finally:
        memory.close()


def test_descriptions(save: Save) -> None:
    version = kernels.VERSION.decode()
    with boot.open_kernel(save(kernels.bzimage(kernels.payload(kernels.vmlinux(), "zstd")))) as kernel:
        facts = kernel.describe()
        assert (facts.version, facts.release) == (version, "6.1.0-miniature")
        assert facts.cmdline_limit == 2047
        assert str(facts) == "bzImage, Linux 6.1.0-miniature, zstd, 0.0 MiB"
    with boot.open_kernel(save(kernels.vmlinux())) as kernel:
        facts = kernel.describe()
        assert (facts.version, facts.entry, facts.loaded_size) == (version, kernels.LOAD_ADDRESS, 3 * 4096)
    with boot.open_kernel(save(kernels.pvh_guest())) as kernel:
        assert (kernel.describe().version, kernel.describe().pvh_entry) == (None, MIB)


@pytest.mark.parametrize("offset", [0, 1, 0x7FFF, 0xFFFF])
def test_a_version_string_may_point_anywhere(save: Save, offset: int) -> None:
    path = save(kernels.bzimage(kernels.payload(kernels.vmlinux()), kernel_version=offset))
    with boot.open_kernel(path) as kernel:
        version = kernel.describe().version
    assert version is None or version.isprintable()


def test_the_longest_command_line_and_one_byte_more(save: Save, memory: GuestMemory) -> None:
    path = save(kernels.bzimage(kernels.payload(kernels.vmlinux()), cmdline_size=100))
    with boot.open_kernel(path) as kernel:
        kernel.load(memory, b"x" * 100)
        assert read_string(memory, layout.COMMAND_LINE) == b"x" * 100
        with pytest.raises(BootError, match="of 100 bytes, this one has 101; shorten it"):
            kernel.load(memory, b"x" * 101)
        with pytest.raises(BootError, match="zero byte"):
            kernel.load(memory, b"a\0b")


def test_a_command_line_limit_that_lies_does_not_leave_its_place(save: Save, memory: GuestMemory) -> None:
    path = save(kernels.bzimage(kernels.payload(kernels.vmlinux()), cmdline_size=0xFFFFFFFF))
    room = layout.COMMAND_LINE_END - layout.COMMAND_LINE
    with boot.open_kernel(path) as kernel:
        kernel.load(memory, b"x" * (room - 1))
        assert memory.read(layout.COMMAND_LINE_END - 1, 2) == b"\0\0"
        with pytest.raises(BootError, match="shorten it"):
            kernel.load(memory, b"x" * room)


def test_closing_twice_is_harmless(save: Save) -> None:
    kernel = boot.open_kernel(save(kernels.vmlinux()))
    kernel.close()
    kernel.close()


def test_flat_binaries(save: Save, memory: GuestMemory) -> None:
    path = save(b"\xf4" * 512)
    with boot.open_flat(path, 0x7C00) as kernel:
        assert kernel.load(memory) == boot.Entry(Mode.REAL, 0x7C00)
        assert (kernel.kind, kernel.describe().entry) == ("flat", 0x7C00)
    assert memory.read(0x7C00, 513) == b"\xf4" * 512 + b"\0"
    with boot.open_flat(path, 2 * MIB, Mode.LONG, entry=2 * MIB + 4) as kernel:
        assert kernel.load(memory) == boot.Entry(Mode.LONG, 2 * MIB + 4)


@pytest.mark.parametrize(
    ("address", "mode", "entry", "message"),
    [
        (64 * MIB, Mode.LONG, None, "give it 65M with --memory"),
        (64 * MIB - 511, Mode.LONG, None, "with --memory"),
        (3 * GIB, Mode.LONG, None, "where devices are"),
        ((1 << 64) - 4, Mode.LONG, None, "more than any guest has"),
        (layout.PAGE_TABLES - 4, Mode.LONG, None, "load it elsewhere"),
        (layout.BOOT_GDT, Mode.PROTECTED, None, "load it elsewhere"),
        (0x7C00, Mode.REAL, 0x7BFF, "no entry at 0x7bff"),
        (0x7C00, Mode.REAL, 0x7E00, "no entry at 0x7e00"),
        (MIB, Mode.REAL, None, "no entry at 0x100000 in real mode"),
    ],
)
def test_flat_binaries_in_bad_places(
    save: Save, memory: GuestMemory, address: int, mode: Mode, entry: int | None, message: str
) -> None:
    with (
        boot.open_flat(save(b"\xf4" * 512), address, mode, entry) as kernel,
        pytest.raises(BootError, match=message),
    ):
        kernel.load(memory)


def test_flat_binaries_take_nothing_else(save: Save, memory: GuestMemory) -> None:
    with boot.open_flat(save(b"\xf4"), 0x7C00) as kernel, pytest.raises(BootError, match="leave them out"):
        kernel.load(memory, b"quiet")
