"""What objects show of themselves in a notebook: HTML that is small, stands alone and goes by the page's own colours,
light or dark. Guests choose many of the words in it, so all are escaped."""

from __future__ import annotations

from corral.printable import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

LONGEST = 4000  # characters of one text
_LINE = "border:1px solid rgba(128,128,128,.35);padding:.15em .6em;text-align:left"
_BOX = "margin:.3em 0;white-space:pre-wrap;max-height:24em;overflow:auto"


def escaped(text: object, keep: str = "") -> str:
    """Of any text, its end where it is longer than LONGEST; `keep` has characters that are no harm."""
    shown = printable(str(text)[-LONGEST:], keep)
    for special, name in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;"), ("'", "&#x27;")):
        shown = shown.replace(special, name)
    return shown


def table(rows: Iterable[Sequence[object]], head: Sequence[object] = (), caption: str = "") -> str:
    """`head`: none, and the first of each row is a heading."""
    lines = [f"<tr>{_cells(head, 'th')}</tr>"] if head else []
    for row in rows:
        cells = _cells(row, "td") if head else _cells(row[:1], "th") + _cells(row[1:], "td")
        lines.append(f"<tr>{cells}</tr>")
    above = f"<caption>{escaped(caption)}</caption>" if caption else ""
    return f'<table style="border-collapse:collapse">{above}{"".join(lines)}</table>'


def _cells(values: Sequence[object], kind: str) -> str:
    return "".join(f'<{kind} style="{_LINE}">{escaped(value)}</{kind}>' for value in values)


def lines(text: str) -> str:
    """Text with its line breaks, in a box that scrolls."""
    return f'<pre style="{_BOX}">{escaped(text, keep=chr(10))}</pre>'


def picture(svg: str, height: int) -> str:
    """An SVG with scripts, which get nothing of the page that it is in. `height` in px."""
    text = svg.replace("&", "&amp;").replace('"', "&quot;")
    return f'<iframe sandbox="allow-scripts" style="width:100%;height:{height}px;border:0" srcdoc="{text}"></iframe>'
