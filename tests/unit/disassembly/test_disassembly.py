"""Disassembly with symbols, and the symbols that kernels have in themselves, against what made them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.cli import main
from corral.debug.disassembly import Listing, disassemble, listing
from corral.errors import BootError, ConfigError
from corral.files.file import ImageFile
from corral.symbols import elf_symbols, kallsyms
from corral.symbols.kernel_image import KernelImage
from corral.symbols.table import Symbols, of_kernel
from tests.support import kernels
from tests.support.kallsyms_tables import tables
from tests.support.tiny_guests import tiny_guest

TEXT = 0xFFFFFFFF81000000
SYMBOLS = Symbols([(TEXT, "T", "first"), (TEXT + 0x10, "t", "second"), (TEXT + 0x20, "D", "data")], "invented")


def test_names_of_what_is_called_and_referred_to() -> None:
    # call second; mov rax, [rip -> data+8]; mov rdi, &first; a byte that begins nothing; nop
    code = b"\xe8\x0b\0\0\0" + b"\x48\x8b\x05\x1c\0\0\0" + b"\x48\xc7\xc7\0\0\0\x81" + b"\x06\x90"
    found = list(disassemble(code, TEXT, 64, SYMBOLS))
    assert [one.note for one in found] == ["second", "data+0x8", "first", "", ""]
    assert [one.text.split()[0] for one in found] == ["call", "mov", "mov", ".byte", "nop"]
    assert [one.label for one in found][:2] == ["first", ""]
    assert b"".join(one.code for one in found) == code
    assert "first:\n" in listing(found)
    assert f"-> {TEXT + 5:16x}  48 8b 05" in listing(found, with_code=True, mark=TEXT + 5)
    assert next(disassemble(b"\x89\xd8", 0, 32, att=True)).text == "movl %ebx, %eax"


@given(st.binary(max_size=64), st.sampled_from([16, 32, 64]), st.integers(0, (1 << 64) - 1))
def test_any_bytes_are_told_whole(code: bytes, bits: int, address: int) -> None:
    found = list(disassemble(code, address, bits, SYMBOLS))
    assert b"".join(one.code for one in found) == code
    assert listing(found, with_code=True).count("\n") >= len(found) - 1


def test_a_listing_ends_where_the_function_does() -> None:
    whole = Listing(lambda address, length: b"\x90" * length, 64, SYMBOLS)
    assert len(whole.instructions(TEXT + 4)) == 12
    assert len(whole.instructions(TEXT, count=3)) == 3
    assert len(whole.instructions(TEXT, TEXT + 5)) == 5
    assert len(Listing(lambda address, length: b"\x90" * length).instructions(0)) == 16
    with pytest.raises(ConfigError, match="is not mapped to memory"):
        Listing(lambda address, length: b"").instructions(0x1000)


def test_places() -> None:
    assert SYMBOLS.place("second+0x4") == TEXT + 0x14
    assert SYMBOLS.place(hex(TEXT)) == TEXT
    for wrong in ("third", "second+x"):
        with pytest.raises(ConfigError):
            SYMBOLS.place(wrong)


@pytest.mark.parametrize("new", [False, True])
@pytest.mark.parametrize("several_cpus", [False, True])
def test_kallsyms(new: bool, several_cpus: bool) -> None:
    names = [f"function_number_{number}" for number in range(1000)]
    addresses = [TEXT + 16 * number for number in range(1000)]
    if several_cpus:
        addresses[0] = 0x40  # in a CPU's area
    image = b"\x90" * 800 + tables(names, addresses, TEXT, several_cpus, new) + b"\x90" * 64
    assert kallsyms.Search().find(image) == sorted(
        (address, "T", name) for address, name in zip(addresses, names, strict=True)
    )


@given(st.data())
def test_kallsyms_that_lie(data: st.DataObject) -> None:
    image = bytearray(
        tables([f"f{number}" for number in range(600)], list(range(TEXT, TEXT + 600)), TEXT, False, False)
    )
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(image) - 4))
        image[at : at + 4] = data.draw(st.binary(min_size=4, max_size=4))
    end = data.draw(st.integers(0, len(image)))
    assert len(kallsyms.Search().find(bytes(image[:end]))) in (0, 600)


def test_symbols_of_an_elf_file_are_those_that_nm_tells() -> None:
    path = tiny_guest("debugged")
    listing = subprocess.run(["nm", str(path)], capture_output=True, text=True, check=True).stdout
    told = {(int(at, 16), name) for at, _, name in (line.split() for line in listing.splitlines())}
    with ImageFile(path, "kernel") as file:
        rows = elf_symbols.find(file)
    assert {(address, name) for address, _, name in rows} == told
    assert of_kernel(str(path)).address("work") == {name: at for at, name in told}["work"]  # type: ignore[union-attr]


@given(data=st.data())
def test_an_elf_file_that_lies(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    content = bytearray(tiny_guest("debugged").read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.one_of(st.integers(0, 52), st.integers(len(content) - 800, len(content) - 4)))
        content[at : at + 4] = data.draw(st.binary(min_size=4, max_size=4))
    path = tmp_path_factory.mktemp("elf") / "kernel"
    path.write_bytes(content)
    with ImageFile(path, "kernel") as file:
        assert isinstance(elf_symbols.find(file), list)


@pytest.mark.parametrize("packed", [False, True])
def test_a_kernels_file_by_linear_and_physical_address(tmp_path: Path, packed: bool) -> None:
    path = tmp_path / "kernel"
    plain = kernels.vmlinux()
    path.write_bytes(kernels.bzimage(kernels.payload(plain)) if packed else plain)
    with KernelImage(str(path)) as image:
        segment = image.elf.segments[0]
        code = image.read(segment.physical, 8)
        assert code == image.read(segment.virtual, 8) != b""
        with pytest.raises(ConfigError, match="is not in the kernel's file"):
            image.read(0x10, 1)


def test_the_command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    guest = str(tiny_guest("debugged"))
    assert main(["disasm", guest, "work", "--bytes"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("work:\n")
    assert "out dx, al" in shown
    assert "# result" in shown
    assert main(["disasm", guest, "work..work+1", "--att"]) == 0
    assert capsys.readouterr().out.splitlines()[1].endswith("  nop")
    for words, why in (
        ([guest, "nothing"], "no symbol 'nothing'"),
        ([guest, "0x10"], "not in the kernel's file"),
        ([guest, "work..again"], "is no range"),
        ([guest], "wants a kernel and a place"),
        ([str(tmp_path / "none"), "work"], "no such file"),
        (["work", "--", "trace"], "wants what to boot"),
        ([guest, "work", "-n", "x"], "is not a number"),
    ):
        assert main(["disasm", *words]) == 2
        assert why in capsys.readouterr().err


def test_symbols_without_functions() -> None:
    with pytest.raises(BootError, match="has no functions"):
        Symbols([(0, "D", "data")], "x")
