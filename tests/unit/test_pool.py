"""The parts of a pool that need no KVM: its place, what it is handed, and what it has in common with its client."""

from __future__ import annotations

import os
import socket
import struct
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.pool import likeness, place, request
from corral.pool.request import BadRequest


def test_the_key_of_a_folder_is_its_fnv_1a() -> None:
    assert place.key("") == 0xCBF29CE484222325
    assert place.key("foobar") == 0x85944171F73967E8  # of the reference's test vectors


def test_a_process_is_like_itself_and_a_child_with_other_limits_is_not() -> None:
    ours = likeness.of_process(os.getpid())
    assert likeness.difference(ours, likeness.of_process(os.getpid())) == ""
    with subprocess.Popen(["sh", "-c", "ulimit -n 100; echo; exec sleep 1000"], stdout=subprocess.PIPE) as child:
        assert child.stdout
        child.stdout.readline()
        assert likeness.difference(ours, likeness.of_process(child.pid)) == "limits"
        child.kill()


def test_what_python_reads_of_the_environment_counts() -> None:
    some = {"PYTHONPATH": "x", "LC_ALL": "C", "HOME": "/"}
    assert likeness.of_environment(some) == {"PYTHONPATH": "x", "LC_ALL": "C"}


def received(data: bytes, descriptors: list[int]) -> request.Handed:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.settimeout(1)
        if data:
            socket.send_fds(ours, [data], descriptors)
        ours.shutdown(socket.SHUT_WR)
        return request.receive(theirs)


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


words = st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), max_size=5)


@given(words, words, st.integers(0, 0o777), st.integers(0, 2**32 - 1))
def test_a_request_is_what_was_sent(words: list[str], values: list[str], mask: int, ignored: int) -> None:
    pairs = {f"name{number}": value for number, value in enumerate(values)}
    strings = [*words, *(f"{name}={value}" for name, value in pairs.items())]
    text = b"".join(one.encode() + b"\0" for one in strings)
    head = struct.pack("=6I", request.MAGIC, len(text), len(words), len(values), mask, ignored)
    before = open_descriptors()
    one = received(head + text, [0, 1, 2, 0])
    assert (one.words, one.environment, one.mask, one.ignored) == (words, pairs, mask, ignored)
    one.close()
    assert open_descriptors() == before


@given(st.binary(max_size=100), st.integers(0, 4), st.booleans())
def test_what_is_no_request_leaves_no_descriptor(data: bytes, handed: int, starts_well: bool) -> None:
    before = open_descriptors()
    if starts_well:
        data = struct.pack("=2I", request.MAGIC, len(data) + 1) + data
    with pytest.raises(BadRequest):
        received(data, [0] * handed)
    assert open_descriptors() == before
