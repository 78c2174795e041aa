"""What this host is to a hypervisor, as facts; corral doctor prints them."""

from __future__ import annotations

import glob
import os
import shutil
from dataclasses import dataclass

from corral import host_files
from corral.arch.x86_64.supervisor import supervisor_mode
from corral.errors import HostError
from corral.guests import default, kernel
from corral.jail.host import HostJail
from corral.jail.host import look as look_for_jail
from corral.kvm.system import Kind, System, host_kind
from corral.native import lib
from corral.numa import cpu_list, host

# What Corral needs of KVM, and what each is for.
NEEDED = {
    "USER_MEMORY": "guest memory",
    "IRQCHIP": "interrupt controllers in the kernel",
    "PIT2": "the timer in the kernel",
    "IMMEDIATE_EXIT": "stopping a vCPU without a race",
    "SYNC_REGS": "registers without system calls",
    "IRQFD": "interrupts from I/O threads",
    "IOEVENTFD": "doorbells without exits",
}
# Programs that build the small kernel, and their Debian packages.
BUILDERS = {name: name for name in ("make", "flex", "bison", "bc")} | {"xz": "xz-utils"}
MEANING = {
    Kind.HARDWARE: "hardware virtualization (VMX or SVM): guests run natively in every mode",
    Kind.PAGETABLE: "pagetable KVM, without VMX or SVM: user code of a guest runs natively; its kernel is interpreted "
    "(about two million instructions a second) unless it knows native supervisor mode, as Corral's small kernel does "
    "and Debian's by what Corral adds; interpreted, a distribution's kernel takes a quarter of an hour",
}


@dataclass(frozen=True)
class NodeFacts:
    """A NUMA node; memory in bytes, page cache counted as free, CPUs as the kernel writes lists of them."""

    number: int
    cpus: str
    memory: int
    free: int


@dataclass(frozen=True)
class Diagnosis:
    """Memory is in bytes; `problems` are sentences that name the cure, none when Corral can boot here.

    `supervisor` is how a guest's kernel code can run, by a word of supervisor.Supervisor, and `supervisor_reason` why.
    `boots` is what `corral boot` takes without a kernel, `disks` how it reads and writes images, `shares` what keeps
    the server of a shared folder to it, `networks` by what a guest has one, `jail` what a VMM gives up; `advice` is
    what could be better, or will be missed when a kernel is fetched or built.
    """

    kvm: str
    kind: str
    meaning: str
    supervisor: str
    supervisor_reason: str
    device: str
    capabilities: dict[str, int]
    cpu: str
    cpus: int
    memory: int
    memory_available: int
    hugepages: dict[str, int]
    nodes: list[NodeFacts]
    kernel: str
    boots: str
    disks: str
    shares: str
    networks: str
    jail: HostJail
    problems: list[str]
    advice: list[str]


def diagnose(device: str = "/dev/kvm") -> Diagnosis:
    """Looks at the host; raises nothing for what it finds missing."""
    problems = []
    capabilities: dict[str, int] = {}
    try:
        with System(device) as system:
            capabilities = system.capabilities()
            system.create_vm().close()
        problems += [
            f"this KVM lacks {name} ({use}); use a newer kernel"
            for name, use in NEEDED.items()
            if not capabilities.get(name)
        ]
    except HostError as error:
        problems.append(str(error))
    memory = host.memory_facts("/proc/meminfo")
    kind = host_kind()
    mode = supervisor_mode(again=True)
    choice = default.choose(kind, cpus=1)
    is_ready = any(found.name == choice.name for found in kernel.ready())
    return Diagnosis(
        kvm="usable" if not problems else "not usable",
        kind=kind.value,
        meaning=MEANING[kind],
        supervisor=mode.supervisor.value,
        supervisor_reason=mode.reason,
        device=_access(device),
        capabilities=capabilities,
        cpu=_cpu_model(),
        cpus=len(os.sched_getaffinity(0)),
        memory=memory.get("MemTotal", 0),
        memory_available=memory.get("MemAvailable", 0),
        hugepages=_hugepages(),
        nodes=_nodes(),
        kernel=os.uname().release,
        boots=f"{choice.why}; {'ready' if is_ready else 'made on first use'}",
        disks=_disks(),
        shares=_shares(),
        networks=_networks(),
        jail=(jail := look_for_jail()),
        problems=problems,
        advice=([] if is_ready else _missing_tools(choice.stock)) + _missing_uring() + jail.missing,
    )


def _missing_tools(stock: bool) -> list[str]:
    """What gets a kernel and makes an initramfs for it, as far as it is not there."""
    needed = {"apt-get": "apt", "dpkg-deb": "dpkg", "gcc": "gcc"} | ({} if stock else BUILDERS)
    missing = {package for tool, package in needed.items() if shutil.which(tool) is None}
    if not missing:
        return []
    return [f"for a kernel of its own corral boot needs: apt-get install {' '.join(sorted(missing))}"]


def _disks() -> str:
    if lib.corral_blk_uring_probe() == 0:
        return "io_uring"
    why = "which this host does not allow" if lib.corral_blk_has_uring() else "which is not built in"
    return f"threads, instead of io_uring {why}"


def _shares() -> str:
    from corral.backends import folder_server

    try:
        return f"a server jailed by {folder_server.jail().text}"
    except HostError as error:
        return f"none: {error}"


def _networks() -> str:
    from corral.backends import passt

    try:
        return f"--net user by {passt.find()}"
    except HostError as error:
        return str(error)


def _missing_uring() -> list[str]:
    if lib.corral_blk_has_uring():
        return []
    return ["for io_uring behind disks: apt-get install liburing-dev, and install Corral again"]


def _access(device: str) -> str:
    if not os.path.exists(device):
        return f"{device} does not exist"
    mode = "readable and writable" if os.access(device, os.R_OK | os.W_OK) else "not accessible to you"
    return f"{device} is {mode}"


def _cpu_model() -> str:
    for line in host_files.text("/proc/cpuinfo").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "unknown"


def _hugepages() -> dict[str, int]:
    """Free huge pages by size, "2M" and "1G"."""
    found = {}
    for folder in sorted(glob.glob("/sys/kernel/mm/hugepages/hugepages-*kB")):
        size = int(folder.rpartition("-")[2].removesuffix("kB")) << 10
        name = f"{size >> 30}G" if size >> 30 else f"{size >> 20}M"
        found[name] = int(host_files.text(os.path.join(folder, "free_hugepages")) or 0)
    return found


def _nodes() -> list[NodeFacts]:
    found = host.read()
    return [
        NodeFacts(node.id, cpu_list.text(cpu.id for cpu in found.cpus if cpu.node == node.id), node.memory, node.free)
        for node in found.nodes
    ]
