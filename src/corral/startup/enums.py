"""Enumerations in a few lines, since importing enum and what that imports takes 3 ms, a tenth of a guest's whole start.
To a type checker `Enum` is enum.Enum (enums.pyi)."""

from __future__ import annotations

__all__ = ["Enum"]


class _EnumType(type):
    """Makes a member of each plain attribute of the class: one object, with `name` and `value`."""

    def __init__(cls, name, bases, namespace):
        super().__init__(name, bases, namespace)
        cls._members = []
        for key, value in namespace.items():
            if not key.startswith("_") and not hasattr(type(value), "__get__"):
                member = object.__new__(cls)
                member.name, member.value = key, value
                setattr(cls, key, member)
                cls._members.append(member)

    def __iter__(cls):
        return iter(cls._members)

    def __call__(cls, value):
        for member in cls:
            if member.value == value:
                return member
        raise ValueError(f"{value!r} is no {cls.__name__}")


class Enum(metaclass=_EnumType):
    """Members compare by identity, and print like those of enum.Enum."""

    def __repr__(self):
        return f"<{type(self).__name__}.{self.name}: {self.value!r}>"

    __str__ = __repr__
