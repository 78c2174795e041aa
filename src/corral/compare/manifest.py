"""What the figures depend on: the machine, its settings, the versions, and who else was at work."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import corral
from corral.compare.contenders import Contender
from corral.compare.measures.placed import nodes
from corral.compare.statistics import FEWEST
from corral.doctor import MEANING
from corral.kvm.system import Kind, host_kind
from corral.numa import cpu_list, host

BUSY = 0.5  # of the CPUs, before a run begins: its samples then tell of others too
EMULATED = ("QEMU", "TCG")  # in the name of a CPU that is played in software


def collect(contenders: Sequence[Contender], rounds: int, pinned: Sequence[int], memory: int) -> dict[str, Any]:
    """All that is known before a run; after() has the rest."""
    found = host.read()
    kind = host_kind()
    return {
        "begun": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "cpu": _cpu(),
        "cpus": len(os.sched_getaffinity(0)),
        "pinned": cpu_list.text(pinned),
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor") or "not told",
        "smt": {"1": "on", "0": "off"}.get(_read("/sys/devices/system/cpu/smt/active"), "not told"),
        "in a VM": "hypervisor" in _flags(),
        "memory": host.memory_facts("/proc/meminfo").get("MemTotal", 0),
        "guest memory": memory,
        "transparent hugepages": _chosen(_read("/sys/kernel/mm/transparent_hugepage/enabled")),
        "NUMA nodes": len(found.nodes),
        "NUMA nodes with CPUs": nodes(),
        "kernel": platform.release(),
        "mitigations": _mitigations(),
        "KVM": kind.value if os.path.exists("/dev/kvm") else "none",
        "versions": {"python": platform.python_version(), "corral": corral.__version__}
        | {contender.name: version for contender in contenders if (version := contender.version())},
        "revision": revision(),
        "rounds": rounds,
        "load before": round(os.getloadavg()[0], 2),
        "what a row means": row_meanings(contenders, kind),
    }


def after(busy_before: float, own_before: float, begun: float) -> dict[str, Any]:
    """After a run: the load, and how many CPUs others kept busy, from what was before it."""
    passed = max(1e-3, time.monotonic() - begun)
    others = busy_seconds() - busy_before - (own_seconds() - own_before)
    return {
        "seconds": round(passed, 1),
        "load after": round(os.getloadavg()[0], 2),
        "CPUs that others kept busy": round(max(0.0, others) / passed, 2),
    }


def row_meanings(contenders: Sequence[Contender], kind: Kind) -> dict[str, str]:
    """For each contender what the kind of KVM means for its rows."""
    return {
        contender.name: MEANING[kind] if contender.is_vm else "runs on the host's kernel; KVM does not matter"
        for contender in contenders
    }


def warnings(manifest: dict[str, Any]) -> list[str]:
    """Where the figures must not be generalised, as sentences. Of a manifest that was read from a file too."""
    found = []
    if manifest.get("KVM") == Kind.PAGETABLE.value:
        found.append(
            "a pagetable KVM has neither VMX nor SVM: boots, system calls and page faults of VMs here say nothing of "
            "hosts with those; programs that only compute run as they do there"
        )
    if any(word in str(manifest.get("cpu", "")) for word in EMULATED):
        found.append("this CPU is emulated in software: only ratios within this run mean something, and those little")
    elif manifest.get("in a VM"):
        found.append("this host is a virtual machine itself: its hypervisor's other guests may have disturbed")
    if manifest.get("load before", 0) > BUSY * manifest.get("cpus", 1):
        found.append(f"other programs kept this machine busy before the run: load {manifest['load before']:.1f}")
    if manifest.get("CPUs that others kept busy", 0) > BUSY * manifest.get("cpus", 1):
        found.append(f"others kept {manifest['CPUs that others kept busy']} CPUs busy during the run")
    if manifest.get("governor") not in ("performance", "not told", None):
        found.append(f"the CPU's governor is {manifest['governor']}: clock rates may have changed during the run")
    if manifest.get("smt") == "on":
        found.append("SMT is on: what ran on the sibling of a pinned CPU took part of it")
    if manifest.get("NUMA nodes with CPUs") == 1:
        found.append(
            "one NUMA node has CPUs: what placement is worth cannot be seen on this host (numa-flat to numa-placed)"
        )
    if manifest.get("rounds", FEWEST) < FEWEST:
        found.append(f"fewer than {FEWEST} rounds: no difference can be shown with them")
    return found


def busy_seconds() -> float:
    """What all CPUs together have run since the host's start."""
    user, nice, system, _idle, _iowait, irq, softirq = map(int, _read("/proc/stat").split()[1:8])
    return (user + nice + system + irq + softirq) / float(os.sysconf("SC_CLK_TCK"))


def own_seconds() -> float:
    """CPU time of this process and of all its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def revision() -> str:
    """Of the checkout that this runs from, with a + when it has changes; "" when it is installed."""
    folder = Path(corral.__file__).resolve().parent
    if shutil.which("git") is None:
        return ""
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty=+", "--exclude=*"]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    return done.stdout.strip()


def _cpu() -> str:
    lines = _read("/proc/cpuinfo").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _flags() -> list[str]:
    lines = _read("/proc/cpuinfo").splitlines()
    return next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), [])


def _mitigations() -> str:
    words = [word for word in _read("/proc/cmdline").split() if word.startswith("mitigations=")]
    return words[-1].partition("=")[2] if words else "the kernel's default"


def _chosen(text: str) -> str:
    """What is in brackets."""
    return text.partition("[")[2].partition("]")[0] or "not told"


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
