"""One nested host for all tests: it takes seconds to start."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.nested.host import HostDied, NestedHost

ATTEMPTS = 3
_deaths: list[str] = []


@pytest.fixture(scope="session")
def host() -> Iterator[NestedHost]:
    with NestedHost() as host:
        yield host


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool:
    """A test whose emulated host dies is made again, with a new one, and told of: in some twenty runs QEMU's translator
    makes the host's kernel panic or hang once. The third death is the test's failure."""
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    for _ in range(ATTEMPTS - 1):
        try:
            pyfuncitem.obj(**arguments)
            return True
        except HostDied as died:
            _deaths.append(f"{pyfuncitem.nodeid}: {died}")
            next(value for value in arguments.values() if isinstance(value, NestedHost)).restart()
    pyfuncitem.obj(**arguments)
    return True


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _deaths:
        terminalreporter.section("emulated hosts that died, and were started anew")
        for death in _deaths:
            terminalreporter.write_line(death)
