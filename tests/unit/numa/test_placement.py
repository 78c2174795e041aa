"""The planner over hundreds of invented hosts: what holds for every plan, and what single hosts should get."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral.arch.x86_64 import apic_ids
from corral.errors import ConfigError, HostError
from corral.numa.as_json import to_json
from corral.numa.host import HostTopology
from corral.numa.placement import place
from corral.numa.plan import Plan, table
from corral.numa.request import MapNode, Request, Shape
from tests.unit.numa.invented import GIB, build, hosts

requests = st.builds(
    lambda cpus, memory, policy, nodes, pin, shape: Request(
        shape.cpus if shape else cpus,
        memory << 20,
        shape,
        policy if not nodes else "compact",
        min(nodes, shape.cpus if shape else cpus),
        pin=pin,
    ),
    st.integers(1, 64),
    st.integers(8, 1 << 16),
    st.sampled_from(["auto", "none", "compact", "spread"]),
    st.sampled_from([0, 0, 0, 1, 2, 3, 5]),
    st.sampled_from(["auto", "auto", "none"]),
    st.none() | st.builds(Shape, st.integers(1, 4), st.integers(1, 4), st.integers(1, 3)),
)
loads = st.dictionaries(st.integers(0, 60), st.integers(1, 3), max_size=20)


def cpus_of(host: HostTopology, node: int) -> set[int]:
    return {cpu.id for cpu in host.cpus if cpu.node == node}


def planned(host: HostTopology, request: Request, load: dict[int, int] | None = None) -> Plan | None:
    """None where that is refused: more nodes than cores."""
    threads = request.shape.threads if request.shape else 1
    if request.nodes <= request.cpus // threads:
        return place(host, request, load)
    with pytest.raises(ConfigError, match="some would have none"):
        place(host, request, load)
    return None


@settings(max_examples=400, deadline=None)
@given(hosts(), requests, loads)
def test_what_holds_for_every_plan(host: HostTopology, request: Request, load: dict[int, int]) -> None:
    plan = planned(host, request, load)
    if plan is None:
        return
    assert len(plan.cpus) == request.cpus
    assert sum(node.memory for node in plan.nodes) == request.memory
    assert all(node.memory >= 0 for node in plan.nodes)
    assert len(plan.distances) == len(plan.nodes)
    for a, row in enumerate(plan.distances):
        assert row[a] == 10
        assert all(10 < distance < 255 for b, distance in enumerate(row) if b != a)
    for cpu in plan.cpus:
        assert 0 <= cpu.node < len(plan.nodes)
        assert set(cpu.cpus) <= host.allowed_cpus
        on = plan.nodes[cpu.node].host
        assert on == -1 or set(cpu.cpus) <= cpus_of(host, on)
        assert request.pin == "auto" or not cpu.cpus
    for node in plan.nodes:
        if node.memory and node.host >= 0:
            assert next(real for real in host.nodes if real.id == node.host).memory
    pinned = []
    for cpu in plan.cpus:
        node = plan.nodes[cpu.node].host
        roam = {one.id for one in host.usable(None if node == -1 else node)}
        if len(cpu.cpus) == 1 and len(roam) > 1:
            pinned += cpu.cpus
        elif request.pin == "auto":
            assert set(cpu.cpus) in (set(), roam)
    assert len(set(pinned)) == len(pinned), "one to one"
    assert not set(pinned) & load.keys(), "others' CPUs are left alone"
    assert not set(plan.workers) & set(pinned), "other threads keep off"
    positions = apic_ids.placed(plan.cpus)
    ids = [position.apic_id for position in positions]
    assert len(set(ids)) == len(ids)
    assert ids[0] == 0
    assert max(ids) <= apic_ids.HIGHEST
    assert json.loads(to_json(plan))["policy"] == plan.policy
    assert str(len(plan.cpus) - 1) in table(plan)


@settings(max_examples=300, deadline=None)
@given(hosts(), requests)
def test_the_guest_sees_what_it_has(host: HostTopology, request: Request) -> None:
    """Where vCPUs are pinned: the same are siblings, share an L3 and a package, as far as one node goes."""
    plan = planned(host, request)
    if plan is None or request.shape or len(set(plan.pinned)) < request.cpus:
        return
    real = {cpu.id: cpu for cpu in host.cpus}
    invented = len({node.host for node in plan.nodes}) < len(plan.nodes)  # nodes that the host has not got
    for a in plan.cpus:
        for b in plan.cpus:
            here, there = real[a.cpus[0]], real[b.cpus[0]]
            assert invented or (a.package == b.package) == (here.package == there.package)
            same_complex = (a.package, a.die, a.complex) == (b.package, b.die, b.complex)
            assert same_complex == (here.llc == there.llc and a.node == b.node)
            same_core = same_complex and a.core == b.core
            assert same_core == (here.core == there.core and a.node == b.node)


@settings(max_examples=300, deadline=None)
@given(hosts(), requests)
def test_cores_are_not_shared_without_need(host: HostTopology, request: Request) -> None:
    plan = planned(host, request)
    if plan is None or request.shape or request.policy == "none" or len(set(plan.pinned)) < request.cpus:
        return
    real = {cpu.id: cpu for cpu in host.cpus}
    for number in range(len(plan.nodes)):
        mine = [real[cpu.cpus[0]] for cpu in plan.cpus if cpu.node == number]
        hosts_node = plan.nodes[number].host
        if sum(node.host == hosts_node for node in plan.nodes) > 1:
            continue
        cores = {cpu.core for cpu in host.usable(hosts_node)}
        if len(mine) <= len(cores):
            assert len({cpu.core for cpu in mine}) == len(mine)


@settings(max_examples=200, deadline=None)
@given(hosts(), st.integers(1, 16), st.integers(64, 4096))
def test_compact_takes_no_more_nodes_than_it_needs(host: HostTopology, cpus: int, memory: int) -> None:
    plan = place(host, Request(cpus, memory << 20, policy="compact"))
    room = sorted((len(host.usable(node)) for node in {cpu.node for cpu in host.usable()}), reverse=True)
    needed = next((n for n in range(1, len(room) + 1) if sum(room[:n]) >= cpus), None)
    used = {cpu.node for cpu in plan.cpus}
    if needed and all(node.free >= memory << 20 for node in host.nodes if node.memory):
        assert len(used) == needed


def test_two_sockets_fill_evenly_and_whole_cores_first() -> None:
    host = build(packages=2, cores=4, threads=2)
    plan = place(host, Request(8, 4 * GIB, policy="spread"))
    assert [cpu.node for cpu in plan.cpus] == [0] * 4 + [1] * 4
    assert plan.pinned == (0, 1, 2, 3, 4, 5, 6, 7)
    assert [node.memory for node in plan.nodes] == [2 * GIB, 2 * GIB]
    assert plan.distances == ((10, 21), (21, 10))
    assert set(plan.workers) == set(range(8, 16))


def test_auto_stays_on_one_node_where_that_has_room() -> None:
    host = build(packages=2, cores=4, threads=2)
    assert place(host, Request(4, GIB)).pinned == (0, 1, 2, 3)
    assert place(host, Request(8, GIB)).pinned == (0, 8, 1, 9, 2, 10, 3, 11), "siblings to siblings"
    assert place(host, Request(9, GIB)).shows_nodes
    assert place(host, Request(2, 12 * GIB)).shows_nodes, "more memory than a node has"


def test_asked_for_threads_are_siblings() -> None:
    host = build(packages=2, cores=4, threads=2)
    plan = place(host, Request(8, GIB, Shape(2, 2, 2), policy="spread"))
    assert plan.pinned == (0, 8, 1, 9, 4, 12, 5, 13)
    assert [(cpu.package, cpu.core, cpu.thread) for cpu in plan.cpus[:5]] == [
        (0, 0, 0),
        (0, 0, 1),
        (0, 1, 0),
        (0, 1, 1),
        (1, 0, 0),
    ]


def test_a_second_machine_goes_elsewhere() -> None:
    host = build(packages=2, cores=2)
    first = place(host, Request(2, GIB))
    second = place(host, Request(2, GIB), Counter(first.pinned))
    assert not set(first.pinned) & set(second.pinned)
    third = place(host, Request(2, GIB), Counter(first.pinned + second.pinned))
    assert [len(cpu.cpus) for cpu in third.cpus] == [2, 2], "no CPU is free: within a node they roam"


def test_a_node_without_memory_takes_the_nearest() -> None:
    host = build(packages=2, nodes_each=2, cores=2, without_memory=frozenset({1}))
    plan = place(host, Request(8, 4 * GIB, policy="spread"))
    assert [(node.host, node.memory) for node in plan.nodes] == [(0, 2 * GIB), (1, 0), (2, GIB), (3, GIB)]


def test_a_node_without_processors_gives_memory() -> None:
    host = build(packages=1, cores=2, memory_only=1, without_memory=frozenset({0}))
    plan = place(host, Request(2, GIB))
    assert [(node.host, node.memory) for node in plan.nodes] == [(0, 0), (1, GIB)]
    assert plan.memory_ranges() == [(0, GIB, 1)]


def test_more_nodes_than_the_host_has() -> None:
    plan = place(build(cores=4), Request(4, GIB, nodes=2, policy="compact"))
    assert [cpu.node for cpu in plan.cpus] == [0, 0, 1, 1]
    assert plan.distances == ((10, 20), (20, 10))
    assert plan.memory_ranges() == [], "there is nothing to bind on a host with one node"


def test_a_map() -> None:
    host = build(packages=2, cores=4)
    nodes = (MapNode((0, 1), 1, GIB), MapNode((2, 3), 0), MapNode((), 0, GIB))
    plan = place(host, Request(4, 4 * GIB, policy="map", map=nodes))
    assert [(node.host, node.memory >> 30) for node in plan.nodes] == [(1, 1), (0, 2), (0, 1)]
    assert plan.pinned == (4, 5, 0, 1)
    assert plan.strict


def test_pins() -> None:
    host = build(packages=2, cores=4)
    assert place(host, Request(2, GIB, pin_cpus=(1, 6))).pinned == (1, 6)
    assert place(host, Request(2, GIB, pin_cpus=(1, 6))).shows_nodes
    plan = place(host, Request(3, GIB, pin_map=((0, (5,)), (2, (0, 1)))))
    assert [cpu.cpus for cpu in plan.cpus] == [(5,), (4,), (0, 1)]
    assert not plan.shows_nodes, "vCPU 1 could be on either node"
    assert place(host, Request(2, GIB, pin_map=((0, (5,)), (1, (1,))))).nodes[0].host == 0


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (Request(2, GIB, pin_cpus=(9,)), "CPU 9 is not there or offline; this host has 0-7"),
        (Request(2, GIB, pin_cpus=(7,)), "CPU 7 is not for this process; its affinity or cpuset allows 0-6"),
        (Request(2, GIB, pin_map=((2, (0,)),)), "names vCPU 2, and there are 0 to 1"),
        (Request(2, GIB, pin="none", pin_cpus=(1,)), "exclude each other"),
        (Request(2, GIB, nodes=3), "with 2 cores"),
        (Request(2, GIB, Shape(1, 3, 1)), "make 3 CPUs, not 2"),
        (Request(2, GIB, map=(MapNode((0,), 0),)), "vCPU 1 is on no node"),
        (Request(2, GIB, map=(MapNode((0, 1), 0), MapNode((1,), 1))), "vCPU 1 is on two nodes"),
        (Request(1, GIB, map=(MapNode((0, 5), 0),)), "has vCPU 5"),
        (Request(1, GIB, map=(MapNode((0,), 7),)), "no node 7, but 0-1"),
        (Request(1, GIB, map=(MapNode((0,), 0, 2 * GIB),)), "2048 MiB together"),
        (Request(1, 16 * GIB, map=(MapNode((0,), 0, 16 * GIB),)), "node 0 has 8192 MiB; 16384 MiB do not fit"),
        (Request(1, GIB, map=(MapNode((0,), 0), MapNode((), 1, 1 << 20))), "no memory for a node"),
        (Request(1, GIB, map=(MapNode((0,), 0),), pin_map=((0, (5,)),)), "--numa on node 0, which has CPUs 0-3"),
        (Request(2, GIB, Shape(1, 1, 2), nodes=2), "with 1 cores"),
        (Request(2, GIB, Shape(1, 1, 2), map=(MapNode((0,), 0), MapNode((1,), 1))), "threads of one core"),
        (Request(1, (1 << 30) + 4096, page=2 << 20), "not whole huge pages"),
    ],
)
def test_what_is_refused(request_: Request, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        place(build(packages=2, cores=4, forbidden=frozenset({7})), request_)


def test_huge_pages_that_are_not_there() -> None:
    with pytest.raises(HostError, match="512 free 2M pages are needed on node 0, which has 3; as root: echo"):
        place(build(hugepages=3), Request(1, GIB, page=2 << 20))
    # The file takes the whole pool's size: those in use, those that are free, and those that are missing.
    with pytest.raises(HostError, match="16 free 2M pages are needed on node 0, which has 8; as root: echo 48 > /sys"):
        place(build(hugepages=8, hugepages_in_use=32), Request(1, 32 << 20, page=2 << 20))
    with pytest.raises(HostError, match="no 1024M pages; boot it with hugepagesz=1024M"):
        place(build(), Request(1, GIB, page=1 << 30))
    with pytest.raises(HostError, match="no transparent huge pages; as root: echo madvise"):
        place(build(thp=False), Request(1, GIB, thp=True))
    plan = place(build(packages=2, hugepages=300), Request(4, GIB, page=2 << 20))
    assert [node.memory >> 21 for node in plan.nodes] == [256, 256]
    assert plan.prealloc
