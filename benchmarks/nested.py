"""A benchmark's half in a nested host with hardware KVM: `python -m benchmarks.NAME INPUT` prints its samples."""

from __future__ import annotations

import json
import sys
from typing import Any

from tests.nested.host import NestedHost


def run(name: str, contenders: object, timeout: float = 900, disk_mb: int = 0) -> Any:
    """What that process printed last, read as JSON; `contenders` is its INPUT, as JSON too. `timeout` in seconds.

    A nested host sees the cache of this one and cannot add to it: what they need is made before. Raises RuntimeError.
    """
    with NestedHost(disk_mb=disk_mb) as host:
        done = host.run([sys.executable, "-m", f"benchmarks.{name}", json.dumps(contenders)], timeout=timeout)
    if done.status:
        raise RuntimeError(f"in the nested host: {done.stderr.strip()[-3000:]}")
    print(done.stderr, end="", file=sys.stderr)
    return json.loads(done.stdout.splitlines()[-1])
