"""How much the durability tests do, and what their dice are: CORRAL_DURABILITY (1 in CI) and CORRAL_SEED."""

from __future__ import annotations

import os
import random

EFFORT = int(os.environ.get("CORRAL_DURABILITY", "1"))
SEED = int(os.environ.get("CORRAL_SEED") or random.SystemRandom().randrange(1 << 32))


def dice(*words: object) -> random.Random:
    """A generator of its own for each purpose, so that one test's draws do not move another's."""
    return random.Random(f"{SEED} {words}")
