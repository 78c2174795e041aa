"""Every Python block of README.md and docs/ runs as it stands; with ten times the time, for others are at work here."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def examples() -> list[tuple[str, int, str]]:
    found = []
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        name = str(path.relative_to(ROOT))
        found += [(name, number, text) for number, text in enumerate(BLOCK.findall(path.read_text()))]
    return found


def test_there_are_examples_of_each_kind() -> None:
    names = {name for name, _, _ in examples()}
    assert {"README.md", "docs/numa.md", "docs/research/trace.md", "docs/research/python.md"} <= names


@pytest.mark.parametrize(
    ("name", "text"), [pytest.param(name, text, id=f"{name}:{number}") for name, number, text in examples()]
)
def test_an_example(name: str, text: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    patient = re.sub(r"timeout=(\d+)", r"timeout=\g<1>0", text)
    exec(compile(patient, name, "exec"), {})


def test_code_that_is_shown_by_name_is_in_the_kernel() -> None:
    """The places of corral disasm's examples."""
    from corral.cli import disasm
    from corral.guests import kernel
    from corral.symbols.table import of_kernel

    text = (ROOT / "docs" / "research" / "disasm.md").read_text() + disasm.COMMAND.epilog
    places = re.findall(r"corral disasm (?:small )?([a-z_]+)(?= )", text)
    assert len(places) >= 5
    symbols = of_kernel(kernel.get("small").path)
    assert symbols is not None
    for place in places:
        assert symbols.address(place)
