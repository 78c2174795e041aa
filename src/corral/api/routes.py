"""The table of the API: each route with its body, when it may be asked, and what answers. The server dispatches by it,
and the OpenAPI document is made of it."""

from __future__ import annotations

import json

from corral.api import bodies, messages
from corral.api.fault import AFTER, BEFORE, Fault, lacks
from corral.api.messages import Answer
from corral.core.waiting import READABLE, wait_for
from corral.errors import CorralError
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from corral.api.messages import Request
    from corral.api.server import Job
    from corral.api.service import Service
    from corral.api.settings import Given
    from corral.api.shapes import Shape

    # The service, the checked body ({} without one); what it returns is JSON, or a Job.
    Handler = Callable[[Service, Given], Any]

ANY, BEFORE_START, RUNNING = "at any time", "before the guest starts", "when the guest has started"


@record(frozen=True)
class Route:
    """`path` may end with {name}: the same as the field `name` of the body. `result`: the shape of a 200; None: 204."""

    method: str
    path: str
    summary: str
    handler: Handler
    body: Shape | None = None
    result: Shape | None = None
    when: str = ANY

    @property
    def parameter(self) -> str:
        """The name in the path, "" for none."""
        return self.path.partition("{")[2].rstrip("}")


def _refuse(what: str, instead: str = "") -> Handler:
    """Of a route that Firecracker has, and Corral has not."""

    def handler(service: Service, given: Given) -> None:
        raise lacks(what, instead)

    return handler


def _own(name: str) -> Handler:
    def handler(service: Service, given: Given) -> Any:
        from corral.api import own

        found = getattr(own, name)
        return found(service, given) if given else found(service)

    return handler


_MMDS = _refuse("MMDS", "no guest reaches it; its vsock and its agent are for such data")
_BALLOON = _refuse("a balloon's statistics and hinting")
_LIVE = _refuse("changing a device of a guest that runs")
B = bodies

ROUTES = (
    Route("GET", "/", "What this guest is, and whether it runs.", lambda s, b: s.instance(), result=B.INSTANCE),
    Route("GET", "/version", "Which version of Firecracker's API.", lambda s, b: s.version(), result=B.VERSION),
    Route("GET", "/vm/config", "All that was set.", lambda s, b: s.configuration(), result=B.FULL),
    Route("GET", "/machine-config", "vCPUs and memory.", lambda s, b: s.settings.machine, result=B.MACHINE),
    Route(
        "PUT", "/machine-config", "vCPUs and memory.", lambda s, b: s.settings.set_machine(b), B.MACHINE, None, BEFORE_START
    ),
    Route(
        "PATCH",
        "/machine-config",
        "Some of them.",
        lambda s, b: s.patch_machine(b),
        B.PARTIAL_MACHINE,
        when=BEFORE_START,
    ),
    Route(
        "PUT",
        "/boot-source",
        "The kernel, its initrd and parameters.",
        lambda s, b: s.settings.set_boot_source(b),
        B.BOOT_SOURCE,
        when=BEFORE_START,
    ),
    Route(
        "PUT", "/drives/{drive_id}", "A disk.", lambda s, b: s.settings.set_drive(b), B.DRIVE, when=BEFORE_START
    ),
    Route("PATCH", "/drives/{drive_id}", "Refused.", _LIVE, B.PARTIAL_DRIVE, when=RUNNING),
    Route(
        "PUT",
        "/network-interfaces/{iface_id}",
        "A network card.",
        lambda s, b: s.settings.set_interface(b),
        B.INTERFACE,
        when=BEFORE_START,
    ),
    Route("PATCH", "/network-interfaces/{iface_id}", "Refused.", _LIVE, B.PARTIAL_INTERFACE, when=RUNNING),
    Route("PUT", "/vsock", "Connections with programs.", lambda s, b: s.set_vsock(b), B.VSOCK, when=BEFORE_START),
    Route(
        "PUT", "/balloon", "Freed memory goes back.", lambda s, b: s.settings.set_balloon(b), B.BALLOON, when=BEFORE_START
    ),
    Route("GET", "/balloon", "The balloon.", lambda s, b: s.balloon(), result=B.BALLOON),
    Route("PATCH", "/balloon", "Its amount: 0.", lambda s, b: s.patch_balloon(b), B.BALLOON_UPDATE, when=RUNNING),
    Route("GET", "/balloon/statistics", "Refused.", _BALLOON),
    Route("PATCH", "/balloon/statistics", "Refused.", _BALLOON, B.CONTENT),
    Route("PUT", "/entropy", "Random bytes.", lambda s, b: s.settings.set_entropy(b), B.ENTROPY, when=BEFORE_START),
    Route("PUT", "/serial", "Where the console goes.", lambda s, b: s.settings.set_serial(b), B.SERIAL, when=BEFORE_START),
    Route("PUT", "/logger", "A log of requests.", lambda s, b: s.set_logger(b), B.LOGGER, when=BEFORE_START),
    Route("PUT", "/metrics", "A file of metrics.", lambda s, b: s.set_metrics(b), B.METRICS, when=BEFORE_START),
    Route("GET", "/mmds", "Refused.", _MMDS),
    Route("PUT", "/mmds", "Refused.", _MMDS, B.CONTENT),
    Route("PATCH", "/mmds", "Refused.", _MMDS, B.CONTENT),
    Route("PUT", "/mmds/config", "Refused.", _MMDS, B.CONTENT),
    Route("PUT", "/cpu-config", "Refused.", _refuse("CPU templates"), B.CONTENT),
    Route("PUT", "/pmem/{id}", "Refused.", _refuse("virtio-pmem", "a drive with is_read_only does it"), B.CONTENT),
    Route("PUT", "/hotplug/memory", "Refused.", _refuse("memory that is plugged in later"), B.CONTENT),
    Route("PUT", "/actions", "Starts the guest, and more.", lambda s, b: s.act(b), B.ACTION),
    Route("PATCH", "/vm", "Pauses the guest, or has it go on.", lambda s, b: s.set_state(b), B.VM, when=RUNNING),
    Route("PUT", "/snapshot/create", "Saves a paused guest.", lambda s, b: s.save(b), B.SNAPSHOT_CREATE, when=RUNNING),
    Route("PUT", "/snapshot/load", "Goes on from one.", lambda s, b: s.load(b), B.SNAPSHOT_LOAD, when=BEFORE_START),
    Route(
        "PUT", "/corral/exec", "A command by the guest's agent.", _own("execute"), B.CORRAL_EXEC, B.CORRAL_EXECUTED, RUNNING
    ),
    Route(
        "GET", "/corral/console", "The last on the console.", _own("console"), result=B.CORRAL_CONSOLE, when=RUNNING
    ),
    Route("GET", "/corral/stats", "What is counted of it.", _own("stats"), result=B.CORRAL_STATS, when=RUNNING),
)
_NAMES = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")


def answer(service: Service, request: Request) -> Answer | Job | None:
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


def _dispatch(service: Service, request: Request) -> Answer | Job:
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
    result = route.handler(service, body)
    if result is None:
        return Answer()
    return Answer(200, result) if isinstance(result, dict) else result


def _find(request: Request) -> tuple[Route, str]:
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


def _parsed(request: Request) -> Any:
    """Raises Fault."""
    if not request.body:
        raise Fault(f"Empty {request.method} request.")
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
