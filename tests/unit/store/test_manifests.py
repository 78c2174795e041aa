"""Manifests: what was written is read, and what was changed or makes no sense is one line."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.errors import BootError
from corral.startup.record import replace
from corral.store import chunks, manifest
from corral.store.manifest import Part, Run, StoreManifest

KEY = chunks.digest(b"one")
PARTS = (Part(0, 5000, (Run(0, KEY),)), Part(8192, 3 * chunks.SIZE, (Run(0, KEY), Run(2, KEY))))
ONE = StoreManifest("0.1", 5, "pagetable", "a CPU", 1 << 20, 1, 1 << 20, chunks.SIZE, PARTS, manifest.whole(PARTS))


def test_it_is_read_as_it_was_written() -> None:
    text, digest = manifest.encode(ONE)
    assert manifest.decode(text, "x") == (ONE, digest)
    places = [(0, 5000), (8192, chunks.SIZE), (8192 + 2 * chunks.SIZE, chunks.SIZE)]
    assert list(manifest.keys(ONE)) == [(at, length, KEY) for at, length in places]


@given(st.data())
def test_each_changed_byte_is_found(data: st.DataObject) -> None:
    text = bytearray(manifest.encode(ONE)[0])
    at = data.draw(st.integers(0, len(text) - 1))
    text[at] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(BootError, match="snapshot 'x'"):
        manifest.decode(bytes(text), "x")


@pytest.mark.parametrize("length", [0, 20, 60, 200])
def test_one_that_was_cut_off_is_found(length: int) -> None:
    with pytest.raises(BootError, match="push it again"):
        manifest.decode(manifest.encode(ONE)[0][:length], "x")


def with_parts(*parts: Part) -> StoreManifest:
    return replace(ONE, parts=parts, whole=manifest.whole(parts))


@pytest.mark.parametrize(
    ("one", "why"),
    [
        (replace(ONE, chunk=4096), "chunks of 4096 bytes"),
        (replace(ONE, size=0), "a file of 0 bytes"),
        (replace(ONE, size=1 << 60), "a file of"),
        (replace(ONE, whole=KEY), "sum of its chunks"),
        (with_parts(PARTS[1], PARTS[0]), "parts that lie over"),
        (with_parts(Part(4097, 9, ())), "parts that lie over"),
        (replace(ONE, parts=(Part(0, -1, ()),)), "parts that lie over"),
        (with_parts(Part(0, 2 << 20, ())), "parts that lie over"),
        (with_parts(Part(0, 4096, (Run(1, KEY),))), "chunks that lie over"),
        (with_parts(Part(0, 1 << 20, (Run(1, KEY), Run(1, KEY)))), "chunks that lie over"),
        (with_parts(Part(0, 4096, (Run(0, KEY[:-1]),))), "chunks that lie over"),
        (with_parts(Part(0, 4096, (Run(0, b""),))), "chunks that lie over"),
    ],
)
def test_a_hostile_one_is_one_line(one: StoreManifest, why: str) -> None:
    with pytest.raises(BootError, match=why) as raised:
        manifest.decode(manifest.encode(one)[0], "x")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("value", [None, [], {"parts": 1}, 7, "x"])
def test_other_json_is_one_line(value: Any) -> None:
    rest = json.dumps(value).encode()
    line = hashlib.sha256(rest).hexdigest().encode()
    with pytest.raises(BootError, match="makes no sense"):
        manifest.decode(manifest._HEAD + line + b"\n" + rest, "x")
