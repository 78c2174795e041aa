"""How long a process is waited for: a time that is ample on a quiet machine, and more where others are at work."""

from __future__ import annotations

import os
import time

SPIN = 0.01  # seconds of computing, by which it is seen how much of a CPU one gets
MOST = 20.0  # times: what takes longer hangs


def scaled(seconds: float) -> float:
    """So many seconds of a quiet machine, here and now."""
    return seconds * slowness()


def slowness() -> float:
    """How many times as long as alone something takes now: by those who wait for a CPU, and by a try."""
    queue = 1 + os.getloadavg()[0] / len(os.sched_getaffinity(0))
    return min(MOST, max(queue, _share_of_a_cpu()))


def _share_of_a_cpu() -> float:
    """The time that a little computing takes, by the time that it computes."""
    began, computing = time.monotonic(), time.thread_time()
    while time.thread_time() - computing < SPIN:
        pass
    return (time.monotonic() - began) / SPIN
