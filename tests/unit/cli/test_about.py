"""What a person is told of a guest that says nothing."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from corral.cli import about
from corral.kvm.system import Kind


def machine(kind: Kind, cmdline: str) -> Any:
    return SimpleNamespace(system=SimpleNamespace(kind=kind), config=SimpleNamespace(cmdline=cmdline))


@pytest.mark.parametrize(
    ("kind", "cmdline", "early", "wanted", "unwanted"),
    [
        (Kind.PAGETABLE, "console=ttyS0 quiet", False, "takes minutes", "--early"),
        (Kind.PAGETABLE, "corral.status=0x404", False, "--early shows all", "takes minutes"),
        (Kind.HARDWARE, "console=ttyS0 quiet", False, "--early shows all", "takes minutes"),
        (Kind.HARDWARE, "console=ttyS0 quiet", True, "Ctrl-A X", "--early"),
        (Kind.HARDWARE, "", False, "Ctrl-A X", "--early"),
    ],
)
def test_the_hint(kind: Kind, cmdline: str, early: bool, wanted: str, unwanted: str) -> None:
    text = about.hint(machine(kind, cmdline), early)
    assert wanted in text
    assert unwanted not in text


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (7260, "2 h 1 min")])
def test_durations(seconds: float, text: str) -> None:
    assert about._duration(seconds) == text
