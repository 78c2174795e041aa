"""For all tests: what they need is checked first, and what they leave behind goes to the user's cache."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.configuration import set_hypothesis_home_dir

_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "corral"
set_hypothesis_home_dir(_CACHE / "hypothesis")
# A deadline of an example measures what else the machine does.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")
# In an emulated host an example takes a second, and its drawing alone longer than Hypothesis likes.
settings.register_profile("emulated", max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])

# What tests need is installed when root, as make has it too.
os.environ.setdefault("CORRAL_INSTALL", "1")

# A shell's background jobs ignore these, and so would all that tests start and then interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)
# Nor is a hang-up ignored by them under nohup: what has a handler here is as usual in a program that is started.
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda *_: None)


def pytest_collection_finish(session: pytest.Session) -> None:
    from tests.support import programs

    if not session.config.option.collectonly:
        programs.require(item.path for item in session.items)
