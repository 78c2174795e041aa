"""Guests in pytest: the fixtures `corral_machine` and `corral_linux` (docs/research/python.md), and `sandbox`
(docs/background.md).

    def test_my_kernel(corral_machine):
        vm = corral_machine("build/vmlinux", memory=64 << 20)
        vm.run_until("all tests passed", timeout=30)

A test that fails shows what its guests said last.
"""

from __future__ import annotations

import pytest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from corral.script.machine import ScriptedMachine
    from corral.script.sandbox import Sandbox

_SHOWN = 4096  # bytes of console
_machines = pytest.StashKey[list["ScriptedMachine"]]()


@pytest.fixture
def corral_machine(request: pytest.FixtureRequest) -> Iterator[Callable[..., ScriptedMachine]]:
    """Makes machines from a kernel's path and MachineConfig's other values; closes them after the test."""

    def make(kernel: str, **values: Any) -> ScriptedMachine:
        from corral import Machine, MachineConfig

        return Machine(MachineConfig(kernel=str(kernel), **values))

    yield from _kept(request, make)


@pytest.fixture
def corral_linux(request: pytest.FixtureRequest) -> Iterator[Callable[..., ScriptedMachine]]:
    """The same with corral.linux() and what that takes."""

    def make(*command: str, **options: Any) -> ScriptedMachine:
        from corral import linux

        return linux(*command, **options)

    yield from _kept(request, make)


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """A guest with Corral's small Linux to run things in, gone after the test."""
    from corral import Sandbox

    with Sandbox() as box:
        yield box


def _kept(
    request: pytest.FixtureRequest, make: Callable[..., ScriptedMachine]
) -> Iterator[Callable[..., ScriptedMachine]]:
    machines = request.node.stash.setdefault(_machines, [])
    own: list[ScriptedMachine] = []

    def kept(*arguments: Any, **options: Any) -> ScriptedMachine:
        machine = make(*arguments, **options)
        own.append(machine)
        machines.append(machine)
        return machine

    yield kept
    for machine in own:
        machine.close()
        machines.remove(machine)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    report = yield
    if report.when == "call" and report.failed:
        machines = item.stash.setdefault(_machines, [])
        for index, machine in enumerate(machines):
            said = machine.console.output[-_SHOWN:].decode("utf-8", "replace")
            report.sections.append((f"Guest {index}'s console", said))
    return report
