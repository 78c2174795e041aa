"""For all unit tests: they take seconds, so nothing that takes minutes is made for them."""

from __future__ import annotations

import pytest

from corral.guests import kernel


@pytest.fixture(autouse=True)
def no_kernel_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str, *others: object) -> None:
        pytest.fail(f"a unit test builds the kernel {name}")

    monkeypatch.setattr(kernel, "_build", refuse)
