"""Enumerations in a few lines, since importing enum and what that imports takes 3 ms, a tenth of a guest's whole start.
To a type checker `Enum` is enum.Enum (enums.pyi)."""

from __future__ import annotations

__all__ = ["Enum"]


class _EnumType(type):
    """Makes a member of each plain attribute of the class: one object, with `name` and `value`. A second name for a
    value is one more for its member."""

    def __init__(cls, name, bases, namespace):
        super().__init__(name, bases, namespace)
        cls._members = {}
        for key, value in namespace.items():
            if not key.startswith("_") and not hasattr(type(value), "__get__"):
                member = next((known for known in cls if known.value == value), None)
                if member is None:
                    member = object.__new__(cls)
                    member.name, member.value = key, value
                setattr(cls, key, member)
                cls._members[key] = member

    def __iter__(cls):
        return (member for name, member in cls._members.items() if member.name == name)

    def __len__(cls):
        return sum(1 for _ in cls)

    def __getitem__(cls, name):
        return cls._members[name]

    def __call__(cls, value):
        for member in cls:
            if member.value == value:
                return member
        raise ValueError(f"{value!r} is no {cls.__name__}")


class Enum(metaclass=_EnumType):
    """Members compare by identity, print like those of enum.Enum, and stay themselves when they are copied or
    pickled."""

    def __repr__(self):
        return f"<{type(self).__name__}.{self.name}: {self.value!r}>"

    def __str__(self):
        return f"{type(self).__name__}.{self.name}"

    def __copy__(self):
        return self

    def __deepcopy__(self, memo):
        return self

    def __reduce__(self):
        return type(self), (self.value,)
