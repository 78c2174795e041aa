"""The report as one HTML file: no script, no font, no picture from anywhere else, light and dark."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from corral.compare.analysis import Row, Table, verdict
from corral.compare.numbers import number
from corral.compare.plots import Line, Stage, dots, stages
from corral.compare.samples import Results, more_is_better
from corral.compare.table import summed

STYLE = """\
:root { color-scheme: light dark; --page: #fcfcfa; --ink: #1d1d1b; --faint: #6b6b66; --line: #dcdcd6;
  --dot: #2a6fb0; --band: #2a6fb033; --note: #fff4d6; --edge: #d9a520; }
@media (prefers-color-scheme: dark) { :root { --page: #17181a; --ink: #e8e8e4; --faint: #a0a09a; --line: #383a3e;
  --dot: #7fb5ea; --band: #7fb5ea33; --note: #3a3012; --edge: #c9971c; } }
body { background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; margin: 0 auto;
  padding: 1.5rem; max-width: 60rem; }
h1, h2, h3 { line-height: 1.2; } h2 { margin-top: 2.5rem; } h3 { font-size: 1rem; margin: 1.5rem 0 .25rem; }
nav a { margin-right: 1rem; } a { color: var(--dot); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { padding: .2rem .8rem .2rem 0; text-align: right; border-bottom: 1px solid var(--line);
  white-space: nowrap; }
th:first-child, td:first-child, td.text { text-align: left; } th { color: var(--faint); font-weight: normal; }
td.text { vertical-align: top; } td.text:last-child { overflow-wrap: anywhere; white-space: normal; }
.note { background: var(--note); border-left: 4px solid var(--edge); padding: .5rem 1rem; margin: .5rem 0; }
.faint { color: var(--faint); }
svg { width: 100%; max-width: 720px; min-width: 480px; height: auto; display: block; font-size: 12px; }
svg text { fill: var(--ink); } svg .tick { fill: var(--faint); } svg .grid { stroke: var(--line); }
svg .dot { fill: var(--dot); fill-opacity: .55; } svg .ci { fill: var(--band); }
svg .median { stroke: var(--ink); stroke-width: 2; } svg .stage { fill: var(--dot); }
"""


def render(results: Results, found: Sequence[Table]) -> str:
    """The whole page. What guests and other programs said is escaped."""
    measures = list(dict.fromkeys(table.measure for table in found))
    body = ["<h1>What virtualization costs on this machine</h1>", _summary(results)]
    body += [f'<p class="note">{escape(warning)}</p>' for warning in results.warnings]
    body.append(_contents(measures, results))
    for measure in measures:
        body.append(f'<h2 id="{escape(measure, quote=True)}">{escape(measure)}</h2>')
        body += [_section(table, results) for table in found if table.measure == measure]
    if results.ledger:
        body.append('<h2 id="ledger">Where the time of a start goes</h2>')
        body += [_ledger(results.contenders.get(name, name), rows) for name, rows in results.ledger.items()]
    body.append(_absences(results))
    body.append(_manifest(results.manifest))
    body.append(_method())
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>corral compare</title><style>{STYLE}</style></head>\n<body>\n" + "\n".join(body) + "\n</body></html>\n"
    )


def _summary(results: Results) -> str:
    manifest = results.manifest
    words = [str(manifest.get(key, "")) for key in ("cpu", "begun")]
    words.append(f"{manifest.get('KVM', 'no')} KVM")
    words.append(f"{len(results.samples)} samples")
    words += ["interrupted: this is what there was"] if results.interrupted else []
    return f'<p class="faint">{escape("; ".join(word for word in words if word))}</p>'


def _contents(measures: Sequence[str], results: Results) -> str:
    names = [*measures, *(["ledger"] if results.ledger else []), "not-measured", "machine", "method"]
    links = (f'<a href="#{escape(name, quote=True)}">{escape(name)}</a>' for name in names)
    return f"<nav>{' '.join(links)}</nav>"


def _section(table: Table, results: Results) -> str:
    better = "more" if more_is_better(table.unit) else "less"
    lines = [
        Line(results.contenders[row.contender], row.values, row.summary.median, row.summary.low, row.summary.high)
        for row in table.rows
    ]
    head = ["", f"median, {table.unit}", "95 % of it", "MAD", "IQR", "samples", f"x {table.reference}", "95 % of it"]
    rows = "".join(_row(row, results.contenders[row.contender]) for row in table.rows)
    return (
        f'<h3>{escape(table.metric)} <span class="faint">({escape(table.unit)}; {better} is better)</span></h3>'
        f'<div class="scroll">{dots(lines, table.unit, table.name)}</div>'
        f'<div class="scroll"><table><tr>{_cells("th", head)}</tr>{rows}</table></div>{_pairs(table, results)}'
    )


def _pairs(table: Table, results: Results) -> str:
    """Everybody against everybody, folded away; "" where the table has it already."""
    names = [row.contender for row in table.rows]
    if len(names) < 3:
        return ""
    rows = []
    for one in names:
        verdicts = [verdict(table.pairs.get((one, other))) for other in names]
        rows.append(f"<tr>{_cells('td', [results.contenders[one], *verdicts])}</tr>")
    head = _cells("th", ["times as much as", *(results.contenders[name] for name in names)])
    content = f'<div class="scroll"><table><tr>{head}</tr>{"".join(rows)}</table></div>'
    return f'<details><summary class="faint">pair by pair</summary>{content}</details>'


def _row(row: Row, title: str) -> str:
    summary, ratio = row.summary, row.ratio
    span = f"{number(ratio.low)} to {number(ratio.high)}" if ratio and ratio.differs else ""
    cells = [
        title,
        number(summary.median),
        f"{number(summary.low)} to {number(summary.high)}",
        number(summary.mad),
        number(summary.iqr),
        str(summary.count),
        row.verdict,
        span,
    ]
    return f"<tr>{_cells('td', cells)}</tr>"


def _ledger(title: str, rows: Sequence[dict[str, Any]]) -> str:
    found = [Stage(str(row["stage"]), float(row["begin"]), float(row["end"])) for row in rows]
    return f'<h3>{escape(title)}</h3><div class="scroll">{stages(found, f"start of {title}")}</div>'


def _absences(results: Results) -> str:
    rows = [
        f"<tr>{_texts([results.contenders.get(contender, contender), measure or 'all', reason])}</tr>"
        for contender, measure, reason in summed(results)
    ]
    content = f"<table>{''.join(rows)}</table>" if rows else "<p>Nothing: everybody did everything.</p>"
    return f'<h2 id="not-measured">Not measured</h2><div class="scroll">{content}</div>'


def _manifest(manifest: dict[str, Any]) -> str:
    rows = []
    for key, value in manifest.items():
        if isinstance(value, dict):
            rows += [f"<tr>{_texts([f'{key}: {name}', str(one)])}</tr>" for name, one in value.items()]
        else:
            shown = f"{value / (1 << 20):,.0f} MiB" if key in ("memory", "guest memory") else str(value)
            rows.append(f"<tr>{_texts([key, shown])}</tr>")
    return f'<h2 id="machine">The machine</h2><div class="scroll"><table>{"".join(rows)}</table></div>'


def _method() -> str:
    return (
        '<h2 id="method">How it was measured</h2><p>All contenders took turns, round by round, with the same binary. '
        "A dot is a sample, the line is the median, the band its 95 % confidence interval by bootstrap. A ratio is the "
        "median of the ratios within each round; where its interval includes 1, or a permutation test of the pairs "
        "gives p ≥ 0.05, it says that there is no difference. Of twenty rows without any difference one may still show "
        "one.</p>"
    )


def _cells(tag: str, texts: Sequence[str]) -> str:
    return "".join(f"<{tag}>{escape(text)}</{tag}>" for text in texts)


def _texts(texts: Sequence[str]) -> str:
    return "".join(f'<td class="text">{escape(text)}</td>' for text in texts)
