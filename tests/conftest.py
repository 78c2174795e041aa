"""For all tests: what they leave behind goes to the user's cache, not into the tree."""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis.configuration import set_hypothesis_home_dir

_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "corral"
set_hypothesis_home_dir(_CACHE / "hypothesis")
# In an emulated host an example takes a second, and its drawing alone longer than Hypothesis likes.
settings.register_profile("emulated", max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
