"""HTTP/1.1 (RFC 9112), as much of it as clients of a control socket use: bytes to requests, and answers to bytes.

A body has a Content-Length. Chunked bodies, folded lines and other versions are refused. Nothing here waits.
"""

from __future__ import annotations

from corral.api.fault import Fault
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MOST_HEAD = 8192  # bytes of the first line and all fields
MOST_BODY = 51200  # bytes
METHODS = ("GET", "PUT", "PATCH", "POST", "DELETE", "HEAD", "OPTIONS", "TRACE", "CONNECT")
_REASONS = {200: "OK", 204: "No Content", 400: "Bad Request", 408: "Request Timeout", 413: "Payload Too Large"}
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_LETTERS = frozenset(b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


@record(frozen=True)
class HttpRequest:
    """`stays`: the connection is kept after the answer."""

    method: str
    path: str
    body: bytes
    stays: bool


@record(frozen=True)
class Answer:
    """`content` is sent as JSON; None: there is none."""

    status: int = 204
    content: Any = None


def refusal(fault: Fault) -> Answer:
    return Answer(fault.status, {"fault_message": str(fault)})


def encoded(answer: Answer, stays: bool, only_head: bool = False) -> bytes:
    """`only_head`: of a HEAD request, which gets no body."""
    import json  # a quarter of what the start imports: the socket is there before it

    body = b"" if answer.content is None else json.dumps(answer.content).encode()
    lines = [
        f"HTTP/1.1 {answer.status} {_REASONS[answer.status]}",
        "Server: Corral API",
        f"Connection: {'keep-alive' if stays else 'close'}",
    ]
    if answer.status != 204:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "\r\n"]).encode() + (b"" if only_head else body)


class Reader:
    """What one client sends. A Fault ends the connection: where the next request begins is not known."""

    def __init__(self) -> None:
        self._came = bytearray()
        self._head: tuple[str, str, int, bool] | None = None  # method, path, length of the body, stays
        self.wants_continue = False  # the client waits for that before it sends the body

    def feed(self, data: bytes) -> None:
        self._came += data

    @property
    def begun(self) -> bool:
        """Whether a part of a request is there."""
        return bool(self._came) or self._head is not None

    @property
    def room(self) -> int:
        """How many bytes more are of use."""
        return MOST_HEAD + MOST_BODY - len(self._came)

    def next(self) -> HttpRequest | None:
        """None: the next is not whole yet. Raises Fault."""
        if self._head is None:
            del self._came[: len(self._came) - len(self._came.lstrip(b"\r\n"))]  # RFC 9112, 2.2
            end = self._came.find(b"\r\n\r\n", 0, MOST_HEAD)
            if end < 0:
                if len(self._came) >= MOST_HEAD:
                    raise Fault(f"The head of the request has more than {MOST_HEAD} bytes.")
                return None
            head = bytes(self._came[:end])
            del self._came[: end + 4]
            self._head = self._parse(head)
        method, path, length, stays = self._head
        if len(self._came) < length:
            return None
        self.wants_continue = False
        self._head = None
        body = bytes(self._came[:length])
        del self._came[:length]
        return HttpRequest(method, path, body, stays)

    def _parse(self, head: bytes) -> tuple[str, str, int, bool]:
        first, *lines = head.split(b"\r\n")
        words = first.split(b" ")
        if len(words) != 3 or words[2] not in (b"HTTP/1.1", b"HTTP/1.0"):
            raise Fault("The first line is not like GET / HTTP/1.1.")
        method, target = words[0].decode("latin-1"), words[1].decode("latin-1")
        if method not in METHODS or not target.isascii() or not target.isprintable():
            raise Fault("There is no such method, or the path has other than ASCII characters.")
        length, seen, stays = 0, False, words[2] == b"HTTP/1.1"
        for line in lines:
            name, colon, value = line.partition(b":")
            if not colon or not name or not _LETTERS.issuperset(name):
                raise Fault("A header field is not like Name: value.")
            name, value = name.lower(), value.strip(b" \t")
            if name == b"content-length":
                if seen or not value.isdigit() or len(value) > 15:
                    raise Fault("Content-Length is not one number.")
                length, seen = int(value), True
            elif name == b"transfer-encoding":
                raise Fault("Transfer-Encoding is not supported; send a Content-Length.")
            elif name == b"connection":
                options = [word.strip() for word in value.lower().split(b",")]
                stays = b"close" not in options and (stays or b"keep-alive" in options)
            elif name == b"expect" and value.lower() == b"100-continue":
                self.wants_continue = True
        if length > MOST_BODY:
            raise Fault(f"The body has {length} bytes, of {MOST_BODY} at most.", 413)
        path = _without_host(target)
        return method, path.partition("?")[0], length, stays


def _without_host(target: str) -> str:
    """A target may be a whole URI, RFC 9112, 3.2.2."""
    if not target.lower().startswith("http://"):
        return target
    return "/" + target[len("http://") :].partition("/")[2]
