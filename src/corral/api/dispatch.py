"""From a request to its answer, by the table of routes."""

from __future__ import annotations

from corral.api import messages
from corral.api.fault import AFTER, BEFORE, Fault
from corral.api.messages import Answer
from corral.api.routes import BEFORE_START, ROUTES, RUNNING
from corral.core.waiting import READABLE, wait_for
from corral.errors import CorralError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral.api.messages import HttpRequest
    from corral.api.routes import Route
    from corral.api.server import Job
    from corral.api.service import Service
    from corral.api.settings import Given

_NAMES = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")


def answer(service: Service, request: HttpRequest) -> Answer | Job | None:
    """What server.py calls. None: an exclusive job is going on, and this has to wait."""
    if service.is_busy and not request.path.startswith("/corral/"):
        return None
    try:
        found = _dispatch(service, request)
    except CorralError as error:
        found = messages.refusal(error if isinstance(error, Fault) else Fault(str(error)))
    status = found.status if isinstance(found, Answer) else 0
    service.log(request.method, request.path, status)
    return found


def _dispatch(service: Service, request: HttpRequest) -> Answer | Job:
    route, name = _find(request)
    body: Given = {}
    if route.body is None:
        if request.body:
            raise Fault(f"{request.method} request cannot have a body.")
    else:
        body = route.body.check(_parsed(request), "the body")
        if name and route.parameter in body and body[route.parameter] != name:
            raise Fault(f"The id from the path [{name}] does not match the id from the body!")
    if route.when == BEFORE_START and service.guest:
        raise Fault(AFTER)
    if route.when == RUNNING and not service.guest:
        raise Fault(BEFORE)
    result = route.handler(service) if route.body is None else route.handler(service, body)
    if result is None:
        return Answer()
    return Answer(200, result) if isinstance(result, dict) else result


def _find(request: HttpRequest) -> tuple[Route, str]:
    """And the id in the path, "" for none. Raises Fault."""
    path = request.path if request.path == "/" else request.path.rstrip("/")
    for route in ROUTES:
        if route.method != request.method:
            continue
        if route.path == path:
            return route, ""
        begin = route.path.partition("{")[0]
        if begin != route.path and path.startswith(begin):
            name = path[len(begin) :]
            if not name or len(name) > 64 or not _NAMES.issuperset(name):
                raise Fault("An id has 1 to 64 letters, digits and _.")
            return route, name
    raise Fault(f"Invalid request method and/or path: {request.method}, {path[:256]}.")


def _parsed(request: HttpRequest) -> Any:
    """Raises Fault."""
    if not request.body:
        raise Fault(f"Empty {request.method} request.")
    import json

    try:
        return json.loads(request.body, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        why = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise Fault(f"An error occurred when deserializing the json body of a request: {why}.") from None


def _no_constant(word: str) -> float:
    raise ValueError(f"{word} is no JSON")


def configure(service: Service, document: dict[str, Any], starts: bool = False) -> None:
    """Sets what a configuration file has, as the requests would; `starts`: then the guest is started, and waited for.
    Raises Fault."""
    for name, given in document.items():
        each = given if isinstance(given, list) else [given]
        for one in each:
            _set(service, name, one)
    if starts:
        job = service.act({"action_type": "InstanceStart"})
        assert job
        wait_for({job.fileno(): READABLE})
        told = job.finish()
        if told.status >= 400:
            raise Fault(told.content["fault_message"])


def _set(service: Service, name: str, given: Any) -> None:
    for route in ROUTES:
        if route.method == "PUT" and route.path.partition("/{")[0] == f"/{name}" and route.body and not route.result:
            route.handler(service, route.body.check(given, name))
            return
    raise Fault(f"unknown field `{name}` of the configuration.")
