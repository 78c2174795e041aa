"""docs/README.md and the site list every page."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
INDEX = "README.md"


def test_every_page_is_in_the_index_and_in_the_site() -> None:
    docs = ROOT / "docs"
    pages = {str(path.relative_to(docs)) for path in docs.rglob("*.md")} - {INDEX}
    listed = set(re.findall(r"\]\(([\w/.-]+\.md)\)", (docs / INDEX).read_text()))
    assert listed == pages
    nav = (ROOT / "mkdocs.yml").read_text().partition("\nnav:")[2]
    assert pages <= set(re.findall(r": ([\w/.-]+\.md)$", nav, re.MULTILINE))
