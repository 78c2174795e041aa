"""sysfs of invented hosts, and this one's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.errors import HostError
from corral.numa import cpu_list, host
from corral.numa.host import Cache, HugePages


def sysfs(root: Path, files: dict[str, str]) -> str:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return str(root)


NODE, CPU = "sys/devices/system/node", "sys/devices/system/cpu"


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """Nodes 0 and 4, the latter without CPUs; 7 has no memory; CPU 2 is offline, 1 and 3 are siblings."""
    meminfo = "Node {0} MemTotal: 4096 kB\nNode {0} MemFree: 1024 kB\nNode {0} Active(file): 512 kB"
    sysfs(
        tmp_path,
        {
            f"{NODE}/online": "0,4,7",
            f"{NODE}/node0/cpulist": "0-1",
            f"{NODE}/node4/cpulist": "",
            f"{NODE}/node7/cpulist": "3",
            f"{NODE}/node0/meminfo": meminfo.format(0),
            f"{NODE}/node4/meminfo": meminfo.format(4),
            f"{NODE}/node7/meminfo": "Node 7 MemTotal: 0 kB\nNode 7 MemFree: 0 kB",
            f"{NODE}/node0/distance": "10 17 28",
            f"{NODE}/node4/distance": "17 10 28",
            f"{NODE}/node7/distance": "29 28 10",
            f"{NODE}/node0/hugepages/hugepages-2048kB/free_hugepages": "3",
            f"{NODE}/node0/hugepages/hugepages-2048kB/nr_hugepages": "40",
            f"{CPU}/online": "0-1,3",
            f"{CPU}/cpu0/topology/physical_package_id": "0",
            f"{CPU}/cpu1/topology/physical_package_id": "0",
            f"{CPU}/cpu1/topology/thread_siblings_list": "1,3",
            f"{CPU}/cpu3/topology/thread_siblings_list": "1,3",
            f"{CPU}/cpu3/topology/physical_package_id": "-1",
            f"{CPU}/cpu0/cache/index0/level": "1",
            f"{CPU}/cpu0/cache/index0/type": "Data",
            f"{CPU}/cpu0/cache/index0/size": "48K",
            f"{CPU}/cpu0/cache/index0/shared_cpu_list": "0",
            f"{CPU}/cpu0/cache/index3/level": "3",
            f"{CPU}/cpu0/cache/index3/type": "Unified",
            f"{CPU}/cpu0/cache/index3/size": "32M",
            f"{CPU}/cpu0/cache/index3/shared_cpu_list": "0-1",
            "sys/kernel/mm/transparent_hugepage/enabled": "always madvise [never]",
            "proc/self/status": "Name:\tx\nCpus_allowed_list:\t0,2-3\nMems_allowed_list:\t0,7",
        },
    )
    return tmp_path


def test_an_odd_host(odd: Path) -> None:
    found = host.read(str(odd / "sys"), str(odd / "proc"))
    assert [(cpu.id, cpu.node, cpu.package, cpu.core) for cpu in found.cpus] == [
        (0, 0, 0, 0),
        (1, 0, 0, 1),
        (3, 7, 0, 1),
    ]
    assert found.cpus[0].caches == (Cache(1, "Data", 48 << 10, (0,)), Cache(3, "Unified", 32 << 20, (0, 1)))
    assert found.cpus[0].llc == 0
    assert found.cpus[2].llc == 1, "without caches told: the core"
    assert [(node.id, node.memory, node.free) for node in found.nodes] == [
        (0, 4 << 20, 1536 << 10),
        (4, 4 << 20, 1536 << 10),
        (7, 0, 0),
    ]
    assert found.nodes[0].hugepages == (HugePages(2 << 20, 3, 40),)
    assert found.nodes[0].pool(1 << 30) == HugePages(1 << 30, 0, 0)
    assert (found.distance(0, 7), found.distance(7, 0), found.distance(4, 4)) == (28, 29, 10)
    assert found.allowed_cpus == {0, 3}
    assert found.allowed_nodes == {0, 7}
    assert not found.thp
    assert [cpu.id for cpu in found.usable(7)] == [3]


def test_a_kernel_without_nodes(tmp_path: Path) -> None:
    root = sysfs(tmp_path, {f"{CPU}/online": "0-1", "proc/meminfo": "MemTotal: 1024 kB\nMemFree: 512 kB"})
    found = host.read(f"{root}/sys", f"{root}/proc")
    assert [cpu.node for cpu in found.cpus] == [0, 0]
    assert [(node.id, node.memory, node.free) for node in found.nodes] == [(0, 1 << 20, 512 << 10)]


def test_no_sysfs(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="mount sysfs"):
        host.read(str(tmp_path))


def test_this_host() -> None:
    found = host.read()
    assert found.allowed_cpus == os.sched_getaffinity(0)
    assert sum(node.memory for node in found.nodes) > 0
    assert {cpu.node for cpu in found.cpus} <= {node.id for node in found.nodes}


def test_memory_of_a_host_and_of_a_node(tmp_path: Path) -> None:
    (tmp_path / "host").write_text("MemTotal:       16384 kB\nHugePages_Total:       3\n\nodd\n")
    (tmp_path / "node").write_text("Node 1 MemTotal:       2048 kB\n")
    assert host.memory_facts(str(tmp_path / "host")) == {"MemTotal": 16 << 20, "HugePages_Total": 3}
    assert host.memory_facts(str(tmp_path / "node")) == {"MemTotal": 2 << 20}
    assert host.memory_facts(str(tmp_path / "missing")) == {}


@given(st.sets(st.integers(0, 300)))
def test_lists_there_and_back(numbers: set[int]) -> None:
    assert cpu_list.parse(cpu_list.text(numbers)) == tuple(sorted(numbers))


@pytest.mark.parametrize("text", ["a", "1-", "-1", "3-2", "1,,2", "0-99999999", "1 2", "٣"])
def test_what_is_no_list(text: str) -> None:
    with pytest.raises(ValueError, match="is no"):
        cpu_list.parse(text)


def test_what_the_pool_has_promised_is_not_free(tmp_path: Path) -> None:
    name = "hugepages/hugepages-2048kB"
    root = sysfs(
        tmp_path,
        {
            f"{CPU}/online": "0-1",
            f"{NODE}/online": "0",
            f"{NODE}/node0/{name}/free_hugepages": "40",
            f"{NODE}/node0/{name}/nr_hugepages": "40",
            f"sys/kernel/mm/{name}/resv_hugepages": "32",
        },
    )
    assert host.read(f"{root}/sys", f"{root}/proc").nodes[0].hugepages == (HugePages(2 << 20, 8, 40),)
