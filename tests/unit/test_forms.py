"""What must never run on the host's CPU; and whose faults are whose."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from corral.native import lib
from tests.support.instructions import decode

NEVER = {
    "maskmovq": "0ff7c1",
    "maskmovdqu": "660ff7c1",
    "vmaskmovdqu": "c5f9f7c1",
    "movdiri": "0f38f900",
    "movdir64b": "660f38f800",
    "enqcmd": "f20f38f800",
    "enqcmds": "f30f38f800",
    "vpgatherdd": "c4e269900408",
    "vgatherqps": "c4e269930408",
    "vgatherdps, EVEX": "62f27d49920408",
    "vpscatterdd": "62f27d49a00408",
    "vscatterqpd": "62f2fd49a30408",
    "vgatherpf0dps": "62f27d49c60c08",
    "vscatterpf0qps": "62f27d49c72c08",
    "rdfsbase": "f30faec0",
    "wrfsbase": "f3480faed0",
    "wrgsbase": "f3480faed8",
    "fxsave": "0fae00",
    "fxrstor": "0fae08",
    "ptwrite": "f30fae20",
    "incsspd": "f30faee8",
    "umonitor": "f30faef0",
    "rdpid": "f30fc7f8",
    "senduipi": "f30fc7f0",
    "rdpkru": "0f01ee",
    "wrpkru": "0f01ef",
    "rstorssp": "f30f0128",
    "clzero": "0f01fc",
    "vmmcall": "0f01d9",
    "xabort": "c6f800",
    "xbegin": "c7f800000000",
    "wrssd": "0f38f600",
    "wrussd": "660f38f500",
    "aesenc128kl": "f30f38dc00",
    "aesencwide128kl": "f30f38d800",
    "encodekey128": "f30f38fac0",
    "hreset": "f30f3af0c000",
    "ldtilecfg": "c4e2784900",
    "tileloadd": "c4e27b4b0408",
    "tdpbssd": "c4e26b5ec1",
    "cmpoxadd": "c4e269e008",
    "syscall": "0f05",
    "wrmsr": "0f30",
    "cpuid": "0fa2",
    "hlt": "f4",
    "out": "ee",
    "ret": "c3",
    "push": "50",
    "mov to rsp": "4889c4",
    "iretq": "48cf",
    "movsb": "a4",
    "xlat": "d7",
    "leave": "c9",
    "invept": "660f388000",
    "pfadd, 3DNow!": "0f0fc19e",
    "EVEX of map 4": "62f47c0801c0",
    "EVEX of map 5": "62f57c4858c1",
    "EVEX with an address register of APX": "62fa7d48dc00",
    "EVEX with an index register of APX": "62f27948dc00",
    "REX2": "d50858c1",
    "VEX behind 66": "66c5f9efc0",
    "VEX behind REX": "40c5f9efc0",
    "VEX behind LOCK": "f0c5f9efc0",
    "VEX of a map without opcodes": "c4e07958c1",
    "XOP": "8fe878c0c000",
}


@pytest.mark.parametrize("name", NEVER)
def test_what_never_runs_on_the_host(name: str) -> None:
    instruction = decode(bytes.fromhex(NEVER[name]) + bytes(8))
    assert instruction is None or not lib.corral_runs_natively(instruction)


@pytest.mark.parametrize("cut", range(1, 9))
def test_an_instruction_that_is_cut_off_is_not_known(cut: int) -> None:
    whole = bytes.fromhex("660f3a0f0500100000ff")  # palignr xmm0, [rip + 0x1000], 255
    assert decode(whole) is not None
    assert decode(whole[:cut]) is None


# Faults that are not a guest's. The handlers are there from the first trampoline on; each of these is a process.

AFTER_A_TRAMPOLINE = "import ctypes, os, signal, faulthandler; from corral.native import lib; {} {}"
MADE = "t = lib.corral_trampoline_create(); assert t;"


def child(before: str, after: str) -> subprocess.CompletedProcess[str]:
    code = AFTER_A_TRAMPOLINE.format(f"{before} {MADE}", after)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("fault", ["ctypes.string_at(8)", "os.kill(os.getpid(), signal.SIGSEGV)"])
def test_a_fault_of_our_own_ends_the_process_as_ever(fault: str) -> None:
    assert child("", fault).returncode in (-signal.SIGSEGV, 1)  # the latter by a sanitizer
    assert child("", "print('alive')").stdout == "alive\n"


def test_a_handler_that_was_there_before_hears_of_it() -> None:
    result = child("faulthandler.enable();", "ctypes.string_at(8)")
    assert result.returncode in (-signal.SIGSEGV, 1)
    assert "Fatal Python error: Segmentation fault" in result.stderr


def test_a_signal_that_was_ignored_still_is() -> None:
    ignored = "signal.signal(signal.SIGFPE, signal.SIG_IGN);"
    assert child(ignored, "os.kill(os.getpid(), signal.SIGFPE); print('alive')").stdout == "alive\n"
