"""Records as JSON, for programs."""

from __future__ import annotations

import json


def to_json(value: object) -> str:
    """Records become objects, sets sorted lists, and a key that is a pair "a,b"."""
    return json.dumps(_jsonable(value), indent=2)


def _jsonable(value: object) -> object:
    fields = getattr(type(value), "__match_args__", None)
    if fields:
        return {name: _jsonable(getattr(value, name)) for name in fields}
    if isinstance(value, dict):
        return {_key(key): _jsonable(entry) for key, entry in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if isinstance(value, (list, tuple)):
        return [_jsonable(entry) for entry in value]
    return value


def _key(key: object) -> str:
    return ",".join(map(str, key)) if isinstance(key, tuple) else str(key)
