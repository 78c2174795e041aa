"""Placement on hosts with nodes: what was planned is where threads and pages are, and what the guest sees."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from corral.compare import programs
from corral.guests import initramfs, kernel
from corral.numa import cpu_list
from tests.nested.host import NestedHost
from tests.support.guest_tools import initramfs_with

# Nodes 0 and 1 are sockets of two cores of two threads.
TWO = {"cpus": 8, "nodes": [([0, 1, 2, 3], 1536), ([4, 5, 6, 7], 1536)], "smp": "sockets=2,cores=2,threads=2"}
TWO_FAR = {(0, 1): 21, (1, 0): 21}
# Node 2 has no memory, 3 has no CPUs; it is not as far from 0 to 1 as back.
FOUR = {"cpus": 4, "nodes": [([0, 1], 1536), ([2], 1024), ([3], 0), ([], 1024)]}
FOUR_FAR = {(0, 1): 15, (1, 0): 18} | {(1, 2): 17, (2, 1): 17, (2, 3): 22, (3, 2): 22}
FOUR_FAR |= {(0, 2): 30, (2, 0): 30, (0, 3): 40, (3, 0): 40, (1, 3): 25, (3, 1): 25}

MODES = ("stream", "chase", "linpack")

LOOK = r"""
cd /sys/devices/system
for f in node/node*/cpulist node/node*/distance cpu/cpu*/topology/thread_siblings_list; do echo "$f: $(cat $f)"; done
for f in cpu/cpu*/topology/package_cpus_list cpu/cpu*/cache/index*/shared_cpu_list; do echo "$f: $(cat $f)"; done
for f in node/node*/meminfo; do echo "$f: $(head -n 1 $f)"; done
dmesg -r | grep -E '^<[0-4]>.*(NUMA|node|SRAT|SLIT|sched|smpboot|topology|cache)'
"""


@pytest.fixture(scope="module", autouse=True)
def made_outside() -> None:
    initramfs.path()
    for name in ("stock", "small"):
        kernel.get(name)
    for program in ("hello", "parallel"):
        programs.binary(program)


@pytest.fixture(scope="module")
def two_nodes() -> Iterator[NestedHost]:
    with NestedHost(distances=TWO_FAR, **TWO) as host:  # type: ignore[arg-type]
        yield host


@pytest.fixture(scope="module")
def four_nodes() -> Iterator[NestedHost]:
    with NestedHost(distances=FOUR_FAR, **FOUR) as host:  # type: ignore[arg-type]
        yield host


def placed(host: NestedHost, *options: str, command: str = LOOK) -> dict[str, Any]:
    argv = [sys.executable, "-m", "tests.nested.placed", "--timeout", "240", *options, "--", command]
    done = host.run(argv, timeout=300)
    assert done.status == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def seen(found: dict[str, Any]) -> dict[str, str]:
    """What the guest's sysfs has, by path."""
    return dict(line.split(": ", 1) for line in found["guest"] if ": " in line and line.startswith(("node/", "cpu/")))


def check_outside(found: dict[str, Any]) -> None:
    """Each vCPU's thread may run where the plan has it, each page is on the node it is to be on."""
    plan = found["plan"]
    for vcpu, cpu in enumerate(plan["cpus"]):
        assert found["threads"][f"vcpu{vcpu}"] == cpu_list.text(cpu["cpus"])
    if plan["workers"]:
        others = {name: cpus for name, cpus in found["threads"].items() if not name.startswith("vcpu")}
        assert set(others.values()) == {cpu_list.text(plan["workers"])}, others
    if plan["bind"]:
        policy = "bind" if plan["strict"] else "prefer"
        bound = [piece for piece in found["memory"] if piece[0].startswith((policy, "prefer"))]
        expected = [
            (f"{policy}:{node['host']}", {str(node["host"]): node["memory"]})
            for node in plan["nodes"]
            if node["memory"]
        ]
        assert [(name.replace("prefer (many)", "prefer"), nodes) for name, nodes in bound] == expected


def check_inside(found: dict[str, Any], caches: bool = True) -> None:
    """The guest's Linux has the plan's nodes, distances, packages, siblings and caches, and complains of nothing.

    `caches`: the host's CPUs tell any, so the guest's do.
    """
    plan, files = found["plan"], seen(found)
    cpus = plan["cpus"]

    def together(*levels: str) -> dict[int, str]:
        return {
            vcpu: cpu_list.text(i for i, other in enumerate(cpus) if all(other[name] == cpu[name] for name in levels))
            for vcpu, cpu in enumerate(cpus)
        }

    for number, node in enumerate(plan["nodes"]):
        mine = cpu_list.text(vcpu for vcpu, cpu in enumerate(cpus) if cpu["node"] == number)
        assert files[f"node/node{number}/cpulist"] == mine
        assert files[f"node/node{number}/distance"] == " ".join(map(str, plan["distances"][number]))
        total = int(files[f"node/node{number}/meminfo"].split()[-2]) << 10
        assert node["memory"] * 0.7 <= total <= node["memory"], "less what the kernel takes for itself"
    for vcpu in range(len(cpus)):
        folder = f"cpu/cpu{vcpu}"
        core = together("package", "die", "complex", "core")[vcpu]
        assert files[f"{folder}/topology/thread_siblings_list"] == core
        assert files[f"{folder}/topology/package_cpus_list"] == together("package")[vcpu]
        if not caches:
            continue
        assert files[f"{folder}/cache/index0/shared_cpu_list"] == core
        assert files[f"{folder}/cache/index3/shared_cpu_list"] == together("package", "die", "complex")[vcpu]
    assert not [line for line in found["guest"] if line.startswith("<")]


def test_two_sockets(two_nodes: NestedHost) -> None:
    """Four vCPUs on two nodes, the distribution's kernel."""
    found = placed(two_nodes, "--cpus", "4", "--numa", "spread", "--memory", "768M")
    assert [node["host"] for node in found["plan"]["nodes"]] == [0, 1]
    assert [cpu["cpus"] for cpu in found["plan"]["cpus"]] == [[0], [2], [4], [6]], "a core each"
    check_outside(found)
    check_inside(found)
    second = {cpu for planned in found["second"]["cpus"] for cpu in planned["cpus"]}
    assert second == {1, 3, 5, 7}, "a second guest does not pile up on the first one's CPUs"


def test_a_disks_thread_keeps_off(two_nodes: NestedHost) -> None:
    two_nodes.run(["truncate", "-s", "1M", "/tmp/disk"])
    options = ["--cpus", "2", "--memory", "256M", "--disk", "/tmp/disk", "--root", "none"]
    found = placed(two_nodes, *options, command="head -c 4096 /dev/vda | wc -c")
    assert "4096" in found["guest"]
    assert found["threads"]["blk0"] == "1,3"
    check_outside(found)


def test_siblings_to_siblings(two_nodes: NestedHost) -> None:
    found = placed(two_nodes, "--cpus", "sockets=2,cores=1,threads=2", "--numa", "spread", "--memory", "512M")
    assert [cpu["cpus"] for cpu in found["plan"]["cpus"]] == [[0], [1], [4], [5]]
    check_outside(found)
    check_inside(found)


def test_auto_fills_a_node(two_nodes: NestedHost) -> None:
    found = placed(two_nodes, "--cpus", "4", "--memory", "512M")
    assert [node["host"] for node in found["plan"]["nodes"]] == [0]
    check_outside(found)
    assert found["threads"]["vcpu0"] == "0"
    files = seen(found)
    assert files["cpu/cpu0/topology/thread_siblings_list"] == "0-1"
    assert files["cpu/cpu0/cache/index3/shared_cpu_list"] == "0-3"
    assert {planned for cpu in found["second"]["cpus"] for planned in cpu["cpus"]} == {4, 5, 6, 7}


def test_what_programs_see(two_nodes: NestedHost) -> None:
    """lscpu, numactl and lstopo of the distribution."""
    tools = initramfs_with(["lscpu", "numactl", "lstopo-no-graphics"])
    command = "lscpu -p=CPU,CORE,SOCKET,NODE | grep -v '#'; numactl -H; lstopo-no-graphics --no-io --of console"
    options = ["--cpus", "8", "--memory", "768M", "--initrd", tools]
    found = placed(two_nodes, *options, command=command)
    check_outside(found)
    guest = found["guest"]
    assert [f"{cpu},{cpu // 2},{cpu // 4},{cpu // 4}" for cpu in range(8)] == [
        line for line in guest if line[1:2] == ","
    ]
    assert "node 0 cpus: 0 1 2 3" in guest
    assert "node 1 cpus: 4 5 6 7" in guest
    assert "  0:  10  21 " in guest
    assert sum("Package L#" in line for line in guest) == 2
    assert sum("NUMANode L#" in line for line in guest) == 2
    assert sum("L3 L#" in line for line in guest) == 2
    assert sum("Core L#" in line for line in guest) == 4
    assert sum("PU L#" in line for line in guest) == 8


def test_four_odd_nodes(four_nodes: NestedHost) -> None:
    """Node 2's vCPU has its memory on the node that is nearest by the distances from there."""
    found = placed(four_nodes, "--cpus", "4", "--numa", "spread", "--memory", "768M")
    plan = found["plan"]
    assert [(node["host"], bool(node["memory"])) for node in plan["nodes"]] == [(0, True), (1, True), (2, False)]
    assert plan["distances"] == [[10, 15, 30], [18, 10, 17], [30, 17, 10]]
    check_outside(found)
    files = seen(found)
    assert files["node/node0/distance"] == "10 15 30"
    assert files["node/node0/cpulist"] == "0-1"


def test_the_ablation(two_nodes: NestedHost) -> None:
    """`corral compare` with all of the placement: that it runs; the nodes are all alike."""
    out = "/tmp/compared"
    command = ["compare", "--only", "numa-placed", "--contenders", "native,corral", "--runs", "1"]
    done = two_nodes.run([sys.executable, "-m", "corral", *command, "--out", out], timeout=900)
    assert done.status == 0, done.stdout + done.stderr
    results = json.loads(two_nodes.run(["cat", f"{out}/samples.json"]).stdout)
    found = {(one["contender"], one["measure"], one["metric"]) for one in results["samples"]}
    both = {"native", "corral"}
    assert {(name, "numa-placed", mode) for name in both for mode in MODES} == found, results["absences"]
    assert results["manifest"]["NUMA nodes"] == 2


def test_a_map_with_a_node_of_memory_alone(four_nodes: NestedHost) -> None:
    found = placed(four_nodes, "--cpus", "2", "--numa", "0@1:256M/1@0:256M/@3:256M", "--memory", "768M")
    assert [node["host"] for node in found["plan"]["nodes"]] == [1, 0, 3]
    check_outside(found)
    files = seen(found)
    assert files["node/node2/cpulist"] == ""
    assert files["node/node2/distance"] == "25 40 10"


def test_pinned_by_hand(four_nodes: NestedHost) -> None:
    found = placed(four_nodes, "--cpus", "2", "--pin", "0=3,1=0-1", "--memory", "256M")
    check_outside(found)
    assert (found["threads"]["vcpu0"], found["threads"]["vcpu1"]) == ("3", "0-1")


def test_one_node(host: NestedHost) -> None:
    """Nothing is placed unless it is asked for."""
    argv = [sys.executable, "-m", "corral", "boot", "--cpus", "2", "--timeout", "240", "--", "cat /proc/cpuinfo"]
    assert host.run(argv, timeout=300).stdout.count("processor") == 2
    found = placed(host, "--cpus", "2", "--numa", "nodes=2", "--memory", "512M")
    assert not found["plan"]["bind"]
    check_outside(found)
    check_inside(found, caches=False)


def test_huge_pages(two_nodes: NestedHost) -> None:
    folder = "/sys/devices/system/node/node1/hugepages/hugepages-2048kB"
    boot = [sys.executable, "-m", "corral", "boot", "--hugepages", "2M", "--numa", "0@1", "--memory", "256M"]
    refused = two_nodes.run([*boot, "--timeout", "240", "--", "true"], timeout=400)
    assert refused.status == 3
    assert f"echo 128 > {folder}/nr_hugepages" in refused.stderr
    assert two_nodes.run(["sh", "-c", f"echo 128 > {folder}/nr_hugepages"]).status == 0
    found = placed(two_nodes, "--hugepages", "2M", "--numa", "0@1", "--memory", "256M", command="true")
    check_outside(found)
    assert found["memory"][0][1] == {"1": 256 << 20}
    assert found["second"] is None, "there are no pages left"
    two_nodes.run(["sh", "-c", f"echo 0 > {folder}/nr_hugepages"])
