"""The notebooks of the documentation: run, and made pages of.

    python docs/site/notebooks.py [FILE.ipynb...]      runs them and keeps what they show, in place

They are kept with what they showed when they were run last; tests/kvm/test_notebooks.py runs them anew.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parents[1]
PATIENCE = 120  # seconds for a cell


def every() -> list[Path]:
    return sorted(path for folder in ("tutorials", "studies") for path in (DOCS / folder).glob("*.ipynb"))


def run(path: Path) -> dict[str, Any]:
    """The notebook with what it shows now. Raises nbclient's CellExecutionError for a cell that fails."""
    import nbclient
    import nbformat
    from jupyter_client.manager import KernelManager

    notebook = nbformat.read(path, as_version=4)
    kernel = KernelManager(kernel_name="python3", transport="ipc")  # no port that others could connect to
    nbclient.NotebookClient(notebook, km=kernel, timeout=PATIENCE, record_timing=False).execute()
    plain: dict[str, Any] = json.loads(nbformat.writes(notebook))
    return plain


def markdown(notebook: dict[str, Any]) -> str:
    """A page: texts, code, and what it showed."""
    parts = []
    for cell in notebook["cells"]:
        text = _text(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(text)
        elif text.strip():
            parts.append(f"```python\n{text}\n```")
            parts += [_output(output) for output in cell["outputs"]]
    return "\n\n".join(part for part in parts if part) + "\n"


def _output(output: dict[str, Any]) -> str:
    if output["output_type"] == "stream":
        return f"```text\n{_text(output['text']).rstrip()}\n```"
    data = output.get("data", {})
    if "text/html" in data:
        # On one line, for Markdown ends HTML at a blank one.
        html = _text(data["text/html"]).replace("\n", "&#10;")
        return f'<div class="output" style="overflow-x:auto">{html}</div>'
    return f"```text\n{_text(data['text/plain'])}\n```" if "text/plain" in data else ""


def _text(source: str | list[str]) -> str:
    return source if isinstance(source, str) else "".join(source)


def main(words: list[str]) -> None:
    for path in [Path(word) for word in words] or every():
        shown = json.dumps(run(path), indent=1, ensure_ascii=False) + "\n"
        path.write_text(shown)
        print(f"{path}: {len(shown) >> 10} KiB")


if __name__ == "__main__":
    main(sys.argv[1:])
