"""The process that serves the API, until its guest has ended or a signal ends it."""

from __future__ import annotations

import os

from corral.api import dispatch
from corral.api.server import ApiServer
from corral.api.service import Service
from corral.cli import terminal
from corral.core.waiting import READABLE, wait_for
from corral.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral.api.guest import GuestStart

MOST_FILE = 1 << 20  # bytes of a configuration


def serve(path: str | None, id: str, file: str | None, jail: str | None, given: dict[str, Any] | None = None) -> int:
    """`path`: None for no socket; `file`: of a configuration, by which the guest starts at once; `jail`: the word of
    --jail; `given`: what is set before. The exit status of the guest. Raises ConfigError, GuestError."""
    if id:
        from corral.running.place import check_name

        check_name(id)
    if jail is not None and jail not in ("on", "off", "report"):
        raise ConfigError(f"--jail {jail!r} is none of on, off, report")
    terminal.leave_on_signals()
    server: ApiServer | None = None

    def run(start: GuestStart) -> int:
        from corral.cli import api_guest

        return api_guest.run(start, jail)

    service = Service(id, run, lambda: server.forget() if server else None)
    try:
        for name, one in (given or {}).items():
            dispatch.configure(service, {name: one})
        if path is not None:
            server = ApiServer(path, lambda request: dispatch.answer(service, request))
        if file is not None:
            dispatch.configure(service, _read(file), starts=True)
        _serve(server, service)
    finally:
        if server:
            server.close()
        status = service.close()
    return status


def _serve(server: ApiServer | None, service: Service) -> None:
    while True:
        wanted = server.watched() if server else {}
        if service.guest:
            wanted[service.guest.ended] = READABLE
        ready = wait_for(wanted, server.until() if server else None)
        if service.guest and service.guest.ended in ready:
            return
        if server:
            server.serve(ready)


def _read(path: str) -> dict[str, Any]:
    """Raises ConfigError."""
    import json

    try:
        with open(path, "rb") as file:
            text = file.read(MOST_FILE + 1)
        found = json.loads(text) if len(text) <= MOST_FILE else None
    except OSError as error:
        raise ConfigError(f"--config-file {path!r}: {error.strerror}; name a file of JSON") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"--config-file {os.fspath(path)!r} is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise ConfigError(f"--config-file {path!r} is no object of JSON of at most {MOST_FILE} bytes")
    return found
