"""The self-test of native supervisor mode on this host's KVM: it passes where KVM has the mode, and each of its checks
can fail, and says so."""

from __future__ import annotations

import os
import struct
import time

import pytest

from corral.arch.x86_64 import native_probe
from corral.arch.x86_64.native_probe import REQUIREMENTS, Finding
from corral.errors import HostError, KvmError
from corral.kvm.system import Kind, System, host_kind
from corral.native import ffi, lib

MSR_PAGE, MSR_SIGNATURE, UNKNOWN_MSR = 0x4B564D10, 0x4B564D11, 0x4B564DFF
SIGNATURE = 0x4D5650
FLAGS, CR2_FLAG = 0x17, 0x10
RUNS = 20
# As csrc/vcpu/native_probe.inc has them.
USER_PGD, OTHER_USER_PGD, USER_CODE, IDT, SHARED = 0x1000, 0x3000, 0x9000, 0xB800, 0xC000
PRIVILEGED, PRIVILEGED_COUNT = USER_CODE + 0x60, 15
GS_BASE = PRIVILEGED + 16 * PRIVILEGED_COUNT
NOP, UD2, MOV_EAX, MOV_ECX = b"\x90", b"\x0f\x0b", b"\xb8", b"\xb9"
GENERAL_PROTECTION = 13
INVALID_OPCODE = 6  # what follows an instruction of user code that should have entered the kernel


def has_native_mode() -> bool:
    """Whether KVM has the mode, by what it tells the VMM."""
    with System() as system:
        vm = system.create_vm()
        vcpu = vm.create_vcpu(0, ffi.new("struct corral_ram *"))
        try:
            return vcpu.get_msr(MSR_SIGNATURE) == SIGNATURE
        except KvmError:
            return False
        finally:
            vcpu.close()
            vm.close()


@pytest.fixture(scope="module")
def native_mode() -> None:
    if not has_native_mode():
        pytest.skip("this KVM has no native supervisor mode")


def changed(*changes: tuple[int, bytes]) -> bytes:
    """The guest with other bytes at some addresses."""
    memory = bytearray(native_probe.image())
    for address, content in changes:
        memory[address : address + len(content)] = content
    return bytes(memory)


def code(pattern: bytes, which: int = 0, count: int = 1) -> int:
    """Where the kernel's or the user's code has `pattern`, the `which`th of `count`."""
    image = native_probe.image()
    found = [at for at in range(USER_CODE, len(image)) if image.startswith(pattern, at)]
    assert len(found) == count, f"{pattern.hex()} is at {[hex(at) for at in found]}"
    return found[which]


def expecting(number: int, word: int) -> tuple[int, bytes]:
    return lib.CORRAL_PROBE_EXPECTED + 8 * number, struct.pack("<Q", word)


def switch() -> int:
    """Where EAX gets what switches the mode on; WRMSR is 7 bytes on."""
    return code(MOV_EAX + struct.pack("<I", SHARED | FLAGS))


def failed(content: bytes, limit: float = native_probe.LIMIT) -> Finding:
    finding = native_probe.run(content, limit)
    assert not finding.passed
    return finding


def test_it_passes_where_kvm_has_the_mode() -> None:
    has_mode = has_native_mode()
    for _ in range(RUNS):
        finding = native_probe.run()
        if has_mode:
            assert finding.passed, finding.sentence
        else:
            assert finding.sentence == "this KVM has no native supervisor mode"


def test_hardware_kvm_has_no_such_mode() -> None:
    assert not (host_kind() is Kind.HARDWARE and has_native_mode())


@pytest.mark.usefixtures("native_mode")
@pytest.mark.parametrize("number", REQUIREMENTS)
def test_a_check_that_sees_something_else_fails_by_name(number: int) -> None:
    right = native_probe.expected(number)
    finding = failed(changed(expecting(number, 0 if number == lib.CORRAL_PROBE_RATE else right ^ 1)))
    assert (finding.check, finding.end) == (number, "")
    if number == lib.CORRAL_PROBE_RATE:
        assert 0 < finding.seen < right
    else:
        assert finding.seen == right
        assert number == lib.CORRAL_PROBE_SIGNATURE or REQUIREMENTS[number] in finding.sentence


@pytest.mark.usefixtures("native_mode")
@pytest.mark.parametrize(
    ("msr", "number"), [(MSR_SIGNATURE, lib.CORRAL_PROBE_SIGNATURE), (MSR_PAGE, lib.CORRAL_PROBE_SWITCH)]
)
def test_an_msr_that_kvm_does_not_know(msr: int, number: int) -> None:
    kernel = code(MOV_ECX + struct.pack("<I", msr), 0, 1 if msr == MSR_SIGNATURE else 3)
    finding = failed(changed((kernel, MOV_ECX + struct.pack("<I", UNKNOWN_MSR))))
    assert (finding.check, finding.seen & 0xFF, finding.end) == (number, GENERAL_PROTECTION, "")


@pytest.mark.usefixtures("native_mode")
def test_a_switch_that_is_not_taken() -> None:
    at = switch()
    finding = failed(changed((at + 7, NOP * 2)))
    assert (finding.check, finding.seen) == (lib.CORRAL_PROBE_SWITCH, 0)


@pytest.mark.usefixtures("native_mode")
def test_kernel_code_that_is_interpreted_is_too_slow() -> None:
    finding = failed(changed((switch() + 7, NOP * 2), expecting(lib.CORRAL_PROBE_SWITCH, 0)))
    assert (finding.check, finding.end) == (lib.CORRAL_PROBE_RATE, "")
    assert finding.seen > native_probe.expected(lib.CORRAL_PROBE_RATE)


@pytest.mark.usefixtures("native_mode")
@pytest.mark.parametrize("flags", [0, 2, 4, 6])
def test_without_pairs_of_page_tables_user_code_reads_the_kernels_memory(flags: int) -> None:
    finding = failed(changed((switch(), MOV_EAX + struct.pack("<I", SHARED | CR2_FLAG | flags))))
    assert finding.check == lib.CORRAL_PROBE_READ
    assert finding.seen & 0xFF == INVALID_OPCODE


@pytest.mark.usefixtures("native_mode")
def test_a_page_fault_whose_address_is_not_in_the_shared_page() -> None:
    finding = failed(changed((switch(), MOV_EAX + struct.pack("<I", SHARED | FLAGS & ~CR2_FLAG)), (SHARED + 8, b"?")))
    assert finding.check == lib.CORRAL_PROBE_KERNEL_FAULT


@pytest.mark.usefixtures("native_mode")
def test_a_gs_base_of_user_code_that_the_kernel_does_not_see() -> None:
    finding = failed(changed((GS_BASE + 5, NOP * 5)))  # wrgsbase
    assert finding.check == lib.CORRAL_PROBE_GS_EXCHANGE
    assert finding.seen == native_probe.expected(finding.check) ^ 0x1230 ^ 0x4560


@pytest.mark.usefixtures("native_mode")
def test_a_return_to_user_code_that_kvm_does_not_see_leaves_the_kernels_memory_open() -> None:
    push_ss, host_has_it = b"\x6a\x3b\x68", b"\x6a\x2b"
    finding = failed(changed(*((code(push_ss, which, 4), host_has_it) for which in range(4))))
    assert finding.check == lib.CORRAL_PROBE_READ
    assert finding.seen & 0xFF == INVALID_OPCODE


@pytest.mark.usefixtures("native_mode")
def test_an_interrupt_that_does_not_come_is_not_held_back() -> None:
    self_ipi, end_of_interrupt = MOV_ECX + struct.pack("<I", 0x83F), MOV_ECX + struct.pack("<I", 0x80B)
    finding = failed(changed((code(self_ipi, 0, 4), end_of_interrupt)))
    assert (finding.check, finding.seen) == (lib.CORRAL_PROBE_HELD, 0)


@pytest.mark.usefixtures("native_mode")
def test_user_code_that_makes_no_system_call() -> None:
    finding = failed(changed((USER_CODE, NOP * 2)))
    assert finding.check == lib.CORRAL_PROBE_IRETQ
    assert finding.seen & 0xFF == INVALID_OPCODE


@pytest.mark.usefixtures("native_mode")
@pytest.mark.parametrize("instruction", range(PRIVILEGED_COUNT))
def test_an_instruction_that_user_code_may_execute(instruction: int) -> None:
    finding = failed(changed((PRIVILEGED + 16 * instruction, NOP * 7 + UD2)))
    assert finding.check == lib.CORRAL_PROBE_PRIVILEGED
    assert finding.seen & 0xFF == INVALID_OPCODE


@pytest.mark.usefixtures("native_mode")
def test_a_page_that_stays_writable() -> None:
    finding = failed(changed((code(b"\x80\x25", 0), NOP * 7)))  # andb $, (%rip)
    assert finding.check == lib.CORRAL_PROBE_USER_PAGE
    assert finding.seen & 0xFF == INVALID_OPCODE


@pytest.mark.usefixtures("native_mode")
def test_an_address_space_that_stays() -> None:
    finding = failed(changed((OTHER_USER_PGD, native_probe.image()[USER_PGD : USER_PGD + 8])))
    assert finding.check == lib.CORRAL_PROBE_ADDRESS_SPACE
    assert finding.seen & 0xFF == 0xFF  # a system call


@pytest.mark.usefixtures("native_mode")
def test_a_timer_that_does_not_come_hangs_it() -> None:
    count = code(MOV_EAX + struct.pack("<I", 20_000))
    finding = failed(changed((count, MOV_EAX + bytes(4))), limit=0.2)
    assert (finding.check, finding.end) == (lib.CORRAL_PROBE_HALT, "hung")
    assert finding.sentence.endswith("a timer's interrupt ends HLT (it hung)")


@pytest.mark.usefixtures("native_mode")
def test_a_guest_without_handlers_dies() -> None:
    finding = failed(changed((IDT, bytes(0x400))))
    assert finding.check == lib.CORRAL_PROBE_KERNEL_FAULT
    assert finding.end == f"ended with KVM's exit {lib.KVM_EXIT_SHUTDOWN}"


@pytest.mark.usefixtures("native_mode")
def test_a_guest_that_tells_of_an_unknown_check() -> None:
    first = code(struct.pack("<I", lib.CORRAL_PROBE_SIGNATURE) + b"\x4c\x8d\x3d")
    finding = failed(changed((first, struct.pack("<I", 99)), expecting(lib.CORRAL_PROBE_SIGNATURE, 0)))
    assert finding == Finding(lib.CORRAL_PROBE_PASSED, SIGNATURE, "told of check 99")


def test_a_guest_that_loops_from_its_first_instruction_is_stopped() -> None:
    finding = failed(changed((lib.CORRAL_PROBE_RIP - lib.CORRAL_PROBE_KERNEL, b"\xeb\xfe")), limit=0.1)
    assert finding.end == "hung"


def test_a_host_without_threads_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(*arguments: object) -> int:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(native_probe, "start_new_thread", start)
    with pytest.raises(HostError, match="no thread for the self-test"):
        native_probe.run()


def left(folder: str) -> list[str]:
    """What a process has of descriptors or threads."""
    return sorted(os.listdir(f"/proc/self/{folder}"))


def test_nothing_is_left_behind() -> None:
    files, threads = left("fd"), len(left("task"))
    for _ in range(RUNS):
        native_probe.run()
    assert left("fd") == files
    deadline = time.monotonic() + 30
    while len(left("task")) > threads:  # the last one's watch may still be on its way out
        assert time.monotonic() < deadline, left("task")
        time.sleep(0.01)
