"""For all tests: what they leave behind goes to the user's cache, not into the tree."""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis.configuration import set_hypothesis_home_dir

_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "corral"
set_hypothesis_home_dir(_CACHE / "hypothesis")
