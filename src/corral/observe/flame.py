"""Flame graphs: stacks and their weights as a picture, each function as wide as what was met in it and below it.

An SVG file that stands alone: it zooms by a click, tells names and shares, and follows the reader's light or dark mode.
Or folded stacks, a line each, as flamegraph.pl and speedscope.app read them.
"""

from __future__ import annotations

from html import escape

from corral.printable import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

WIDTH, HEIGHT = 1200, 17  # of the picture and of a row, px
NARROWEST = 0.3  # px; what is narrower is left out
_LETTER = 7.0  # px, about


def folded(stacks: Mapping[tuple[str, ...], int]) -> str:
    """`outer;inner 12`, a line a stack."""
    return "".join(
        f"{';'.join(name.replace(';', ':') for name in stack)} {stacks[stack]}\n" for stack in sorted(stacks)
    )


class _Node:
    def __init__(self) -> None:
        self.weight = 0
        self.inner: dict[str, _Node] = {}


def svg(stacks: Mapping[tuple[str, ...], int], title: str, unit: str = "samples") -> str:
    """The picture, the outermost function at the bottom."""
    root = _Node()
    for stack, weight in stacks.items():
        root.weight += weight
        node = root
        for name in stack:
            node = node.inner.setdefault(printable(name), _Node())
            node.weight += weight
    depth = max(map(len, stacks), default=0) + 1
    boxes = _boxes("all", root, 0.0, 0, depth, WIDTH / (root.weight or 1), root.weight or 1, unit)
    return _PAGE.format(
        width=WIDTH, height=depth * HEIGHT + 40, title=escape(title), top=WIDTH, boxes="".join(boxes), row=HEIGHT
    )


def _boxes(name: str, node: _Node, x: float, level: int, depth: int, scale: float, whole: int, unit: str) -> list[str]:
    width = node.weight * scale
    if width < NARROWEST:
        return []
    y = (depth - 1 - level) * HEIGHT + 30
    # A name has its colour wherever it stands.
    hue = sum(name.encode()) * 37 % 60
    label = name if len(name) * _LETTER < width else name[: max(0, int(width / _LETTER) - 1)] + "." * (width > 20)
    text = f"{name}: {node.weight} {unit}, {100 * node.weight / whole:.1f} %"
    boxes = [
        f'<g class="box" data-x="{x:.2f}" data-w="{width:.2f}" data-l="{level}" data-n="{escape(name)}">'
        f"<title>{escape(text)}</title>"
        f'<rect x="{x:.2f}" y="{y}" width="{width:.2f}" height="{HEIGHT - 1}" fill="hsl({hue} 75% var(--l))"/>'
        f'<text x="{x + 3:.2f}" y="{y + HEIGHT - 5}">{escape(label)}</text></g>\n'
    ]
    for inner, child in sorted(node.inner.items()):
        boxes += _boxes(inner, child, x, level + 1, depth, scale, whole, unit)
        x += child.weight * scale
    return boxes


_PAGE = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="100%"
 font-family="monospace" font-size="11">
<style>
svg {{ --l: 68%; --ink: #222; --paper: #fff; background: var(--paper) }}
@media (prefers-color-scheme: dark) {{ svg {{ --l: 34%; --ink: #ddd; --paper: #16181c }} }}
text {{ fill: var(--ink); pointer-events: none }}
.box {{ cursor: pointer }}
.box:hover rect {{ stroke: var(--ink) }}
</style>
<text x="3" y="16" font-size="13">{title} (click: zoom; click the bottom: back)</text>
{boxes}<script><![CDATA[
const all = [...document.querySelectorAll(".box")];
for (const box of all) box.addEventListener("click", () => {{
  const x0 = +box.dataset.x, w0 = +box.dataset.w, level = +box.dataset.l, scale = {top} / w0;
  for (const other of all) {{
    const x = +other.dataset.x, w = +other.dataset.w, l = +other.dataset.l;
    const around = x <= x0 + 0.01 && x + w >= x0 + w0 - 0.01 && l < level;
    const inside = x >= x0 - 0.01 && x + w <= x0 + w0 + 0.01 && l >= level;
    other.style.display = around || inside ? "" : "none";
    const left = around ? 0 : (x - x0) * scale, width = around ? {top} : w * scale;
    const rect = other.querySelector("rect"), text = other.querySelector("text");
    rect.setAttribute("x", left); rect.setAttribute("width", Math.max(width, 0.1)); text.setAttribute("x", left + 3);
    const name = other.dataset.n, room = Math.floor(width / 7);
    text.textContent = name.length < room ? name : name.slice(0, Math.max(0, room - 1));
  }}
}});
]]></script>
</svg>
"""
