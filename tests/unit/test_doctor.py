"""Facts about a host, on this one and on hosts that lack something."""

from __future__ import annotations

import json
import os

import pytest

from corral import doctor
from corral.arch.x86_64.supervisor import Supervisor, SupervisorMode
from corral.cli.doctor import run
from corral.kvm.system import Kind, host_kind


def test_this_host() -> None:
    found = doctor.diagnose()
    assert found.kind == host_kind().value
    assert (found.supervisor == "hardware") == (found.kind == "hardware")
    assert found.cpus == len(os.sched_getaffinity(0))
    assert found.memory >= found.memory_available > 0
    assert found.cpu != "unknown"
    assert found.kernel == os.uname().release
    assert [node.number for node in found.nodes] == sorted(node.number for node in found.nodes)
    assert sum(node.memory for node in found.nodes) > 0


@pytest.mark.parametrize(
    ("device", "problem", "cure"),
    [
        ("/dev/no-kvm", "No such file", "modprobe"),
        ("/dev/null", "KVM_GET_API_VERSION", "not KVM"),
    ],
)
def test_without_kvm(device: str, problem: str, cure: str) -> None:
    found = doctor.diagnose(device)
    assert found.kvm == "not usable"
    (sentence,) = found.problems
    assert problem in sentence
    assert cure in sentence
    assert found.capabilities == {}
    assert found.boots
    assert found.disks.startswith(("io_uring", "threads"))
    assert found.shares.startswith("a server jailed by ")


def test_why_kernel_code_is_interpreted(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    mode = SupervisorMode(Supervisor.INTERPRETED, "this KVM has no native supervisor mode")
    monkeypatch.setattr(doctor, "supervisor_mode", lambda again: mode)
    run([])
    assert "supervisor  interpreted: this KVM has no native supervisor mode\n" in capsys.readouterr().out
    run(["--json"])
    facts = json.loads(capsys.readouterr().out)
    assert (facts["supervisor"], facts["supervisor_reason"]) == ("interpreted", mode.reason)


def test_every_kind_has_a_meaning() -> None:
    assert set(doctor.MEANING) == set(Kind)


def test_what_a_kernel_of_our_own_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.shutil, "which", lambda tool: f"/usr/bin/{tool}")
    assert doctor._missing_tools(stock=False) == []
    monkeypatch.setattr(doctor.shutil, "which", lambda tool: None if tool in ("xz", "gcc") else tool)
    assert doctor._missing_tools(stock=False)[0].endswith("apt-get install gcc xz-utils")
    assert doctor._missing_tools(stock=True)[0].endswith("apt-get install gcc")
