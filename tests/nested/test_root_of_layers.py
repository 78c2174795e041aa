"""`corral boot host` where the root is layers: the nested host's own is an overlay."""

from __future__ import annotations

import sys

from corral.guests import host as host_guest
from tests.nested.host import NestedHost


def test_a_root_of_layers_is_shared(host: NestedHost) -> None:
    host_guest.get()
    boot = f"{sys.executable} -m corral boot host --timeout 280 -- ls -d /etc/passwd"
    # From a folder of the root: the nested host has its own by 9P, and layers over that cannot be.
    done = host.run(["sh", "-c", f"cd / && exec {boot}"], timeout=300)
    assert (done.status, done.stdout) == (0, "/etc/passwd\n"), done.stdout + done.stderr
