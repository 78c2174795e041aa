"""Linux's own selftests in a guest, on this host's KVM: those that pass on each (docs/native.md has the others)."""

from __future__ import annotations

import pytest

from corral.arch.x86_64.supervisor import Supervisor, supervisor_mode
from tests.selftests import __main__ as selftests
from tests.selftests import build

LIMIT = 300  # seconds each
NAMES = [
    *("sysret_rip", "sigaltstack", "sigtrap_loop", "single_step_syscall", "syscall_numbering", "syscall_arg_fault"),
    *("iopl", "ioperm", "test_mremap_vdso", "test_vsyscall", "test_syscall_vdso", "corrupt_xstate_header"),
    *("madv_populate", "map_fixed_noreplace", "map_populate", "mlock2-tests", "mremap_dontunmap"),
    "virtual_address_range",
]


@pytest.mark.long  # half a minute, and its programs have to be compiled
@pytest.mark.parametrize("cpus", [1, 2])
def test_linuxs_own_selftests_pass(cpus: int) -> None:
    if supervisor_mode().supervisor is Supervisor.INTERPRETED:
        pytest.skip("interpreted they take hours")
    programs = build.programs()
    guest = selftests.with_programs([programs[name] for name in NAMES], cpus)
    verdicts = selftests.in_guests(NAMES, selftests.here, [*guest, "--"], LIMIT, "natively")
    assert verdicts == dict.fromkeys(NAMES, "passes")
