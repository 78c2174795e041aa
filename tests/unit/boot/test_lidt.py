"""Where a kernel's image loads its interrupt table."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.arch.x86_64 import lidt
from corral.memory import GuestMemory

MIB = 1 << 20
HIGH = 0xFFFFFFFF80000000


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("0f011d00100000", [0]),  # lidt [rip + 0x1000]
        ("0f0118", [0]),  # lidt [rax]
        ("0f015c2402", [0]),  # lidt [rsp + 2]
        ("90410f0118", [2, 1]),  # nop; lidt [r8], at its prefix
        ("0f01d80f01d9", []),  # vmrun; vmmcall
        ("0f0110", []),  # lgdt [rax]
        ("0f01", []),
        ("0f0118" * 5, [0, 3, 6]),
    ],
)
def test_lidt_is_found_by_its_bytes(memory: GuestMemory, code: str, found: list[int]) -> None:
    data = bytes.fromhex(code)
    memory.write(MIB, data)
    for linear in (MIB, HIGH + MIB):
        assert lidt.find(memory, [(MIB, len(data), linear)]) == tuple(linear + at for at in found)


def test_nothing_in_no_code(memory: GuestMemory) -> None:
    assert lidt.find(memory, []) == ()
    assert lidt.find(memory, [(MIB, 0, MIB), (0, MIB, 0)]) == ()


@pytest.mark.parametrize(
    ("code", "may"),
    [
        ("0f011d00100000b0fee664", False),  # lidt; out: a reset
        ("48cf", True),  # iretq
        ("cb", True),  # retf
        ("ca0800", True),  # retf 8
        ("480f07", True),  # sysretq
        ("0f35", True),  # sysexit
        ("c3f40f05", False),  # ret; hlt; syscall
    ],
)
def test_a_kernel_that_cannot_leave_cpl_0_has_no_programs(memory: GuestMemory, code: str, may: bool) -> None:
    data = bytes.fromhex(code)
    memory.write(MIB, bytes(8) + data)
    assert lidt.may_have_programs(memory, [(MIB, 8, HIGH), (MIB + 8, len(data), HIGH + 8)]) is may


def test_code_that_is_not_there_yet_may_have_programs(memory: GuestMemory) -> None:
    assert lidt.may_have_programs(memory, [])


def test_much_code_is_not_searched_to_its_end(memory: GuestMemory, monkeypatch: pytest.MonkeyPatch) -> None:
    memory.write(MIB, bytes(64))
    assert not lidt.may_have_programs(memory, [(MIB, 64, HIGH)])
    monkeypatch.setattr(lidt, "SEARCHED", 63)
    assert lidt.may_have_programs(memory, [(MIB, 64, HIGH)])


@given(st.binary(max_size=200))
def test_any_bytes_give_a_few_places_within_them(code: bytes) -> None:
    memory = GuestMemory(2 * MIB)
    try:
        memory.write(MIB, code)
        found = lidt.find(memory, [(MIB, len(code), 0)])
        assert len(found) <= lidt.MOST
        assert all(0 <= at < len(code) for at in found)
    finally:
        memory.close()
