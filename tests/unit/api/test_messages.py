"""HTTP requests out of what comes from a socket, in any pieces; what is none ends the connection."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.api import messages
from corral.api.fault import Fault
from corral.api.messages import Answer, HttpRequest, Reader

PUT = b'PUT /vm HTTP/1.1\r\nHost: localhost\r\nContent-Length: 19\r\n\r\n{"state": "Paused"}'


def read(data: bytes) -> list[HttpRequest]:
    reader = Reader()
    reader.feed(data)
    found = []
    while one := reader.next():
        found.append(one)
    return found


def test_a_request_with_a_body() -> None:
    assert read(PUT) == [HttpRequest("PUT", "/vm", b'{"state": "Paused"}', True)]


@given(st.integers(1, len(PUT) - 1), st.integers(1, 3))
def test_the_pieces_do_not_matter(cut: int, times: int) -> None:
    reader, found = Reader(), []
    for piece in [PUT[:cut], PUT[cut:]] * times:
        reader.feed(piece)
        while one := reader.next():
            found.append(one)
    assert found == read(PUT) * times


@pytest.mark.parametrize(
    ("first", "path"),
    [
        (b"GET / HTTP/1.1", "/"),
        (b"GET /vm/config?x=1 HTTP/1.1", "/vm/config"),
        (b"GET http://localhost/version HTTP/1.1", "/version"),
        (b"GET http://localhost HTTP/1.1", "/"),
    ],
)
def test_the_path_is_without_host_and_query(first: bytes, path: str) -> None:
    assert read(first + b"\r\n\r\n")[0].path == path


@pytest.mark.parametrize(
    ("head", "stays"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", True),
        (b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", True),
    ],
)
def test_whether_the_connection_stays(head: bytes, stays: bool) -> None:
    assert read(head)[0].stays is stays


@pytest.mark.parametrize(
    "data",
    [
        b"GET /\r\n\r\n",
        b"GET / HTTP/2\r\n\r\n",
        b"get / HTTP/1.1\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: b\r\n folded: c\r\n\r\n",
        b"PUT / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"PUT / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"PUT / HTTP/1.1\r\nContent-Length: 1_0\r\n\r\n",
        b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"A" * messages.MOST_HEAD,
    ],
)
def test_what_is_no_request_is_refused(data: bytes) -> None:
    with pytest.raises(Fault) as caught:
        read(data)
    assert caught.value.status == 400


def test_a_body_that_is_too_large_is_refused_before_it_comes() -> None:
    with pytest.raises(Fault) as caught:
        read(b"PUT /mmds HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (messages.MOST_BODY + 1))
    assert caught.value.status == 413


def test_the_head_is_read_to_its_limit_and_no_further() -> None:
    reader = Reader()
    reader.feed(b"GET / HTTP/1.1\r\nA: ")
    assert reader.next() is None
    assert reader.begun
    reader.feed(b"b" * messages.MOST_HEAD)
    with pytest.raises(Fault):
        reader.next()


@given(st.binary(max_size=300))
def test_any_bytes_are_requests_or_a_fault(data: bytes) -> None:
    try:
        found = read(data)
    except Fault:
        return
    assert sum(len(one.path) + len(one.body) for one in found) <= len(data) + len(found)


def test_who_expects_it_is_told_to_go_on() -> None:
    reader = Reader()
    reader.feed(b"PUT /vm HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
    assert reader.next() is None
    assert reader.wants_continue


def test_an_answer_has_its_length_and_a_204_has_no_body() -> None:
    head, _, body = messages.encoded(Answer(200, {"id": "\u00e9"}), True).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Content-Length: %d" % len(body) in head
    assert json.loads(body) == {"id": "\u00e9"}
    assert messages.encoded(Answer(), False).endswith(b"Connection: close\r\n\r\n")


def test_a_fault_is_told_as_firecracker_tells_one() -> None:
    assert messages.refusal(Fault("no", 413)) == Answer(413, {"fault_message": "no"})
