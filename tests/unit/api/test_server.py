"""Clients of the API's socket that are slow, hostile or gone: none of them stops another."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from corral.api import server as serving
from corral.api.jobs import Threaded
from corral.api.messages import Answer, HttpRequest
from corral.api.server import ApiServer
from corral.core.waiting import wait_for
from corral.errors import ConfigError

GET = b"GET /%d HTTP/1.1\r\n\r\n"


class Served:
    """A server on a thread. It answers with the path; /wait waits for `go`, /later until `now` is true."""

    def __init__(self, path: Path) -> None:
        self.path, self.go, self.now = str(path), threading.Event(), False
        self.server = ApiServer(self.path, self._answer)
        self.turns = 0
        self._end, self._ender = os.pipe()
        self.failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _answer(self, request: HttpRequest) -> Answer | Threaded | None:
        if request.path == "/wait":
            return Threaded(self._wait)
        if request.path == "/later" and not self.now:
            return None
        return Answer(200, {"path": request.path, "pad": "x" * int(request.body or b"0")})

    def _wait(self) -> Answer:
        assert self.go.wait(20)
        self.now = True
        return Answer(200, {"path": "/wait"})

    def _run(self) -> None:
        try:
            while True:
                self.turns += 1
                ready = wait_for(self.server.watched() | {self._end: 1}, self.server.until())
                if self._end in ready:
                    return
                self.server.serve(ready)
        except BaseException as failure:
            self.failure = failure

    def connect(self) -> socket.socket:
        one = socket.socket(socket.AF_UNIX)
        one.settimeout(20)
        one.connect(self.path)
        return one

    def close(self) -> None:
        self.go.set()
        os.write(self._ender, b"x")
        self._thread.join()
        self.server.close()
        os.close(self._end)
        os.close(self._ender)
        if self.failure:
            raise self.failure


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    one = Served(tmp_path / "s")
    yield one
    one.close()


def asked(one: socket.socket, data: bytes) -> bytes:
    one.sendall(data)
    return one.recv(65536)


def everything(one: socket.socket) -> bytes:
    found = b""
    while piece := one.recv(65536):
        found += piece
    return found


def test_requests_behind_each_other_are_answered_in_their_order(served: Served) -> None:
    with served.connect() as one:
        one.sendall(b"".join(GET % number for number in range(50)))
        one.shutdown(socket.SHUT_WR)  # it is half closed, and gets all its answers
        said = everything(one)
    assert [said.index(b'"/%d"' % number) for number in range(50)] == sorted(
        said.index(b'"/%d"' % number) for number in range(50)
    )


def test_a_client_that_waits_does_not_hold_another_up(served: Served) -> None:
    with served.connect() as waits, served.connect() as other:
        waits.sendall(b"GET /wait HTTP/1.1\r\n\r\n")
        assert b'"/1"' in asked(other, GET % 1)
        served.go.set()
        assert b'"/wait"' in waits.recv(65536)


def test_half_a_request_does_not_hold_another_up(served: Served) -> None:
    with served.connect() as half, served.connect() as other:
        half.sendall(b"GET / HT")
        assert b'"/1"' in asked(other, GET % 1)


def test_a_client_that_leaves_in_its_request_is_forgotten(served: Served) -> None:
    for data in (b"", b"GET / HT", b"GET /wait HTTP/1.1\r\n\r\n", GET % 1):
        with served.connect() as one:
            one.sendall(data)
    served.go.set()
    with served.connect() as other:
        assert b'"/2"' in asked(other, GET % 2)


def test_a_reader_who_stands_still_is_not_served_further(served: Served) -> None:
    with served.connect() as still, served.connect() as other:
        still.setblocking(False)
        request = b"PUT /big HTTP/1.1\r\nContent-Length: 7\r\n\r\n1000000"
        for _ in range(200):
            try:
                still.send(request)
            except BlockingIOError:
                break
        assert b'"/1"' in asked(other, GET % 1)
        pending = [len(one.pending) for one in served.server._clients.values()]
        assert max(pending) < 1_100_000  # one answer, whatever else it asked for


def test_the_longest_idle_client_makes_room(served: Served) -> None:
    clients = [served.connect() for _ in range(serving.MOST_CLIENTS)]
    for one in clients:
        assert b'"/1"' in asked(one, GET % 1)
    with served.connect() as another:
        assert b'"/2"' in asked(another, GET % 2)
    assert clients[0].recv(1) == b""
    assert b'"/3"' in asked(clients[-1], GET % 3)
    for one in clients:
        one.close()


def test_a_request_that_does_not_end_is_given_up(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "PATIENCE", 0.05)
    with served.connect() as one:
        one.sendall(b"PUT /vm HTTP/1.1\r\nContent-Length: 10\r\n\r\n{")
        said = everything(one)
    assert said.startswith(b"HTTP/1.1 408 ")
    assert b"fault_message" in said


def test_what_is_no_request_is_answered_and_ends(served: Served) -> None:
    with served.connect() as one:
        one.sendall(b"hello\r\n\r\n" + GET % 1)
        one.shutdown(socket.SHUT_WR)
        said = everything(one)
    assert said.startswith(b"HTTP/1.1 400 ")
    assert said.count(b"Server: ") == 1


def test_a_request_that_has_to_wait_is_answered_when_what_it_waits_for_is_over(served: Served) -> None:
    with served.connect() as first, served.connect() as second:
        assert b'"/1"' in asked(first, GET % 1)
        second.sendall(b"GET /wait HTTP/1.1\r\n\r\n")
        first.sendall(b"GET /later HTTP/1.1\r\n\r\n")
        served.go.set()
        assert b'"/later"' in first.recv(65536)
        assert b'"/wait"' in second.recv(65536)


def test_who_sends_too_much_gets_the_answer_all_the_same(served: Served) -> None:
    with served.connect() as one:
        one.sendall(b"PUT /mmds HTTP/1.1\r\nContent-Length: 9000000\r\n\r\n")
        one.sendall(bytes(9000000))
        assert one.recv(65536).startswith(b"HTTP/1.1 413 ")


def test_a_request_that_has_to_wait_is_asked_for_again(served: Served) -> None:
    with served.connect() as one, served.connect() as other:
        one.sendall(b"GET /later HTTP/1.1\r\n\r\n")
        assert b'"/1"' in asked(other, GET % 1)
        served.now = True
        assert b'"/2"' in asked(other, GET % 2)  # the next event
        assert b'"/later"' in one.recv(65536)


def test_a_socket_that_a_killed_process_left_is_taken_over(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(path)
    one = ApiServer(path, lambda request: Answer())
    with pytest.raises(ConfigError, match="cannot listen"):
        ApiServer(path, lambda request: Answer())
    assert os.stat(path).st_mode & 0o777 == 0o600
    one.close()
    assert not os.path.exists(path)


@pytest.mark.parametrize("name", ["x" * 200, "no/such/folder"])
def test_a_path_that_cannot_be_is_one_line(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot listen"):
        ApiServer(str(tmp_path / name), lambda request: Answer())


def test_a_file_that_is_there_stays(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_text("mine")
    with pytest.raises(ConfigError, match="cannot listen"):
        ApiServer(str(path), lambda request: Answer())
    assert path.read_text() == "mine"


def test_nothing_is_watched_in_a_circle(served: Served) -> None:
    """A client that has ended its half, whose answer is still to come, does not make the server spin."""
    with served.connect() as one:
        one.sendall(b"GET /wait HTTP/1.1\r\n\r\n")
        one.shutdown(socket.SHUT_WR)
        time.sleep(0.3)
        assert served.turns < 20
        served.go.set()
        assert b'"/wait"' in everything(one)
