"""Facts about a host, on this one and on hosts that lack something."""

from __future__ import annotations

import json
import os

import pytest

from corral import doctor
from corral.arch.x86_64.supervisor import Supervisor, SupervisorMode
from corral.cli.doctor import run
from corral.jail.host import HostJail
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


def test_what_the_jail_of_this_host_consists_of(capsys: pytest.CaptureFixture[str]) -> None:
    run(["--json"])
    jail = json.loads(capsys.readouterr().out)["jail"]
    assert set(jail) == {"seccomp", "landlock", "namespaces", "user_namespaces"}
    run([])
    text = " ".join(capsys.readouterr().out.split())
    assert "jail no new privileges, no capabilities" in text
    assert (f"Landlock (ABI {jail['landlock']}:" in text) == (jail["landlock"] > 0)


def test_what_a_host_lacks_for_a_jail_names_the_cure() -> None:
    old = HostJail(seccomp=True, landlock=2, namespaces=False, user_namespaces=False)
    assert old.text.endswith("filters of system calls; Landlock (ABI 2: files)")
    assert "knows nothing of TCP ports and signals" in old.missing[0]
    assert "max_user_namespaces" in old.missing[1]
    bare = HostJail(seccomp=False, landlock=0, namespaces=False, user_namespaces=True)
    assert [sentence.split(",")[0] for sentence in bare.missing][1] == "Landlock"
    assert "CONFIG_SECCOMP_FILTER" in bare.missing[0]
    assert HostJail(seccomp=True, landlock=6, namespaces=True, user_namespaces=True).missing == []
