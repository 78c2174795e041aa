"""What a kernel must pass before anything is put over it: each check refuses by its own name, hostile kernels too."""

from __future__ import annotations

import struct
from bisect import bisect

import pytest

from corral.boot.kernel_config import KernelConfig
from corral.boot.pieces import Piece
from corral.injection import exception_table, places, requirements, self_patching
from corral.injection.linked import LinkedKernel
from corral.injection.unfit import Check, UnfitError

BASE = 0xFFFFFFFF81000000
LOADED = 0x1000000
SIZE = 0x4000
OPTIONS = ["X86_64", "SMP", "XEN_PV", "KVM_GUEST", "KALLSYMS_ALL", "PAGE_TABLE_ISOLATION"]


class Miniature(LinkedKernel):
    """A kernel in memory: bytes at BASE, and symbols by their offset there."""

    def __init__(self, symbols: dict[str, int]) -> None:
        self.content = bytearray(SIZE)
        rows = sorted((BASE + offset, name) for name, offset in {"_text": 0, "_end": SIZE, **symbols}.items())
        self.places = {name: address for address, name in rows}
        self._starts = [address for address, _ in rows]
        self._names = [name for _, name in rows]

    def read(self, address: int, length: int) -> bytes:
        offset = address - BASE
        if not 0 <= offset <= offset + length <= SIZE:
            raise UnfitError(Check.FILE, "outside")
        return bytes(self.content[offset : offset + length])

    def physical(self, address: int) -> int:
        return address - BASE + LOADED

    def put(self, name: str, data: bytes) -> None:
        offset = self.places[name] - BASE
        self.content[offset : offset + len(data)] = data


def refusal(check: Check) -> pytest.RaisesExc[UnfitError]:
    return pytest.raises(UnfitError, check=lambda error: error.check is check)


@pytest.mark.parametrize("release", ["6.1.0-50-amd64", "6.12.117+deb13-cloud-amd64", "6.12.0~rc1-x_y"])
def test_releases_that_were_tried_pass(release: str) -> None:
    requirements.check_release(release)


@pytest.mark.parametrize(
    "release", ["", "5.10.0-8-amd64", "6.13.1", "6.1.0/../../../tmp/x", "6.1.0 x", "6.1\n", "-o6.1", "6.1.é"]
)
def test_other_releases_and_what_is_none_do_not(release: str) -> None:
    with refusal(Check.RELEASE):
        requirements.check_release(release)


@pytest.mark.parametrize("missing", OPTIONS)
def test_each_option_counts(missing: str) -> None:
    text = "".join(f"CONFIG_{option}=y\n" for option in OPTIONS)
    requirements.check_configuration(KernelConfig("a test", text))
    requirements.check_configuration(None)
    with refusal(Check.CONFIGURATION) as error:
        requirements.check_configuration(KernelConfig("a test", text.replace(f"CONFIG_{missing}=y\n", "")))
    assert missing in str(error.value)


def piece(offset: int, size: int = 5) -> Piece:
    return Piece(LOADED + offset, bytes(size), b"\x90" * size)


@pytest.mark.parametrize("table", ["__return_sites", "__call_sites", "__start___jump_table"])
def test_code_that_the_kernel_rewrites_itself_is_left_alone(table: str) -> None:
    ends = {"__return_sites": "__return_sites_end", "__call_sites": "__call_sites_end"}
    size = 16 if table.startswith("__start") else 4
    kernel = Miniature({table: 0x1000, ends.get(table, "__stop___jump_table"): 0x1000 + size})
    kernel.put(table, struct.pack("<i", 0x800 - 0x1000))  # a place as an offset from itself
    self_patching.require_untouched(kernel, [piece(0x800 - 5), piece(0x800 + 6)])
    for offset in (0x800, 0x800 - 4, 0x800 + 5):
        with refusal(Check.REWRITTEN):
            self_patching.require_untouched(kernel, [piece(offset)])


def test_tables_of_odd_sizes_are_no_tracebacks() -> None:
    kernel = Miniature({"__return_sites": 0x1000, "__return_sites_end": 0x1006, "__alt_instructions": 0x2000})
    kernel.places["__alt_instructions_end"] = BASE + 0x2005
    with refusal(Check.REWRITTEN):
        self_patching.require_untouched(kernel, [piece(0x800)])


def with_exceptions(count: int, unused: int, size: int | None = None) -> Miniature:
    """So many entries, the last of them in Xen's code."""
    end = 0x2000 + (count * 12 if size is None else size)
    kernel = Miniature({"own": 0x100, "xen_thing": 0x800, "__start___ex_table": 0x2000, "__stop___ex_table": end})
    for number in range(count):
        at = 0x2000 + 12 * number
        instruction = (0x100 + 8 * number) if number < count - unused else 0x800 + 8 * number
        entry = struct.pack("<iii", instruction - at, 0x40 - at - 4, number)
        kernel.content[at : at + 12] = entry
    return kernel


def test_the_table_of_exceptions_takes_new_entries_for_unused_ones() -> None:
    kernel = with_exceptions(count=40, unused=20)
    added = [(BASE + 0x3000 + number, BASE + 0x3100, 1) for number in range(3)]
    made = exception_table.merged(kernel, added)
    assert made.address == LOADED + 0x2000
    assert len(made.new) == len(made.old) == 40 * 12
    found = exception_table.rows(BASE + 0x2000, made.new)
    assert found == sorted(found)
    assert set(added) <= set(found)
    own = exception_table.rows(BASE + 0x2000, made.old)
    gone = set(own) - set(found)
    assert len(gone) == 3
    assert {kernel.name(address) for address, _, _ in gone} == {"xen_thing"}


@pytest.mark.parametrize("kernel", [with_exceptions(40, 15), with_exceptions(40, 20, size=40 * 12 + 1)])
def test_a_table_of_exceptions_without_room_or_of_another_kind(kernel: Miniature) -> None:
    with refusal(Check.EXCEPTIONS):
        exception_table.room(kernel)


def test_a_table_of_exceptions_that_is_not_sorted() -> None:
    kernel = with_exceptions(40, 20)
    kernel.content[0x2000 : 0x2000 + 4] = struct.pack("<i", 0x1800)
    with refusal(Check.EXCEPTIONS):
        exception_table.room(kernel)


def test_symbols_that_are_missing_too_far_apart_or_the_last() -> None:
    kernel = Miniature({"x86_64_start_kernel": 0x100, "copy_bootdata": 0x200})
    with refusal(Check.SYMBOLS):
        places.find(kernel)
    kernel.places["copy_bootdata"] = BASE + (1 << 40)
    kernel.content[0x100] = 0xE8
    with refusal(Check.SYMBOLS):
        places._call(kernel, "x86_64_start_kernel", "copy_bootdata")
    with refusal(Check.CODE):
        kernel.function("_end")
    assert bisect(kernel._starts, kernel.address("_end")) == len(kernel._starts)
