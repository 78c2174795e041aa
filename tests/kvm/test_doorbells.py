"""A device that is rung often has its doorbells taken by KVM; one that is not costs its VM no ioeventfd."""

from __future__ import annotations

import pytest

import corral
from corral.arch.x86_64.supervisor import Supervisor, supervisor_mode
from corral.guests import kernel
from corral.native import lib


@pytest.fixture(scope="module", autouse=True)
def small() -> None:
    if not any(found.name == kernel.SMALL for found in kernel.ready()):
        pytest.skip("the small kernel is not in the cache: corral kernel build")


@pytest.mark.parametrize(("command", "busy"), [("true", False), ("head -c 3000000 /dev/zero", True)])
def test_doorbells_are_exits_until_they_are_many(command: str, busy: bool) -> None:
    if supervisor_mode().supervisor is Supervisor.INTERPRETED and busy:
        pytest.skip("a guest whose kernel is interpreted takes minutes for three megabytes")
    with corral.linux(command, pipes=True) as vm:
        assert vm.wait(240).status == 0
        assert vm.streams is not None
        assert len(vm.streams.output) == (3_000_000 if busy else 0)
        (channel,) = vm.virtio
        rings = channel.doorbells.rings
    assert rings == lib.CORRAL_DOORBELLS_LATE if busy else 0 < rings < lib.CORRAL_DOORBELLS_LATE
