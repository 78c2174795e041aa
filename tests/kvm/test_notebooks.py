"""The notebooks of the documentation do what they say, and show what they are kept with."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


def _module() -> ModuleType:
    """docs/site/notebooks.py, which is no package's."""
    spec = importlib.util.spec_from_file_location("notebooks", ROOT / "docs" / "site" / "notebooks.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


notebooks = _module()
pytestmark = pytest.mark.filterwarnings("ignore")  # of the notebooks' own machinery


@pytest.mark.parametrize("path", notebooks.every(), ids=lambda path: path.stem)
def test_a_notebook_runs_and_shows_what_it_is_kept_with(path: Path) -> None:
    kept = json.loads(path.read_text())
    shown = notebooks.run(path)
    for now, before in zip(shown["cells"], kept["cells"], strict=True):
        kinds = [sorted(output.get("data", {"text": 0})) for output in now.get("outputs", [])]
        assert kinds == [sorted(output.get("data", {"text": 0})) for output in before.get("outputs", [])], now["source"]


@pytest.mark.parametrize("path", notebooks.every(), ids=lambda path: path.stem)
def test_a_notebook_is_a_page_of_the_site(path: Path) -> None:
    page = notebooks.markdown(json.loads(path.read_text()))
    assert page.startswith("# ")
    assert '<div class="output"' in page
    relative = path.relative_to(ROOT / "docs").with_suffix(".md")
    assert str(relative) in (ROOT / "mkdocs.yml").read_text()
