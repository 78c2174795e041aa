"""The API as a document of OpenAPI 3.1, from the table that the server dispatches by."""

from __future__ import annotations

from corral import __version__
from corral.api import bodies
from corral.api.routes import REFUSED, ROUTES
from corral.api.shapes import Body, Items

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral.api.routes import Route
    from corral.api.shapes import BodyShape

_JSON = "application/json"


def document() -> dict[str, Any]:
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    shapes = [bodies.ERROR, *(shape for route in ROUTES for shape in (route.body, route.result))]
    named = {one.title: one.whole_schema() for shape in shapes for one in _bodies(shape)}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Corral",
            "version": __version__,
            "description": "A guest by HTTP over a Unix socket: Firecracker's API, and Corral's own under /corral/.",
        },
        "servers": [{"url": "http://localhost"}],
        "paths": dict(sorted(paths.items())),
        "components": {"schemas": dict(sorted(named.items()))},
    }


def _operation(route: Route) -> dict[str, Any]:
    words = [word for word in route.path.replace("{", "").replace("}", "").replace("-", "/").split("/") if word]
    name = "".join(word.replace("_", " ").title().replace(" ", "") for word in words) or "Instance"
    refused = {"description": "What is wrong with it.", "content": {_JSON: {"schema": bodies.ERROR.schema()}}}
    told: dict[str, Any] = {
        "operationId": route.method.lower() + name,
        "summary": route.summary,
        "description": f"May be asked {route.when}.",
        "responses": {"400": refused, "413": refused, "408": refused},
    }
    if route.result:
        content = {_JSON: {"schema": route.result.schema()}}
        told["responses"]["200"] = {"description": "It is so.", "content": content}
    elif route.summary != REFUSED:
        told["responses"]["204"] = {"description": "It is done."}
    if route.body:
        told["requestBody"] = {"required": True, "content": {_JSON: {"schema": route.body.schema()}}}
    if route.parameter:
        pattern = {"type": "string", "pattern": "^[A-Za-z0-9_]{1,64}$"}
        told["parameters"] = [{"name": route.parameter, "in": "path", "required": True, "schema": pattern}]
    return told


def _bodies(shape: BodyShape | None) -> tuple[Body, ...]:
    if isinstance(shape, Items):
        return _bodies(shape.item)
    return (shape, *shape.inner()) if isinstance(shape, Body) else ()
