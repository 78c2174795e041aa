"""A guest is asked to shut down before it is ended: by Ctrl-A X and by signals, once, and not for ever."""

from __future__ import annotations

import os
import signal
import time
from typing import Any, cast

import pytest

from corral.backends.console import Console
from corral.cli.farewell import Farewell


class FakeMachine:
    def __init__(self) -> None:
        self.asked = self.dismissed = 0

    def ask_to_end(self) -> None:
        self.asked += 1

    def dismiss(self) -> None:
        self.dismissed += 1


def farewell(machine: FakeMachine, grace: float = 60.0) -> tuple[Farewell, Console]:
    console = Console()
    return Farewell(cast(Any, machine), console, grace), console


def test_the_first_time_the_guest_is_asked_the_second_time_it_ends(capfd: pytest.CaptureFixture[str]) -> None:
    machine = FakeMachine()
    around, console = farewell(machine)
    with around:
        assert not console.may_leave()
        assert (machine.asked, machine.dismissed) == (1, 0)
        assert console.may_leave()
    assert machine.asked == 1
    assert "asked to shut down" in capfd.readouterr().err


def test_a_guest_that_does_not_listen_is_ended_when_its_time_is_over() -> None:
    machine = FakeMachine()
    around, console = farewell(machine, grace=0.05)
    with around:
        console.may_leave()
        time.sleep(0.2)
        assert machine.dismissed == 1


def test_sigterm_asks_and_the_second_one_insists() -> None:
    machine = FakeMachine()
    before = signal.getsignal(signal.SIGTERM)
    around, _ = farewell(machine)
    around.__enter__()
    os.kill(os.getpid(), signal.SIGTERM)
    assert (machine.asked, machine.dismissed) == (1, 0)
    os.kill(os.getpid(), signal.SIGTERM)
    assert machine.dismissed == 1
    with pytest.raises(SystemExit, match="143"):
        around.__exit__(None, None, None)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_guest_that_shuts_down_when_it_is_asked_has_its_own_status() -> None:
    machine = FakeMachine()
    with farewell(machine)[0]:
        os.kill(os.getpid(), signal.SIGTERM)
    assert (machine.asked, machine.dismissed) == (1, 0)
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_an_error_of_the_run_is_not_hidden() -> None:
    around, _ = farewell(FakeMachine())
    around.__enter__()
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGTERM)
    around.__exit__(ValueError, ValueError(), None)
