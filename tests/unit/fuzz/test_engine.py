"""Corral's own engine over targets that are Python functions: mutations, coverage, corpus, findings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.errors import ConfigError
from corral.fuzz.corpus import FIRST, Corpus
from corral.fuzz.coverage import Coverage
from corral.fuzz.engine import FuzzEngine
from corral.fuzz.findings import CRASH, MOST, Findings, FuzzFinding, is_one
from corral.fuzz.mutate import Mutator
from corral.fuzz.target import Execution

ROOM = 64


@given(st.integers(1, 1 << 60), st.lists(st.binary(max_size=80), min_size=1, max_size=5), st.integers(1, 80))
def test_changes_fit_and_are_the_same_with_the_same_seed(seed: int, corpus: list[bytes], room: int) -> None:
    first, second = Mutator(seed, room), Mutator(seed, room)
    for _ in range(50):
        base = first.choose(corpus)
        assert base == second.choose(corpus)
        changed = first.changed(base, corpus)
        assert changed == second.changed(base, corpus)
        assert len(changed) <= room


def test_changes_differ_with_another_seed() -> None:
    one, two = Mutator(1, ROOM), Mutator(2, ROOM)
    assert [one.changed(b"hello", [b""]) for _ in range(9)] != [two.changed(b"hello", [b""]) for _ in range(9)]


def test_an_edge_is_news_once_for_each_step_of_its_count() -> None:
    coverage = Coverage()
    news = [count for count in range(256) if coverage.add(bytes([0, count]))]
    assert news == [1, 2, 3, 4, 8, 16, 32, 128]
    assert coverage.edges == 1
    assert coverage.add(b"\x01\x00")
    assert not coverage.add(b"\x01\x00")
    assert coverage.edges == 2


def test_a_map_that_is_known_costs_nothing_and_their_number_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("corral.fuzz.coverage._MOST", 4)
    coverage = Coverage()
    for count in range(100):
        coverage.add(bytes([count]))
        assert len(coverage._known) <= 4
    assert not any(coverage.add(bytes([count])) for count in range(100))


def run(
    folder: Path, target: Callable[[bytes], Execution], seed: int = 1, limit: int = 100_000
) -> tuple[FuzzEngine, list[str]]:
    (folder / "corpus").mkdir(exist_ok=True)
    (folder / "crashes").mkdir(exist_ok=True)
    told: list[str] = []
    corpus, findings = Corpus(str(folder / "corpus"), ROOM), Findings(str(folder / "crashes"))
    engine = FuzzEngine(
        corpus, findings, Mutator(seed, ROOM), "corral fuzz x --replay", lambda name, _: told.append(name), limit
    )
    data = engine.step(None)
    while data is not None:
        data = engine.step(None if told else target(data))
        if told:
            break
    return engine, told


def magic(data: bytes) -> Execution:
    """A bug behind three bytes that have to be right, of which each is an edge."""
    deep = next((at for at in range(3) if data[at : at + 1] != b"BUG"[at : at + 1]), 3)
    edges = bytes([1] * deep + [0] * (3 - deep))
    return Execution(data, edges, FuzzFinding(CRASH, "a bug", ("place",), "all of it") if deep == 3 else None)


def test_a_bug_behind_edges_is_found_and_kept_with_its_report(tmp_path: Path) -> None:
    engine, told = run(tmp_path, magic)
    (name,) = told
    assert (tmp_path / "crashes" / name).read_bytes().startswith(b"BUG")
    report = (tmp_path / "crashes" / f"{name}.txt").read_text()
    assert f"corral fuzz x --replay {tmp_path}/crashes/{name}" in report
    assert "  place\n" in report
    assert report.endswith("all of it")
    assert [name for name in (path.name for path in (tmp_path / "crashes").iterdir()) if is_one(name)] == told
    assert {data[:2] for data in engine.inputs} >= {b"BU"}


def test_a_session_is_the_same_with_the_same_seed_and_corpus(tmp_path: Path) -> None:
    counts = []
    for name in "ab":
        (tmp_path / name).mkdir()
        engine, _ = run(tmp_path / name, magic, seed=7)
        counts.append((engine.executions, engine.inputs))
    assert counts[0] == counts[1]


def test_it_ends_after_so_many_executions(tmp_path: Path) -> None:
    engine, told = run(tmp_path, lambda data: Execution(data, b""), limit=100)
    assert (engine.executions, told) == (100, [])


def test_inputs_of_the_corpus_are_tried_first_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "one").write_bytes(b"1")
    (tmp_path / "corpus" / "two").write_bytes(b"2" * 2 * ROOM)
    seen: list[bytes] = []

    def target(data: bytes) -> Execution:
        seen.append(data)
        return Execution(data, b"")

    run(tmp_path, target, limit=5)
    assert seen[:2] == [b"1", b"2" * ROOM]


def test_an_empty_corpus_has_a_first_input(tmp_path: Path) -> None:
    assert Corpus(str(tmp_path), ROOM).first() == [FIRST]


def test_what_another_job_has_put_there_is_news_once(tmp_path: Path) -> None:
    corpus = Corpus(str(tmp_path), ROOM)
    assert corpus.news() == []
    corpus.add(b"mine")
    (tmp_path / "other").write_bytes(b"theirs")
    (tmp_path / ".unfinished").write_bytes(b"half")
    assert corpus.news() == [b"theirs"]
    assert corpus.news() == []


def test_a_corpus_that_is_no_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigError, match="Not a directory; name a folder"):
        Corpus(str(tmp_path / "file"), ROOM).first()


def test_findings_with_the_same_places_are_one(tmp_path: Path) -> None:
    findings = Findings(str(tmp_path))
    one = FuzzFinding(CRASH, "SIGSEGV at f+0x1, address 0x10", ("f+0x1", "g+0x2", "h", "main"), "")
    other = FuzzFinding(CRASH, "SIGSEGV at f+0x1, address 0x20", ("f+0x1", "g+0x2", "h", "start"), "")
    assert findings.add(b"1", one, "x")
    assert not findings.add(b"2", other, "x")
    assert findings.names == {one.name: 2}
    assert Findings(str(tmp_path)).add(b"3", one, "x") is False  # an earlier session's
    assert (tmp_path / one.name).read_bytes() == b"1"


def test_a_target_cannot_fill_the_disk_with_findings(tmp_path: Path) -> None:
    findings = Findings(str(tmp_path))
    for number in range(MOST + 5):
        findings.add(b"", FuzzFinding(CRASH, "", (f"{number}",), ""), "x")
    assert len(findings.names) == MOST
    assert findings.untold == 5
    assert len(list(tmp_path.iterdir())) == 2 * MOST


def test_a_report_of_a_hostile_target_is_printable(tmp_path: Path) -> None:
    findings = Findings(str(tmp_path))
    finding = FuzzFinding(CRASH, "\x1b[2J", ("\x07",), "")
    findings.add(b"", finding, "x")
    assert "\x1b" not in (tmp_path / f"{finding.name}.txt").read_text()
