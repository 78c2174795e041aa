"""Where probes lie, how system calls are written, and what a notebook shows; without a guest."""

from __future__ import annotations

import json

import pytest

from corral import notebook
from corral.core.exits import Cause, Outcome, Over
from corral.debug.probes import place, remote, signatures, timeline
from corral.debug.probes.summary import Summary
from corral.debug.probes.syscall import Syscall
from corral.errors import ConfigError, HostError
from corral.observe.profiler import Profile

AT = 0xFFFFFFFF81000000
CALL = Syscall(
    10, 0, 7, 7, "sh", 257, "openat", ((1 << 64) - 100, 0x1000, 0x80000, 0o644, 0, 0), ((1, "/a\n"),), 3, 2000
)


@pytest.mark.parametrize(
    ("code", "offset"),
    [
        ("55 4889e5 53", 0),
        ("f30f1efa 55 48", 4),  # ENDBR64
        ("0f1f440000 4157 4156", 5),  # a NOP for tracing
        ("e800000000 55 48", 5),  # a CALL of __fentry__
        ("f30f1efa e800000000 4155 48", 9),
        ("55 4157 4889fb", 1),  # OUT to port 0x41 would be the 8254's
        ("488bc7 53 48", 3),  # a register that is no argument's
    ],
)
def test_a_probe_lies_at_a_push_near_the_beginning(code: str, offset: int) -> None:
    content = bytes.fromhex(code.replace(" ", "")) + bytes.fromhex("90") * 32
    assert place.find(AT, lambda address, length: content[:length], "f") == AT + offset


@pytest.mark.parametrize(
    "code",
    [
        "c3",
        "31ff 55 48",  # an argument is written
        "488bfe 55 48",
        "75fe 55 48",  # a branch
        "4889c0 e800000000 53 48",  # what it calls may change them
        "",
        "0f",
    ],
)
def test_other_functions_are_refused(code: str) -> None:
    content = bytes.fromhex(code.replace(" ", ""))
    with pytest.raises(ConfigError, match="f does not begin with code"):
        place.find(AT, lambda address, length: content, "f")


def test_no_probe_lies_at_the_end_of_a_page() -> None:
    with pytest.raises(ConfigError):
        place.find(AT + 4095, lambda address, length: b"\x55\x48\x89\xe5\xc3", "f")


@pytest.mark.parametrize(
    ("result", "text"),
    [(None, "?"), (0, "0"), (-2, "-1 ENOENT"), (-512, "restarted"), (-5000, "-5000"), (1 << 40, "0x10000000000")],
)
def test_results_are_written_as_programs_know_them(result: int | None, text: str) -> None:
    assert signatures.result_written(result) == text


def test_a_call_is_one_line_whatever_its_strings_have() -> None:
    assert str(CALL) == 'openat(AT_FDCWD, "/a\\n", 0x80000, 0o644) = 3 <0.000002>'
    unknown = Syscall(1, 0, 0, 0, "", 999, "syscall_999", (1, 2, 3, 4, 5, 6))
    assert str(unknown) == "syscall_999(0x1, 0x2, 0x3, 0x4, 0x5, 0x6) = ?"


def test_every_signature_has_six_arguments_at_most() -> None:
    assert all(len(letters) <= 6 and set(letters) <= set("dufasox") for letters in signatures.SIGNATURES.values())


def test_a_summary_has_the_longest_first() -> None:
    failed = Syscall(1, 0, 7, 7, "sh", 0, "read", (0,) * 6, (), -9, 5000)
    assert Summary([CALL, failed, failed]).rows() == [("read", 2, 10000, 2), ("openat", 1, 2000, 0)]


class Lines:
    """What a guest's process sends, in pieces."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = list(pieces)

    def early(self) -> bytes:
        return b""

    def read(self) -> bytes | None:
        return self._pieces.pop(0) if self._pieces else None


def test_calls_come_whole_from_pieces() -> None:
    line = json.dumps([getattr(CALL, name) for name in Syscall.__match_args__]).encode()
    pieces = line[:10], line[10:] + b'\n{"lost": 3}\n' + line[:5]
    assert list(remote.calls(Lines(*pieces))) == [CALL, 3]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "line", [b"[]", b"{}", b"nonsense", b"[" * 5000, b'{"lost": []}', b"[1,2,3,4,5,6,7,8,9,10,11]"]
)
def test_what_is_no_call_is_one_line(line: bytes) -> None:
    with pytest.raises(HostError, match="no system call"):
        list(remote.calls(Lines(line + b"\n")))  # type: ignore[arg-type]


def test_a_line_without_an_end_is_refused() -> None:
    with pytest.raises(HostError, match="without an end"):
        list(remote.calls(Lines(*[b"x" * 65536] * 20)))  # type: ignore[arg-type]


# In a notebook.

HOSTILE = "<img src=x onerror=alert(1)>\"'&\x1b[2J"


def test_all_words_are_escaped() -> None:
    call = Syscall(1, 0, 7, 7, HOSTILE, 0, HOSTILE, (0,) * 6, ((0, HOSTILE),), 0, 5)
    profile = Profile()
    profile.add((HOSTILE, HOSTILE))
    ended = Outcome(Over.ENDED, Cause.UNKNOWN_EXIT, HOSTILE)
    shown = [timeline.html([call]), profile._repr_html_(), ended._repr_html_()]
    shown += [notebook.table([[HOSTILE]], (HOSTILE,), HOSTILE), notebook.lines(HOSTILE)]
    for html in shown:
        assert "<img" not in html
        assert "\x1b" not in html


def test_a_picture_of_many_calls_is_small() -> None:
    calls = [Syscall(at, 0, at % 100, 0, "x" * 16, 0, "read", (0,) * 6, (), 0, 5) for at in range(20_000)]
    assert len(timeline.html(calls, 7)) < 1 << 19
    assert "20000 system calls, 7 more were lost" in timeline.html(calls, 7)
    assert "none was traced" in timeline.html([])
