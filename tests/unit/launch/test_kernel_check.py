"""What `corral kernel check` says of how a kernel's code runs, on each kind of host."""

from __future__ import annotations

import pytest

from corral.arch.x86_64.supervisor import Supervisor, SupervisorMode
from corral.cli import kernel_check as cli
from corral.launch import kernel_check
from corral.launch.kernel_check import KernelCheck
from corral.launch.natively import Fitness, Way

FITS = Fitness(Way.INJECTION, "", "its file stays as it is")
ITSELF = Fitness(Way.ITSELF, "", "it asks KVM for that")
UNFIT = Fitness(Way.NONE, "symbols", "it has no symbol xen_error_entry")
HARDWARE, NATIVE, INTERPRETED = (SupervisorMode(one, "this KVM is as it is") for one in Supervisor)


@pytest.mark.parametrize(
    ("fitness", "here", "runs", "words"),
    [
        (FITS, HARDWARE, "hardware", "runs on the CPU, by VMX or SVM; without those natively, by injection"),
        (
            UNFIT,
            HARDWARE,
            "hardware",
            f"runs on the CPU, by VMX or SVM; without those not natively: {UNFIT.reason} (check: symbols)",
        ),
        (FITS, NATIVE, "native", "runs natively, by injection: its file stays as it is"),
        (ITSELF, NATIVE, "native", "runs natively, by itself: it asks KVM for that"),
        (UNFIT, NATIVE, "interpreted", "is interpreted: it has no symbol xen_error_entry (check: symbols)"),
        (UNFIT, INTERPRETED, "interpreted", "is interpreted: it has no symbol xen_error_entry (check: symbols)"),
        (
            FITS,
            INTERPRETED,
            "interpreted",
            "is interpreted: this KVM is as it is; it could run natively, by injection",
        ),
    ],
)
def test_each_kind_of_host_and_kernel(
    fitness: Fitness, here: SupervisorMode, runs: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "supervisor_mode", lambda: here)
    found = KernelCheck(
        "vmlinuz",
        "vmlinux, Linux 6.1",
        linux=True,
        runs=kernel_check._runs(fitness, here).value,
        natively=fitness.way.value,
        failed_check=fitness.check,
        reason=fitness.reason,
    )
    assert found.runs == runs
    assert f"\nkernel code    {words}\n" in cli._text(found, has_disks=False)
