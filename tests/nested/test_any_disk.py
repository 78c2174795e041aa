"""tests/kvm/test_any_disk.py in an emulated host with hardware KVM."""

from __future__ import annotations

from tests.kvm.test_any_disk import *  # noqa: F403  (all of its tests)
from tests.nested.elsewhere import IN_TESTS_KVM

pytestmark = IN_TESTS_KVM
