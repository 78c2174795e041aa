"""Words that hide who does what are not in the documents and the source (docs/style.md)."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
HIDING = re.compile(r"\b(whoever|nobody|of that)\b", re.IGNORECASE)
FILES = [*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md"), *(ROOT / "src").rglob("*.py")]
# It quotes them; and a text that is in guests' images, which a change of it would have built anew.
EXCEPT = {ROOT / "docs" / "style.md", ROOT / "src" / "corral" / "guests" / "distribution_recipe.py"}


def test_documents_and_source_say_who_does_what() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in FILES
        if path not in EXCEPT
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if HIDING.search(line)
    ]
    assert found == []
