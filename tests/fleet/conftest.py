"""A Ray cluster of two nodes in this machine, for tests with real guests. Their environment has Ray: make fleet."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

# Before Ray is imported: a node that is gone is noticed within two seconds, not half a minute.
os.environ |= {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_health_check_initial_delay_ms": "500",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "500",
    "RAY_health_check_failure_threshold": "4",
}

import corral
from corral.guests import initramfs
from corral.ray import cluster, node
from tests.support.tiny_guests import tiny_guest

NODE = {"num_cpus": 1, "object_store_memory": node.OBJECT_STORE, "resources": {node.GUESTS: 8}}


class Nodes:
    """The cluster; its first node is this process's own. `second` may be killed, and is there again for the next."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        self._cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
        self.ray = cluster.connect(self._cluster.address)
        self.second: Any = None

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    def complete(self) -> None:
        if self.second is None:
            self.second = self._cluster.add_node(**NODE)
        self._cluster.wait_for_nodes()

    def kill_second(self) -> None:
        """As a power cut would: nothing of it can say goodbye."""
        self._cluster.remove_node(self.second, allow_graceful=False)
        self.second = None

    def close(self) -> None:
        self.ray.shutdown()
        self._cluster.shutdown()


@pytest.fixture(scope="session")
def all_nodes() -> Iterator[Nodes]:
    made = Nodes()
    yield made
    made.close()


@pytest.fixture
def nodes(all_nodes: Nodes) -> Nodes:
    all_nodes.complete()
    return all_nodes


@pytest.fixture(scope="session")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of a tiny guest that says hello when it goes on."""
    path = str(tmp_path_factory.mktemp("snapshot") / "hello")
    with corral.Machine(corral.MachineConfig(str(tiny_guest("hello")), memory=4 << 20)) as vm:
        vm.step()
        vm.snapshot(path)
    return path


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a root file system, as a container image."""
    folder = tmp_path_factory.mktemp("root")
    for name in ("bin", "etc", "srv"):
        (folder / name).mkdir()
    (folder / "bin/busybox").write_bytes(initramfs.busybox())
    (folder / "bin/busybox").chmod(0o755)
    for name in ("sh", "cat", "echo", "id", "sleep", "touch", "pwd", "ls"):
        (folder / "bin" / name).symlink_to("busybox")
    (folder / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nweb:x:33:34:web:/srv:/bin/sh\n")
    (folder / "etc/group").write_text("root:x:0:\nweb:x:34:\n")
    return str(folder)


def descendants(word: bytes) -> set[int]:
    """Of this process, no other's: those with that word in their command line."""
    found, above = set(), {os.getpid()}
    parents = {int(path.name): _parent(path) for path in Path("/proc").iterdir() if path.name.isdigit()}
    while above:
        above = {pid for pid, parent in parents.items() if parent in above}
        found |= above
    return {pid for pid in found if word in _words(pid)}


def _parent(path: Path) -> int:
    try:
        return int((path / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _words(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


@pytest.fixture
def left() -> Callable[[], set[int]]:
    """Processes that fork guests, and are there still."""
    return lambda: descendants(b"corral.fleet.zygote")
