"""`corral compare` on hardware KVM, where QEMU takes part too: machinery and report, not the figures."""

from __future__ import annotations

import json
import sys

import pytest

from corral.compare import programs
from corral.guests import initramfs, kernel
from tests.nested.host import NestedHost

OUT = "/tmp/compared"  # in the nested host
COMPARE = [sys.executable, "-m", "corral", "compare", "--out", OUT]


@pytest.fixture(scope="module", autouse=True)
def made_outside() -> None:
    """What needs a network or a compiler is made on the real host, before the nested one sees its files."""
    initramfs.path()
    kernel.get("small")
    for name in programs.names():
        programs.binary(name)


def test_everybody_on_hardware_kvm(host: NestedHost) -> None:
    done = host.run([*COMPARE, "--short", "--only", "start,disk-2"], timeout=480)
    assert done.status == 0, done.stdout + done.stderr
    written = host.run(["cat", f"{OUT}/samples.json"])
    results = json.loads(written.stdout)
    absent = {one["contender"]: one["reason"] for one in results["absences"] if not one["measure"]}
    values = {(one["contender"], one["measure"], one["metric"]): one["value"] for one in results["samples"]}
    for name in results["contenders"]:
        assert name in absent or (name, "start", "first-line") in values, f"{name} is silently missing"
    present = {"native", "runc", "bubblewrap", "corral", "qemu-microvm", "qemu-q35"}
    assert not present & absent.keys(), absent
    for name in present - {"qemu-q35"}:
        assert (name, "disk-2", "each") in values, (name, results["absences"])
        assert 4 <= values[name, "disk-2", "each"] < 5, name
    assert ("qemu-q35", "disk-2") in {(one["contender"], one["measure"]) for one in results["absences"]}
    assert results["manifest"]["KVM"] == "hardware"
    assert any("emulated in software" in warning for warning in results["warnings"])
    left = host.run(
        ["sh", "-c", "ls -d /var/tmp/corral-*; grep corral-c[o]mpare- /proc/mounts; pgrep -f corral-c[o]mpare-"]
    )
    assert left.stdout == ""
