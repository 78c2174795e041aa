"""One nested host for all tests: it takes seconds to start."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.nested import host as nested
from tests.nested.host import HostDied, NestedHost
from tests.support.results import REPEATED

_DEATHS, _FAILURES = 2, 1  # of a test, that are not counted
_told: list[str] = []


@pytest.fixture(scope="session")
def host() -> Iterator[NestedHost]:
    with NestedHost() as host:
        yield host


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool:
    """A test whose emulated host dies is made again with a new one, and a test that fails is asked again in a new one;
    both are told of. In some twenty runs QEMU's translator makes the host's kernel panic or hang once, and the host's
    guest about as often, whichever VMM runs it. A failure of Corral's comes again."""
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    hosts = [value for value in arguments.values() if isinstance(value, NestedHost)]
    left = {HostDied: _DEATHS, AssertionError: _FAILURES}
    while True:
        try:
            pyfuncitem.obj(**arguments)
            return True
        except (HostDied, AssertionError) as problem:
            kind = HostDied if isinstance(problem, HostDied) else AssertionError
            if not hosts or not left[kind]:
                raise
            left[kind] -= 1
            _tell(pyfuncitem, str(problem))
            hosts[0].restart()


def pytest_runtest_teardown(item: pytest.Item) -> None:
    """A host that died while it started was started again."""
    while nested.dead_at_start:
        _tell(item, nested.dead_at_start.pop())


def _tell(item: pytest.Item, problem: str) -> None:
    """Here, and to who counts the results."""
    _told.append(f"{item.nodeid}: {problem[-1000:]}")
    item.user_properties.append((REPEATED, problem[-1000:]))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _told:
        terminalreporter.section("what went wrong in emulated hosts that were replaced")
        for problem in _told:
            terminalreporter.write_line(problem)
