"""tests/kvm/test_share_semantics.py in an emulated host with hardware KVM."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kvm.test_share_semantics import boot, check
from tests.kvm.test_share_semantics import made_outside as made_outside
from tests.kvm.test_share_semantics import program as program
from tests.nested.elsewhere import IN_TESTS_KVM
from tests.nested.host import DISK, NestedHost

pytestmark = IN_TESTS_KVM


@pytest.fixture(scope="module")
def with_disk() -> Iterator[NestedHost]:
    with NestedHost(disk_mb=256) as nested:
        yield nested


def test_what_works_is_what_the_docs_say(with_disk: NestedHost, program: str) -> None:
    assert with_disk.run(["mkdir", f"{DISK}/shared"]).status == 0
    done = with_disk.run(boot(f"{DISK}/shared", program), timeout=900)
    check(done.stdout + done.stderr)
