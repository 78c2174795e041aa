"""What a request's body must be like: one description that checks a body, and tells it in a schema of OpenAPI 3.

`check(value, name)` returns the value, and raises Fault with the `name` of what is wrong.
"""

from __future__ import annotations

from corral.api.fault import Fault
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LONGEST = 4096  # characters of a text


class BodyShape:
    def check(self, value: Any, name: str) -> Any:
        raise NotImplementedError

    def schema(self) -> dict[str, Any]:
        raise NotImplementedError


@record(frozen=True)
class Text(BodyShape):
    """`longest` in characters; no NUL, and nothing that is not Unicode."""

    about: str = ""
    longest: int = LONGEST
    least: int = 0

    def check(self, value: Any, name: str) -> Any:
        if not isinstance(value, str):
            raise Fault(f"{name} is not a string.")
        if not self.least <= len(value) <= self.longest or "\0" in value:
            raise Fault(f"{name} has not {self.least} to {self.longest} characters, or a NUL.")
        if any("\ud800" <= one <= "\udfff" for one in value):
            raise Fault(f"{name} is no Unicode text.")
        return value

    def schema(self) -> dict[str, Any]:
        limits = {"minLength": self.least} if self.least else {}
        return {"type": "string", "maxLength": self.longest, **limits, **_about(self.about)}


@record(frozen=True)
class Number(BodyShape):
    """A whole number, from `least` to `most`."""

    least: int = 0
    most: int = 2**63 - 1
    about: str = ""

    def check(self, value: Any, name: str) -> Any:
        if not isinstance(value, int) or isinstance(value, bool):
            raise Fault(f"{name} is not a whole number.")
        if not self.least <= value <= self.most:
            raise Fault(f"{name}: {self.least} to {self.most} is possible.")
        return value

    def schema(self) -> dict[str, Any]:
        return {"type": "integer", "minimum": self.least, "maximum": self.most, **_about(self.about)}


@record(frozen=True)
class Flag(BodyShape):
    about: str = ""

    def check(self, value: Any, name: str) -> Any:
        if not isinstance(value, bool):
            raise Fault(f"{name} is neither true nor false.")
        return value

    def schema(self) -> dict[str, Any]:
        return {"type": "boolean", **_about(self.about)}


@record(frozen=True)
class OneOf(BodyShape):
    """One of some words."""

    words: tuple[str, ...]
    about: str = ""

    def check(self, value: Any, name: str) -> Any:
        if value not in self.words or not isinstance(value, str):
            raise Fault(f"{name} is none of {', '.join(self.words)}.")
        return value

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "enum": list(self.words), **_about(self.about)}


@record(frozen=True)
class Items(BodyShape):
    """A list of `least` to `most` of one shape."""

    item: BodyShape
    most: int = 64
    least: int = 0

    def check(self, value: Any, name: str) -> Any:
        if not isinstance(value, list) or not self.least <= len(value) <= self.most:
            raise Fault(f"{name} is not a list of {self.least} to {self.most}.")
        return [self.item.check(one, f"{name}[{index}]") for index, one in enumerate(value)]

    def schema(self) -> dict[str, Any]:
        return {"type": "array", "items": self.item.schema(), "minItems": self.least, "maxItems": self.most}


@record(frozen=True)
class Anything(BodyShape):
    """An object of any fields."""

    about: str = ""

    def check(self, value: Any, name: str) -> Any:
        if not isinstance(value, dict):
            raise Fault(f"{name} is not an object.")
        return value

    def schema(self) -> dict[str, Any]:
        return {"type": "object", "additionalProperties": True, **_about(self.about)}


@record(frozen=True)
class Body(BodyShape):
    """An object with these fields and no others. One that is not of `required` may be null, which is as if it were not
    there. `title` is its name in the OpenAPI document."""

    title: str
    fields: dict[str, BodyShape]
    required: tuple[str, ...] = ()

    def check(self, value: Any, name: str = "the body") -> Any:
        if not isinstance(value, dict):
            raise Fault(f"{name} is not an object.")
        for field in self.required:
            if field not in value:
                raise Fault(f"missing field `{field}`")
        found = {}
        for field, given in value.items():
            shape = self.fields.get(field)
            if shape is None:
                shown = field[:64].encode("ascii", "backslashreplace").decode()
                raise Fault(f"unknown field `{shown}`, expected one of {', '.join(self.fields)}")
            if given is not None or field in self.required:
                found[field] = shape.check(given, field)
        return found

    def schema(self) -> dict[str, Any]:
        return {"$ref": f"#/components/schemas/{self.title}"}

    def whole_schema(self) -> dict[str, Any]:
        properties = {}
        for field, shape in self.fields.items():
            told = shape.schema()
            properties[field] = told if field in self.required else {"anyOf": [told, {"type": "null"}]}
        required = {"required": list(self.required)} if self.required else {}
        return {"type": "object", "properties": properties, "additionalProperties": False, **required}

    def inner(self) -> tuple[Body, ...]:
        """All bodies in this one."""
        found: list[Body] = []
        for shape in self.fields.values():
            one = shape.item if isinstance(shape, Items) else shape
            if isinstance(one, Body):
                found += [one, *one.inner()]
        return tuple(found)


def _about(text: str) -> dict[str, str]:
    return {"description": text} if text else {}
