"""A device that is rung often has its doorbells taken by KVM; one that is not costs its VM no ioeventfd."""

from __future__ import annotations

import pytest

import corral
from corral.arch.x86_64.supervisor import Supervisor, supervisor_mode
from corral.guests import kernel
from corral.native import lib

MANY_WORDS = "for i in $(seq 300); do echo $i; usleep 2000; done"  # each is in its reader's hands before the next


@pytest.fixture(scope="module", autouse=True)
def small() -> None:
    if not any(found.name == kernel.SMALL for found in kernel.ready()):
        pytest.skip("the small kernel is not in the cache: corral kernel build")


@pytest.mark.parametrize(("command", "busy"), [("true", False), (MANY_WORDS, True)])
def test_doorbells_are_exits_until_they_are_many(command: str, busy: bool) -> None:
    if supervisor_mode().supervisor is Supervisor.INTERPRETED and busy:
        pytest.skip("a guest whose kernel is interpreted takes a minute for 300 lines")
    with corral.linux(command, pipes=True) as vm:
        assert vm.wait(240).status == 0
        assert vm.streams is not None
        assert vm.streams.output.count(b"\n") == (300 if busy else 0)
        (channel,) = vm.virtio
        rings = channel.doorbells.rings
    assert rings == lib.CORRAL_DOORBELLS_LATE if busy else 0 < rings < lib.CORRAL_DOORBELLS_LATE
