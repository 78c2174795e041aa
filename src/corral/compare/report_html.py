"""The report as one HTML file: no script, no font, no picture from anywhere else, light and dark."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from typing import Any

from corral.compare import claims, names, suite
from corral.compare.analysis import ResultRow, ResultTable, verdict
from corral.compare.numbers import number
from corral.compare.plots import PlotLine, Stage, bars, dots, stages
from corral.compare.samples import Results, more_is_better
from corral.compare.table import missing, summed

STYLE = """\
:root { color-scheme: light dark; --page: #fcfcfa; --ink: #1d1d1b; --faint: #6b6b66; --line: #dcdcd6;
  --dot: #2a6fb0; --band: #2a6fb033; --note: #fff4d6; --edge: #d9a520; --shade: #0003; }
@media (prefers-color-scheme: dark) { :root { --page: #17181a; --ink: #e8e8e4; --faint: #a0a09a; --line: #383a3e;
  --dot: #7fb5ea; --band: #7fb5ea33; --note: #3a3012; --edge: #c9971c; --shade: #fff3; } }
body { background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; margin: 0 auto;
  padding: 1.5rem; max-width: 60rem; overflow-wrap: break-word; }
h1, h2, h3 { line-height: 1.2; } h2 { margin-top: 2.5rem; } h3 { font-size: 1rem; margin: 1.5rem 0 .25rem; }
nav ul { padding: 0; display: flex; flex-wrap: wrap; gap: 0 1.25rem; list-style: none; } a { color: var(--dot); }
.scroll { overflow-x: auto; background:
  linear-gradient(to right, var(--page) 30%, transparent) left / 3rem 100% no-repeat local,
  linear-gradient(to left, var(--page) 30%, transparent) right / 3rem 100% no-repeat local,
  linear-gradient(to right, var(--shade), transparent) left / .75rem 100% no-repeat scroll,
  linear-gradient(to left, var(--shade), transparent) right / .75rem 100% no-repeat scroll; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { padding: .2rem .8rem .2rem 0; text-align: right; border-bottom: 1px solid var(--line);
  white-space: nowrap; }
th:first-child, td:first-child, td.text { text-align: left; } th { color: var(--faint); font-weight: normal; }
td.text { vertical-align: top; white-space: normal; overflow-wrap: anywhere; }
td.text:first-child { min-width: 9rem; }
.note { background: var(--note); border-left: 4px solid var(--edge); padding: .5rem 1rem; margin: .5rem 0; }
.faint { color: var(--faint); } code { font-size: .85em; white-space: nowrap; }
svg { width: 100%; max-width: 720px; height: auto; display: block; font-size: 12px; }
svg text { fill: var(--ink); } svg .tick { fill: var(--faint); } svg .grid { stroke: var(--line); }
svg .dot { fill: var(--dot); fill-opacity: .55; } svg .ci { fill: var(--band); }
svg .bar { fill: var(--dot); fill-opacity: .75; } .answers { font-size: 1.1rem; padding-left: 1.2rem; }
svg .median { stroke: var(--ink); stroke-width: 2; } svg .stage { fill: var(--dot); }
.narrow { display: none; }
@media (max-width: 44rem) {
  body { padding: 1rem; } .wide { display: none; } .narrow { display: block; } .narrow svg { max-width: 480px; }
  .cards, .cards tbody, .cards tr, .cards td { display: block; } .cards .head { display: none; }
  .cards tr { border-bottom: 1px solid var(--line); padding: .4rem 0; }
  .cards td { border: 0; padding: 0; display: flex; justify-content: space-between; gap: 1rem; }
  .cards td:empty { display: none; } .cards td:first-child { font-weight: 600; }
  .cards td:not(:first-child)::before { content: attr(data-label); color: var(--faint); } }
"""


def render(results: Results, found: Sequence[ResultTable]) -> str:
    """The whole page. What guests and other programs said is escaped."""
    measures = {table.measure: names.of_measure(table.measure, suite.titles()) for table in found}
    body = ["<h1>What virtualization costs on this machine</h1>", _summary(results), _answers(results, found)]
    body += [f'<p class="note">{escape(warning)}</p>' for warning in (*missing(results), *results.warnings)]
    body.append(_contents(measures, results))
    for measure, title in measures.items():
        body.append(f'<h2 id="{escape(measure, quote=True)}">{escape(title)} {_on_the_command_line(measure)}</h2>')
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


def _answers(results: Results, found: Sequence[ResultTable]) -> str:
    """What people come for, before all that it rests on."""
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in claims.sentences(results, found))
    starts = claims.find(found, "start", "first-line")
    chart = ""
    if starts:
        title = f"Start to the first line of a program, median ({starts.unit}; less is better)"
        lines, unit = _plot_lines(starts, results), starts.unit
        chart = f"<h3>{escape(title)}</h3>{_plot(lambda narrow: bars(lines, unit, title, narrow))}"
    return f'<ul class="answers">{items}</ul>{chart}' if items or chart else ""


def _plot_lines(table: ResultTable, results: Results) -> list[PlotLine]:
    return [
        PlotLine(results.contenders[row.contender], row.values, row.summary.median, row.summary.low, row.summary.high)
        for row in table.rows
    ]


def _contents(measures: dict[str, str], results: Results) -> str:
    sections = dict(measures)
    sections |= {"ledger": "Where the time of a start goes"} if results.ledger else {}
    sections |= {"not-measured": "Not measured", "machine": "The machine", "method": "How it was measured"}
    links = (f'<li><a href="#{escape(name, quote=True)}">{escape(title)}</a></li>' for name, title in sections.items())
    return f'<nav aria-label="contents"><ul>{"".join(links)}</ul></nav>'


def _on_the_command_line(measure: str) -> str:
    return f'<code class="faint">--only {escape(measure)}</code>'


def _plot(draw: Callable[[bool], str]) -> str:
    """For a wide page and for a narrow one; the style shows the one that fits."""
    return f'<div class="wide">{draw(False)}</div><div class="narrow">{draw(True)}</div>'


def _section(table: ResultTable, results: Results) -> str:
    better = "more" if more_is_better(table.unit) else "less"
    lines = _plot_lines(table, results)
    reference = results.contenders[table.reference]
    head = ["", f"median, {table.unit}", "95 % of it", "MAD", "IQR", "samples", f"times {reference}", "95 % of these"]
    rows = "".join(_row(row, results.contenders[row.contender], head) for row in table.rows)
    title = names.of_metric(table.metric)
    return (
        f'<h3>{escape(title)} <span class="faint">({escape(table.unit)}; {better} is better)</span></h3>'
        f"{_plot(lambda narrow: dots(lines, table.unit, title, narrow))}{_cards(head, rows)}{_pairs(table, results)}"
    )


def _pairs(table: ResultTable, results: Results) -> str:
    """Everybody against everybody, folded away; "" where the table has it already."""
    everybody = [row.contender for row in table.rows]
    if len(everybody) < 3:
        return ""
    head = ["times as much as", *(results.contenders[name] for name in everybody)]
    rows = []
    for one in everybody:
        verdicts = [verdict(table.pairs.get((one, other))) for other in everybody]
        rows.append(_labelled([results.contenders[one], *verdicts], head))
    return f'<details><summary class="faint">pair by pair</summary>{_cards(head, "".join(rows))}</details>'


def _cards(head: Sequence[str], rows: str) -> str:
    """A table; on a narrow page its rows are cards, in which each cell has its column's name before it."""
    table = f'<table class="cards"><tr class="head">{_cells("th", head)}</tr>{rows}</table>'
    return f'<div class="scroll" tabindex="0">{table}</div>'


def _labelled(texts: Sequence[str], head: Sequence[str]) -> str:
    cells = (
        f'<td data-label="{escape(name, quote=True)}">{escape(text)}</td>'
        for name, text in zip(head, texts, strict=True)
    )
    return f"<tr>{''.join(cells)}</tr>"


def _row(row: ResultRow, title: str, head: Sequence[str]) -> str:
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
    return _labelled(cells, head)


def _ledger(title: str, rows: Sequence[dict[str, Any]]) -> str:
    found = [Stage(str(row["stage"]), float(row["begin"]), float(row["end"])) for row in rows]
    return f"<h3>{escape(title)}</h3>{_plot(lambda narrow: stages(found, f'start of {title}', narrow))}"


def _absences(results: Results) -> str:
    rows = [
        f"<tr>{_texts([results.contenders.get(contender, contender), _measure_title(measure), reason])}</tr>"
        for contender, measure, reason in summed(results)
    ]
    content = f"<table>{''.join(rows)}</table>" if rows else "<p>Nothing: everybody did everything.</p>"
    return f'<h2 id="not-measured">Not measured</h2>{content}'


def _measure_title(measure: str) -> str:
    return names.of_measure(measure, suite.titles()) if measure else "everything"


def _manifest(manifest: dict[str, Any]) -> str:
    rows = []
    for key, value in manifest.items():
        if isinstance(value, dict):
            rows += [f"<tr>{_texts([f'{key}: {name}', str(one)])}</tr>" for name, one in value.items()]
        else:
            rows.append(f"<tr>{_texts([key, _fact_text(key, value)])}</tr>")
    return f'<h2 id="machine">The machine</h2><table>{"".join(rows)}</table>'


def _fact_text(key: str, value: object) -> str:
    """A fact of the manifest, in the form in which people say it."""
    if key in ("memory", "guest memory") and isinstance(value, int):
        return f"{value / (1 << 20):,.0f} MiB"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return number(value, True) if isinstance(value, float) else str(value)


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
