"""Frozen values with named fields. To a type checker `record` is dataclasses.dataclass; at run time it is the few
lines below, since importing dataclasses takes longer than making a virtual machine (17 ms against 3 ms)."""

from __future__ import annotations

__all__ = ["record"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dataclasses import dataclass as record
else:

    def record(*, frozen):
        """A class decorator; only frozen=True, fields without defaults first, __post_init__ as in dataclasses."""
        assert frozen

        def decorate(cls):
            fields = tuple(cls.__annotations__)

            def init(self, *args, **kwargs):
                if len(args) > len(fields) or not kwargs.keys() <= set(fields[len(args) :]):
                    raise TypeError(f"{cls.__name__} has the fields {', '.join(fields)}")
                values = dict(zip(fields, args)) | kwargs  # noqa: B905  (args may be fewer)
                for field in fields:
                    if field not in values and not hasattr(cls, field):
                        raise TypeError(f"{cls.__name__} needs {field}")
                    object.__setattr__(self, field, values[field] if field in values else getattr(cls, field))
                if hasattr(self, "__post_init__"):
                    self.__post_init__()

            def values_of(self):
                return tuple(getattr(self, field) for field in fields)

            def refuse(self, name, value=None):
                raise AttributeError(f"{cls.__name__} is frozen: {name} cannot be changed")

            cls.__init__ = init
            cls.__setattr__ = cls.__delattr__ = refuse
            cls.__eq__ = lambda self, other: (
                values_of(self) == values_of(other) if type(other) is cls else NotImplemented
            )
            cls.__hash__ = lambda self: hash(values_of(self))
            cls.__repr__ = lambda self: "{}({})".format(
                cls.__name__, ", ".join(f"{field}={getattr(self, field)!r}" for field in fields)
            )
            cls.__match_args__ = fields
            return cls

        return decorate
