"""Whether Corral may install packages on this host. As root it could, and does not do so unasked."""

from __future__ import annotations

import os

from corral import voice
from corral.errors import ConfigError

VARIABLE = "CORRAL_INSTALL"  # 1: yes, 0: no; make and CI say 1
_ANSWERS = {"1": True, "0": False}


def give() -> None:
    """For this process, and for those that it starts: --yes."""
    os.environ[VARIABLE] = "1"


def given(question: str) -> bool:
    """By the variable, by --yes, or by who sits at this command's terminal and is asked. Raises ConfigError for a
    variable that is neither."""
    text = os.environ.get(VARIABLE, "")
    if text not in _ANSWERS and text:
        raise ConfigError(f"{VARIABLE}={text!r} is neither 1 nor 0")
    return _ANSWERS[text] if text else voice.ask(question)
