"""What the command line may say of CPUs, nodes and places."""

from __future__ import annotations

import pytest

from corral.config import parse_size
from corral.errors import ConfigError
from corral.numa.request import MapNode, Shape, parse_cpus, parse_numa, parse_pages, parse_pin


def test_cpus() -> None:
    assert parse_cpus("8") == (8, None)
    assert parse_cpus("sockets=2,cores=3,threads=2") == (12, Shape(2, 3, 2))
    assert parse_cpus("threads=2") == (2, Shape(1, 1, 2))


def test_numa() -> None:
    assert parse_numa("spread", parse_size) == {"policy": "spread"}
    assert parse_numa("nodes=2", parse_size) == {"policy": "compact", "nodes": 2}
    nodes = (MapNode((0, 1, 2, 3), 0, 2 << 30), MapNode((4, 6), 1), MapNode((), 2, 0))
    assert parse_numa("0-3@0:2G/4,6@1/@2:0", parse_size) == {"policy": "map", "map": nodes}


def test_pin() -> None:
    assert parse_pin("none") == {"pin": "none"}
    assert parse_pin("0-2,8") == {"pin_cpus": (0, 1, 2, 8)}
    assert parse_pin("0=3,1=8-9,11") == {"pin_map": ((0, (3,)), (1, (8, 9, 11)))}


@pytest.mark.parametrize(
    ("parse", "text", "message"),
    [
        (parse_cpus, "sockets=2,dies=2", "'dies' is none of"),
        (parse_cpus, "cores=0", "must be 1 or more"),
        (parse_cpus, "cores=x", "whole number"),
        (parse_numa, "mostly", "is none of auto"),
        (parse_numa, "nodes=0", "1 to 64"),
        (parse_numa, "nodes=two", "whole number"),
        (parse_numa, "0-3@0/4-7", "names no node"),
        (parse_numa, "0-@0", "is no number or range"),
        (parse_numa, "0@0:lots", "is not a size"),
        (parse_pin, "", "wants auto"),
        (parse_pin, "0-x", "is no number or range"),
        (parse_pin, "5,0=1", "belongs to no vCPU"),
        (parse_pin, "0=1,0=2", "vCPU 0 is there twice"),
        (parse_pin, "0=", "has no CPU"),
        (parse_pages, "4K", "none of 2M, 1G, thp"),
    ],
)
def test_what_is_refused(parse: object, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(text, parse_size) if parse is parse_numa else parse(text)  # type: ignore[operator]
