"""tests/kvm/test_host_guest.py in an emulated host with hardware KVM: its guest looks like that one."""

from __future__ import annotations

from tests.kvm.test_host_guest import *  # noqa: F403  (all of its tests)
from tests.nested.elsewhere import IN_TESTS_KVM

pytestmark = IN_TESTS_KVM
