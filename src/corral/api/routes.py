"""The table of the API: each route with its body, when it may be asked, and what answers. Requests are dispatched by it
(dispatch.py), and the OpenAPI document is made of it."""

from __future__ import annotations

from corral.api import bodies, own
from corral.api.fault import lacks
from corral.api.service import Service
from corral.api.settings import Settings
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from corral.api.settings import Given
    from corral.api.shapes import Body, BodyShape

    # Of the service, and of the checked body where the route has one. It returns JSON, None for nothing, or a Job.
    Handler = Callable[..., Any]

ANY, BEFORE_START, RUNNING = "at any time", "before the guest starts", "when the guest has started"
REFUSED = "Corral has it not: it is refused by name."


@record(frozen=True)
class Route:
    """`path` may end with {name}: the same as the field `name` of the body. `result`: the shape of a 200; None: 204."""

    method: str
    path: str
    summary: str
    handler: Handler
    body: BodyShape | None = None
    result: Body | None = None
    when: str = ANY

    @property
    def parameter(self) -> str:
        """The name in the path, "" for none."""
        return self.path.partition("{")[2].rstrip("}")


def _get(path: str, summary: str, handler: Handler, result: Body, when: str = ANY) -> Route:
    return Route("GET", path, summary, handler, None, result, when)


def _put(path: str, summary: str, handler: Handler, body: Body, when: str = BEFORE_START) -> Route:
    return Route("PUT", path, summary, handler, body, None, when)


def _patch(path: str, summary: str, handler: Handler, body: Body, when: str = RUNNING) -> Route:
    return Route("PATCH", path, summary, handler, body, None, when)


def _refused(method: str, path: str, what: str, instead: str = "", body: BodyShape = bodies.CONTENT) -> Route:
    """One that Firecracker has and Corral has not."""

    def handler(service: Service, given: Given | None = None) -> None:
        raise lacks(what, instead)

    return Route(method, path, REFUSED, handler, None if method == "GET" else body)


def _set(method: Callable[[Settings, Given], None]) -> Handler:
    return lambda service, given: method(service.settings, given)


_MMDS = "MMDS", "no guest reaches it; a vsock, the agent and the kernel's parameters are for such data"
_HINTS = "a balloon's statistics and hinting"
_LIVE = "changing a device of a guest that runs", "save it, and load it with another"

ROUTES = (
    _get("/", "What this guest is, and whether it runs.", Service.instance, bodies.INSTANCE),
    _get("/version", "Which version of Firecracker's API this is.", Service.version, bodies.VERSION),
    _get("/vm/config", "All that was set.", Service.configuration, bodies.FULL),
    _get("/machine-config", "vCPUs and memory.", Service.machine, bodies.MACHINE),
    _put("/machine-config", "vCPUs and memory.", _set(Settings.set_machine), bodies.MACHINE),
    _patch("/machine-config", "Some of them.", Service.patch_machine, bodies.PARTIAL_MACHINE, BEFORE_START),
    _put("/boot-source", "Kernel, initrd and parameters.", _set(Settings.set_boot_source), bodies.BOOT_SOURCE),
    _put("/drives/{drive_id}", "A disk.", _set(Settings.set_drive), bodies.DRIVE),
    _put("/network-interfaces/{iface_id}", "A network card.", _set(Settings.set_interface), bodies.INTERFACE),
    _put("/vsock", "Connections with programs of the host.", Service.set_vsock, bodies.VSOCK),
    _put("/balloon", "Freed memory goes back to the host.", _set(Settings.set_balloon), bodies.BALLOON),
    _get("/balloon", "The balloon.", Service.balloon, bodies.BALLOON),
    _patch("/balloon", "Its amount, which is 0.", Service.patch_balloon, bodies.BALLOON_UPDATE),
    _put("/entropy", "Random bytes.", _set(Settings.set_entropy), bodies.ENTROPY),
    _put("/serial", "A file for the console.", _set(Settings.set_serial), bodies.SERIAL),
    _put("/logger", "A log of requests.", Service.set_logger, bodies.LOGGER),
    _put("/metrics", "A file for FlushMetrics.", Service.set_metrics, bodies.METRICS),
    _put("/actions", "Starts the guest; presses its power button.", Service.act, bodies.ACTION, ANY),
    _patch("/vm", "Pauses the guest, or has it go on.", Service.set_state, bodies.VM),
    _put("/snapshot/create", "Saves a paused guest.", Service.save, bodies.SNAPSHOT_CREATE, RUNNING),
    _put("/snapshot/load", "A guest goes on from a snapshot.", Service.load, bodies.SNAPSHOT_LOAD),
    _refused("PATCH", "/drives/{drive_id}", *_LIVE, bodies.PARTIAL_DRIVE),
    _refused("PATCH", "/network-interfaces/{iface_id}", *_LIVE, bodies.PARTIAL_INTERFACE),
    _refused("GET", "/mmds", *_MMDS),
    _refused("PUT", "/mmds", *_MMDS),
    _refused("PATCH", "/mmds", *_MMDS),
    _refused("PUT", "/mmds/config", *_MMDS),
    _refused("GET", "/balloon/statistics", _HINTS),
    _refused("PATCH", "/balloon/statistics", _HINTS),
    _refused("GET", "/balloon/hinting/status", _HINTS),
    _refused("PATCH", "/balloon/hinting/start", _HINTS),
    _refused("PATCH", "/balloon/hinting/stop", _HINTS),
    _refused("PUT", "/cpu-config", "CPU templates"),
    _refused("PUT", "/pmem/{id}", "virtio-pmem", "a drive with is_read_only does it"),
    _refused("PUT", "/hotplug/memory", "memory that is plugged in later"),
    Route(
        *("PUT", "/corral/exec", "A command, by the guest's agent.", own.execute),
        *(bodies.CORRAL_EXEC, bodies.CORRAL_EXECUTED, RUNNING),
    ),
    _get("/corral/console", "The last that the guest said.", own.console, bodies.CORRAL_CONSOLE, RUNNING),
    _get("/corral/stats", "What is counted of the guest.", own.stats, bodies.CORRAL_STATS, RUNNING),
)
