from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from corral import oci
from tests.support import erofs_reader
from tests.support.container_images import Layout
from tests.support.erofs_reader import File


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/corral"


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "layout")


Built = Callable[..., dict[str, File]]


@pytest.fixture
def built(layout: Layout) -> Built:
    """What is in the file system of an image with these layers."""

    def build(*layers: bytes) -> dict[str, File]:
        layout.add(layout.image(layers))
        return erofs_reader.read(oci.prepare(f"oci:{layout.path}").root)

    return build
