"""The lines of workloads, which come from guests."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.compare.metric_lines import MOST, parse, parse_all


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"integer 1234.5 Mop/s\n", ("integer", 1234.5, "Mop/s")),
        (b"read-p99 3e2 us\r\n", ("read-p99", 300.0, "us")),
        (b"hello 1 line\n", ("hello", 1.0, "line")),
        (b"[    0.5] Linux 6.1 booting\n", None),
        (b"integer 1234.5\n", None),
        (b"integer  1 s\n", None),
        (b"integer 1 s and more\n", None),
        (b"integer nan s\n", None),
        (b"integer 1e999 s\n", None),
        (b"integer 1.2.3 s\n", None),
        (b"<script> 1 s\n", None),
        (b"x" * 100 + b" 1 s\n", None),
        (b"", None),
    ],
)
def test_lines(line: bytes, expected: tuple[str, float, str] | None) -> None:
    assert parse(line) == expected


@given(st.binary(max_size=80))
def test_whatever_a_guest_says_is_a_plain_metric_or_none(line: bytes) -> None:
    found = parse(line)
    assert found is None or not set("<>&\"' \n") & set(found[0] + found[2])


def test_the_last_of_a_metric_counts_and_there_are_not_endlessly_many() -> None:
    assert parse_all([b"a 1 s\n", b"b 2 s\n", b"a 3 s\n"]) == {"a": (3.0, "s"), "b": (2.0, "s")}
    assert len(parse_all([b"m%d 1 s\n" % number for number in range(2 * MOST)])) == MOST
