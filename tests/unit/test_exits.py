"""Invented exits through the dispatcher: no KVM needed."""

from __future__ import annotations

import pytest

from corral.core.bus import Bus
from corral.core.exits import Cause, GuestEnded, dispatch
from corral.native import CData, ffi, lib
from tests.unit.test_bus import Recorder

PAGE = 4096


@pytest.fixture
def page() -> bytearray:
    """Memory as large as a real kvm_run mapping, so that a port access finds its data behind the structure."""
    return bytearray(2 * PAGE)


def run_of(page: bytearray) -> CData:
    return ffi.cast("struct kvm_run *", ffi.from_buffer(page))


def port_exit(page: bytearray, write: bool, port: int, size: int, data: bytes) -> CData:
    run = run_of(page)
    run.exit_reason = lib.KVM_EXIT_IO
    run.io.direction = 1 if write else 0
    run.io.port, run.io.size, run.io.count = port, size, len(data) // size
    run.io.data_offset = PAGE
    page[PAGE : PAGE + len(data)] = data
    return run


def test_port_write(page: bytearray) -> None:
    ports, device = Bus("port"), Recorder()
    ports.claim(0x70, 0x71, device)
    dispatch(port_exit(page, True, 0x71, 1, b"\x42"), page, ports, Bus("MMIO"))
    assert device.seen == [(1, 1, 0x42)]


def test_string_output_writes_every_element_in_order(page: bytearray) -> None:
    ports, device = Bus("port"), Recorder()
    ports.claim(0x10, 0x13, device)
    dispatch(port_exit(page, True, 0x10, 2, bytes.fromhex("010002000300")), page, ports, Bus("MMIO"))
    assert device.seen == [(0, 2, 1), (0, 2, 2), (0, 2, 3)]


def test_port_read_leaves_the_value_where_kvm_takes_it(page: bytearray) -> None:
    ports = Bus("port")
    ports.claim(0x10, 0x13, Recorder(0x11223344))
    dispatch(port_exit(page, False, 0x10, 4, bytes(4)), page, ports, Bus("MMIO"))
    assert page[PAGE : PAGE + 4] == bytes.fromhex("44332211")


def test_unclaimed_port_reads_all_ones(page: bytearray) -> None:
    dispatch(port_exit(page, False, 0xFFFF, 4, bytes(4)), page, Bus("port"), Bus("MMIO"))
    assert page[PAGE : PAGE + 4] == b"\xff" * 4


def test_mmio_write_and_read(page: bytearray) -> None:
    mmio, device = Bus("MMIO"), Recorder(0xAABBCCDD)
    mmio.claim(0xD0000000, 0xD0000FFF, device)
    run = run_of(page)
    run.exit_reason = lib.KVM_EXIT_MMIO
    run.mmio.phys_addr, run.mmio.len, run.mmio.is_write = 0xD0000010, 4, 1
    run.mmio.data = b"\x01\x02\x03\x04\0\0\0\0"
    dispatch(run, page, Bus("port"), mmio)
    run.mmio.is_write = 0
    dispatch(run, page, Bus("port"), mmio)
    assert device.seen == [(0x10, 4, 0x04030201), (0x10, 4)]
    assert bytes(run.mmio.data) == bytes.fromhex("ddccbbaa00000000")


def test_a_longer_mmio_than_the_structure_holds_is_cut(page: bytearray) -> None:
    run = run_of(page)
    run.exit_reason = lib.KVM_EXIT_MMIO
    run.mmio.phys_addr, run.mmio.len = 0, 0xFFFFFFFF
    dispatch(run, page, Bus("port"), Bus("MMIO"))
    assert bytes(run.mmio.data) == b"\xff" * 8


@pytest.mark.parametrize(
    ("reason", "cause"),
    [
        ("KVM_EXIT_SHUTDOWN", Cause.TRIPLE_FAULT),
        ("KVM_EXIT_HLT", Cause.HALT),
        ("KVM_EXIT_FAIL_ENTRY", Cause.FAIL_ENTRY),
        ("KVM_EXIT_INTERNAL_ERROR", Cause.INTERNAL_ERROR),
        ("KVM_EXIT_HYPERCALL", Cause.UNKNOWN_EXIT),
    ],
)
def test_what_ends_a_guest(page: bytearray, reason: str, cause: Cause) -> None:
    run = run_of(page)
    run.exit_reason = getattr(lib, reason)
    with pytest.raises(GuestEnded) as end:
        dispatch(run, page, Bus("port"), Bus("MMIO"))
    assert end.value.cause is cause


def test_an_instruction_that_kvm_lacks_is_told_apart(page: bytearray) -> None:
    run = run_of(page)
    run.exit_reason, run.internal.suberror = lib.KVM_EXIT_INTERNAL_ERROR, 1
    with pytest.raises(GuestEnded) as end:
        dispatch(run, page, Bus("port"), Bus("MMIO"))
    assert end.value.cause is Cause.EMULATION


def test_an_exit_reason_of_tomorrow_ends_the_guest_by_number(page: bytearray) -> None:
    run = run_of(page)
    run.exit_reason = 4711
    with pytest.raises(GuestEnded, match="4711"):
        dispatch(run, page, Bus("port"), Bus("MMIO"))


def test_a_signal_is_not_an_end(page: bytearray) -> None:
    run = run_of(page)
    run.exit_reason = lib.KVM_EXIT_INTR
    dispatch(run, page, Bus("port"), Bus("MMIO"))
