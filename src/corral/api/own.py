"""What Corral can do for a client beyond Firecracker's API: the routes under /corral/."""

from __future__ import annotations

import time

from corral.api import messages
from corral.api.fault import Fault
from corral.api.jobs import Threaded
from corral.api.messages import Answer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.api.service import Service
    from corral.api.settings import Given

MOST_EXECUTING = 8
MOST_OUTPUT = 1 << 20  # bytes of a command
TIMEOUT = 60  # seconds
AGENT = 10.0  # seconds that an agent which is not there yet is waited for
SHOWN = 65536  # bytes of the console


def execute(service: Service, given: Given) -> Threaded:
    """A command by the guest's agent (docs/agent.md), which is reached by its vsock."""
    from corral.agent.command import RunningCommand, Wanted
    from corral.agent.connection import Connection
    from corral.core import waiting

    service.running()
    vsock = service.settings.vsock
    if vsock is None:
        raise Fault("The guest has no vsock, by which its agent is reached: PUT /vsock before it starts.")
    if service.executing >= MOST_EXECUTING:
        raise Fault(f"{MOST_EXECUTING} commands run already.")
    words = given["command"]
    wanted = Wanted(
        words=tuple(words) if len(words) > 1 else (),
        line=words[0] if len(words) == 1 else None,
        user=given.get("user", ""),
        folder=given.get("folder"),
        timeout=float(given.get("timeout_s", TIMEOUT)),
        most_output=MOST_OUTPUT,
    )
    output: dict[int, bytearray] = {1: bytearray(), 2: bytearray()}

    def work() -> Answer:
        with Connection(vsock["uds_path"], time.monotonic() + AGENT) as connection:
            one = RunningCommand(connection, wanted, lambda stream, data: output[stream].extend(data))
            one.give(b"")
            while one.end is None:
                waiting.wait_for({one.fileno(): waiting.READABLE}, time.monotonic() + 1.0)
                one.serve()
            end = one.end
        told = [output[stream].decode("utf-8", "replace") for stream in (1, 2)]
        found = {"status": end.status, "stdout": told[0], "stderr": told[1]}
        return Answer(200, found | {"out_of_time": end.out_of_time, "too_much": end.too_much})

    def after() -> None:
        service.executing -= 1

    job = Threaded(work, after)
    service.executing += 1
    return job


def console(service: Service) -> Given:
    """The last that the guest has said on its serial line."""
    from corral.running import place, ring

    try:
        said = ring.read(service.running().path(place.CONSOLE))
    except OSError as error:
        raise Fault(f"The console cannot be read: {error.strerror}.") from None
    return {"text": said[-SHOWN:].decode("utf-8", "replace")}


def stats(service: Service) -> Threaded:
    """What is counted of the guest so far (corral top)."""
    running = service.running()

    def work() -> messages.Answer:
        from corral.running import counters

        return Answer(200, counters.parse(running.ask("counters")))

    return Threaded(work)
