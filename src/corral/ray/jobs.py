"""The jobs of a cluster, seen from beside them: what their actors do, and how they are stopped."""

from __future__ import annotations

from corral.errors import ConfigError
from corral.ray.cluster import NAMESPACE
from corral.ray.engine import PREFIX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_PATIENCE = 5.0  # seconds for the actors to answer


def look(ray: Any) -> list[dict[str, Any]]:
    """What each host actor does: "job", "host", "slots", "running", "begun", "cpu". One that waits for room does
    not answer, and has "job", "host", "waiting"."""
    found = []
    actors = _actors(ray)
    answers = {name: actor.look.remote() for name, actor in actors.items()}
    ready = ray.wait(list(answers.values()), num_returns=len(answers), timeout=_PATIENCE)[0] if answers else []
    for name, reference in answers.items():
        try:
            told = ray.get(reference) if reference in ready else {"job": _job(name), "host": "", "waiting": True}
        except ray.exceptions.RayError:
            continue  # it ended meanwhile
        found.append(told)
    return found


def stop(ray: Any, job: str | None) -> int:
    """Ends the guests of a job, or of all; returns how many actors it had. Raises ConfigError for an unknown job."""
    actors = {name: actor for name, actor in _actors(ray).items() if job in (None, _job(name))}
    if job is not None and not actors:
        raise ConfigError(f"there is no job {job!r}; see corral fleet ps")
    stopping = [actor.stop.remote() for actor in actors.values()]
    if stopping:
        ray.wait(stopping, num_returns=len(stopping), timeout=_PATIENCE)
    return len(actors)


def _actors(ray: Any) -> dict[str, Any]:
    found = {}
    for each in ray.util.list_named_actors(all_namespaces=True):
        if each["namespace"] == NAMESPACE and each["name"].startswith(PREFIX):
            try:
                found[each["name"]] = ray.get_actor(each["name"], namespace=NAMESPACE)
            except ValueError:
                continue  # it ended meanwhile
    return found


def _job(name: str) -> str:
    """Of an actor's name (engine.py)."""
    return name.rpartition("-")[0]
