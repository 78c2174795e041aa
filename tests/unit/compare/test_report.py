"""What is written: JSON, CSV, the page, the terminal's table; and what a file that is read may be."""

from __future__ import annotations

import csv
import math
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral.compare import files, manifest, names, plots, programs, report_html, suite, table
from corral.compare.analysis import tables
from corral.compare.numbers import number
from corral.compare.samples import Absence, Results, Sample
from corral.errors import BootError, ConfigError

EVIL = "</svg><script>alert(1)</script>"
VOID = {"meta", "br", "img", "link"}


def results(rounds: int = 8) -> Results:
    values = {"native": 1.0, "runc": 30.0, "corral": 45.0}
    samples = [
        Sample(name, "start", metric, value * (1 + 0.01 * ((index * 7) % 5)), unit, index, float(index))
        for index in range(rounds)
        for name, value in values.items()
        for metric, unit in (("first-line", "ms"), ("speed", "op/s"))
    ]
    stage = {"stage": f"interpreter {EVIL}", "begin": 0.0, "end": 10.0}
    return Results(
        contenders={
            "native": "native process",
            "runc": "container (runc)",
            "corral": "VM",
            "qemu-q35": "VM (QEMU q35)",
        },
        samples=samples,
        absences=[Absence("qemu-q35", "", f"it said {EVIL}")],
        manifest={"cpu": EVIL, "KVM": "hardware", "versions": {"runc": "1.1"}},
        ledger={"corral": [stage, {"stage": "init", "begin": 10.0, "end": 6000.0}]},
        warnings=["take care"],
    )


class Page(HTMLParser):
    """Whether tags match, which there are, and what of elsewhere is named."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.count: dict[str, int] = {}
        self.elsewhere: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.count[tag] = self.count.get(tag, 0) + 1
        self.elsewhere += [value or "" for key, value in attrs if key in ("src", "href") and (value or "")[:1] != "#"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.count[tag] = self.count.get(tag, 0) + 1

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def page(text: str) -> Page:
    parser = Page()
    parser.feed(text)
    parser.close()
    assert parser.open == []
    return parser


def test_the_page_is_whole_self_contained_and_safe() -> None:
    text = report_html.render(results(), tables(results()))
    found = page(text)
    assert found.elsewhere == []
    assert "script" not in found.count
    assert "http:" not in text
    assert "https:" not in text
    assert found.count["svg"] == 2 * (1 + 2 + 1)  # for wide pages and for narrow ones
    assert found.count["circle"] == 2 * len(results().samples)
    assert "prefers-color-scheme: dark" in text
    for svg in text.split("<svg")[1:]:
        ElementTree.fromstring("<svg" + svg.partition("</svg>")[0] + "</svg>")
    assert text.count('<div class="wide"><svg') == text.count('<div class="narrow"><svg') == 4
    for word in ("take care", "VM (QEMU q35)", "45.0 x", "runc", "it said", "pair by pair"):
        assert word in text, word


def test_a_page_of_nothing_is_a_page() -> None:
    page(report_html.render(Results({}), []))


def test_the_table() -> None:
    text = table.text(results(), tables(results()))
    assert "start first-line (ms; 8 rounds; x is to native)" in text
    assert "not measured\n  VM (QEMU q35): it said" in text
    assert "note: take care" in text
    assert "too few rounds" in table.text(results(rounds=3), tables(results(rounds=3)))


def test_ratios_are_by_round_and_a_missing_round_is_left_out() -> None:
    found = results()
    found.samples = [one for one in found.samples if one.contender != "runc" or one.round != 3]
    first = tables(found)[0]
    ratio = first.pairs["runc", "native"]
    assert (ratio.pairs, round(ratio.ratio, 6), ratio.differs) == (7, 30.0, True)
    assert round(first.pairs["native", "runc"].ratio, 6) == round(1 / 30, 6)


def test_files_come_back_as_they_went(tmp_path: Path) -> None:
    path = tmp_path / "a" / "samples.json"
    files.write_json(results(), path)
    assert files.read_json(path) == results()
    files.write_csv(results(), path.with_suffix(".csv"))
    with path.with_suffix(".csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(results().samples)
    assert rows[0]["contender"] == "native"
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["samples.csv", "samples.json"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "no JSON"),
        ("[]", "no results of corral compare"),
        ('{"format": "other"}', "no results"),
        ('{"format": "corral-compare-1"}', "not whole"),
        ('{"format": "corral-compare-1", "samples": [{}], "absences": [], "contenders": {}}', "not whole"),
        ('{"format": "corral-compare-1", "samples": 7, "absences": [], "contenders": {}}', "not whole"),
        ("[" * 100_000, "no JSON"),
    ],
)
def test_files_that_are_none(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "samples.json"
    path.write_text(content)
    with pytest.raises(BootError, match=message):
        files.read_json(path)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="--out: cannot write"):
        files.write_csv(results(), tmp_path / "file" / "samples.csv")


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.floats(1e-6, 1e9), min_size=1, max_size=8),
    st.lists(st.text("abc (W", min_size=1, max_size=80), min_size=1, max_size=4),
    st.booleans(),
)
def test_plots_stay_within_their_frame(values: list[float], names: list[str], narrow: bool) -> None:
    """Dots, and every text too: an axis's last number, a long name."""
    middle = sorted(values)[len(values) // 2]
    lines = [plots.PlotLine(name, tuple(values), middle, min(values), max(values)) for name in names]
    root = ElementTree.fromstring(plots.dots(lines, "ms", EVIL, narrow))
    width = float(root.attrib["viewBox"].split()[2])
    found = [float(circle.attrib["cx"]) for circle in root.iter("circle")]
    assert len(found) == len(values) * len(names)
    assert all(3 <= x <= width - 3 for x in found)
    for text in root.iter("text"):
        at, long = float(text.attrib["x"]), len(text.text or "") * plots.LETTER
        before = {"middle": long / 2, "end": long}.get(text.attrib.get("text-anchor", "start"), 0)
        assert at - before >= 0
        assert narrow or at - before + long <= width  # a narrow one's names have a line for themselves
        if text.attrib["class"] == "tick":
            assert at - before + long <= width


@given(st.lists(st.floats(0.001, 1e6), min_size=1, max_size=6), st.booleans())
def test_bars_and_what_is_written_beside_them_stay_within_their_frame(medians: list[float], narrow: bool) -> None:
    lines = [plots.PlotLine(f"VM {n}", (value,), value, value * 0.9, value * 1.1) for n, value in enumerate(medians)]
    root = ElementTree.fromstring(plots.bars(lines, "ms", "t", narrow))
    width = float(root.attrib["viewBox"].split()[2])
    assert all(float(bar.attrib["x"]) + float(bar.attrib["width"]) <= width for bar in root.iter("rect"))
    for text in root.iter("text"):
        if text.attrib["class"] == "value" and text.attrib["text-anchor"] == "start":
            assert float(text.attrib["x"]) + len(text.text or "") * plots.LETTER <= width


def test_the_last_number_of_an_axis_is_not_cut() -> None:
    text = plots.dots([plots.PlotLine("VM", (96_000.0,), 96_000.0, 95_000.0, 99_000.0)], "ns", "t")
    (tick,) = [one for one in ElementTree.fromstring(text).iter("text") if one.text == "100,000"]
    assert float(tick.attrib["x"]) + len("100,000") * plots.LETTER / 2 <= plots.WIDE_PAGE


@given(st.floats(0, 1e7), st.lists(st.floats(0.001, 1e6), min_size=1, max_size=6))
def test_stages_stay_within_their_frame(first: float, more: list[float]) -> None:
    ends = [first + sum(more[: n + 1]) for n in range(len(more))]
    found = [
        plots.Stage(f"stage {n}", begin, end) for n, (begin, end) in enumerate(zip([first, *ends], ends, strict=False))
    ]
    for narrow in (False, True):
        root = ElementTree.fromstring(plots.stages(found, "t", narrow))
        width = float(root.attrib["viewBox"].split()[2])
        assert all(float(bar.attrib["x"]) + float(bar.attrib["width"]) <= width for bar in root.iter("rect"))


def test_who_is_missing_is_told_at_the_top() -> None:
    lost = results()
    lost.absences.append(Absence("corral", "", "it said nothing that was expected for 60 s"))
    sentence = "VM is not in here: it said nothing that was expected for 60 s"
    lines = table.text(lost, tables(lost)).splitlines()
    assert f"note: {sentence}" in lines[: lines.index("start first-line (ms; 8 rounds; x is to native)")]
    text = report_html.render(lost, tables(lost))
    assert text.index(sentence) < text.index("<nav")
    assert "is not in here" not in report_html.render(Results({}), [])


def test_headings_are_words() -> None:
    text = report_html.render(results(), tables(results()))
    assert ">Start to first line, warm " in text
    assert "<h3>To the first line <" in text
    assert "<h2>start" not in text
    for measure in suite.everything():
        title = names.of_measure(measure.name, suite.titles())
        assert title != measure.name
        assert " " in title
    assert names.of_metric("read-4K-p99") == "Read 4K, 99 in 100"
    assert names.of_measure("of-another-corral", {}) == "Of another corral"


def test_every_workload_has_a_title() -> None:
    assert set(programs.names()) - set(suite.OTHERS_HAVE) <= set(names.WORKLOADS)


def test_figures_of_the_machine_are_rounded() -> None:
    found = results()
    found.manifest |= {"load before": 10.00390625, "in a VM": True, "memory": 1 << 30}
    text = report_html.render(found, tables(found))
    assert "10.00390625" not in text
    for words in ('load before</td><td class="text">10</td>', 'in a VM</td><td class="text">yes</td>', "1,024 MiB"):
        assert words in text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0.000"), (0.1234, "0.123"), (45.49, "45.5"), (6408.2, "6,408"), (1e-7, "1e-07"), (3e12, "3e+12")],
)
def test_numbers(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("facts", "word"),
    [
        ({"KVM": "pagetable"}, "pagetable"),
        ({"cpu": "QEMU TCG CPU version 2.5+"}, "emulated in software"),
        ({"in a VM": True}, "virtual machine itself"),
        ({"load before": 3.0, "cpus": 2}, "kept this machine busy"),
        ({"CPUs that others kept busy": 1.5, "cpus": 2}, "during the run"),
        ({"governor": "powersave"}, "powersave"),
        ({"smt": "on"}, "SMT"),
        ({"rounds": 2}, "fewer than"),
    ],
)
def test_warnings_say_where_figures_must_not_be_generalised(facts: dict[str, object], word: str) -> None:
    assert manifest.warnings({"KVM": "hardware"}) == []
    (warning,) = manifest.warnings({"KVM": "hardware", **facts})
    assert word in warning


def test_the_manifest_of_this_host() -> None:
    facts = manifest.collect([], 5, [0], 128 << 20)
    assert facts["cpu"]
    assert facts["KVM"] in ("hardware", "pagetable", "none")
    assert math.isfinite(manifest.after(manifest.busy_seconds(), manifest.own_seconds(), 0)["seconds"])
