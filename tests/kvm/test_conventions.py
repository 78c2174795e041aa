"""What small systems take for granted of a PC, and other monitors give them: a tiny guest a convention."""

from __future__ import annotations

import subprocess
import sys

import pytest

from corral.kvm.system import Kind, host_kind
from tests.support.tiny_guests import flat, multiboot

LONG = 30.0  # seconds: nothing takes so long unless it hangs
GOOD, BAD = 33, 35  # what these guests end with
ADDRESS = 0x200000


def corral(*words: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "corral", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=LONG, check=False, input=typed)


def boot(*words: str, typed: str = "") -> tuple[int, str]:
    """Exit status and output of a guest that gets `typed` as its input."""
    done = corral("boot", *words, "--debug-exit", "0xf4", "--timeout", "20", typed=typed)
    return done.returncode, done.stdout + done.stderr


def run(name: str, *words: str, typed: str = "", **defines: int | str) -> tuple[int, str]:
    """The same of one of raw 64-bit code."""
    return boot(str(flat(name, ADDRESS, 64, **defines)), "--flat", f"long@{ADDRESS:#x}", *words, typed=typed)


@pytest.mark.parametrize(
    ("instruction", "before"),
    [("popcnt %ebx,%eax", before) for before in range(1, 5)]
    + [("popcnt mask(%rip),%eax", before) for before in range(1, 9)],
)
def test_an_instruction_may_lie_on_two_pages(instruction: str, before: int) -> None:
    assert run("page_cross", INSTRUCTION=instruction, BEFORE=before) == (GOOD, "")


ABSENT = ["invpcid (%rax),%rcx", "rdpru", "monitor", "mwait", "vmxoff", "vmptrld (%rax)", "vmread %rax,%rcx"]
ABSENT += [
    "clgi",
    "vmrun",
    "clzero",
    "rdpkru",
    "getsec",
    "movdiri %eax,(%rax)",
    "ud1 %eax,%eax",
]
ABSENT += [".byte 0x0f,0x04", ".byte 0x0f,0x24,0xc0", ".byte 0x66,0x0f,0x01,0xca", ".byte 0xc7,0xf8,0,0,0,0"]


@pytest.mark.skipif(host_kind() is not Kind.PAGETABLE, reason="a CPU executes what it has")
@pytest.mark.parametrize("instruction", ABSENT)
def test_what_no_guest_is_told_of_is_an_invalid_opcode(instruction: str) -> None:
    assert run("absent", INSTRUCTION=instruction) == (GOOD, "")


def test_a_kernel_may_have_thread_local_storage() -> None:
    assert boot(str(multiboot("thread_local"))) == (GOOD, "t")


def test_tools_take_the_kernels_that_boot_takes() -> None:
    kernel = str(multiboot("thread_local"))
    done = corral("trace", "--summary", "--", "boot", kernel, "--debug-exit", "0xf4")
    assert (done.returncode, done.stdout) == (GOOD, "t")
    assert "2 exits;" in done.stderr
    assert done.stderr.rstrip().endswith("_start")
    done = corral("disasm", kernel, "_start", "-n", "1")
    assert (done.returncode, done.stderr) == (0, "")
    assert "mov edx, 0x3f8" in done.stdout


def test_a_trace_of_raw_code_has_its_summary_without_names() -> None:
    kernel = str(flat("page_cross", ADDRESS, 64, INSTRUCTION="popcnt %ebx,%eax", BEFORE=4))
    done = corral("trace", "--summary", "--", "boot", kernel, "--flat", f"long@{ADDRESS:#x}", "--debug-exit", "0xf4")
    assert (done.returncode, done.stdout) == (GOOD, "")
    assert "(no symbols)" in done.stderr


@pytest.mark.parametrize("count", [0x8000, 0x1000, 0x80FF])
def test_a_count_may_be_written_without_a_control_word(count: int) -> None:
    assert run("pit", COUNT=count) == (GOOD, "...")


def test_the_timer_ticks_as_a_bios_leaves_it() -> None:
    assert run("pit") == (GOOD, "...")


def test_a_multiboot_kernel_may_do_with_the_loaders_segments() -> None:
    assert boot(str(multiboot("selectors"))) == (GOOD, "")


def test_the_text_screen_has_a_cursor() -> None:
    assert run("cursor", "--screen") == (GOOD, "ccc\n")


@pytest.mark.parametrize("typed", ["q", "a little more than the FIFO holds, twice: q"])
def test_the_serial_port_interrupts_a_guest_that_sets_nothing_else(typed: str) -> None:
    assert run("serial_interrupt", typed=typed) == (GOOD, typed)
