"""Frozen values with named fields: the few lines of dataclasses that are needed, since importing those takes longer
than making a virtual machine (17 ms against 3 ms). To a type checker it is dataclasses.dataclass (record.pyi)."""

from __future__ import annotations

__all__ = ["record", "replace"]


def record(*, frozen):
    """A class decorator; only frozen=True, fields without defaults first, __post_init__ as in dataclasses.

    A class may name fields in HEX: its repr has them in hexadecimal.
    """
    assert frozen

    def decorate(cls):
        fields = tuple(cls.__annotations__)
        in_hex = getattr(cls, "HEX", ())

        def init(self, *args, **kwargs):
            if len(args) > len(fields) or not kwargs.keys() <= set(fields[len(args) :]):
                raise TypeError(_complaint(cls, fields, len(args), kwargs))
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

        def text(self, field):
            value = getattr(self, field)
            return f"{field}={hex(value) if field in in_hex and isinstance(value, int) else repr(value)}"

        cls.__init__ = init
        cls.__setattr__ = cls.__delattr__ = refuse
        cls.__eq__ = lambda self, other: values_of(self) == values_of(other) if type(other) is cls else NotImplemented
        cls.__hash__ = lambda self: hash(values_of(self))
        cls.__repr__ = lambda self: f"{cls.__name__}({', '.join(text(self, field) for field in fields)})"
        cls.__match_args__ = fields
        cls.__signature__ = _Signature()
        cls.__dataclass_fields__ = _DataclassFields()
        cls.__dataclass_params__ = _DataclassParams
        cls.__replace__ = replace
        init.__wrapped__ = _Init(cls)
        return cls

    return decorate


def replace(value, **changes):
    """A record like this one, but for these fields, which is checked as any new one is."""
    return type(value)(**({field: getattr(value, field) for field in value.__match_args__} | changes))


def _complaint(cls, fields, given, named):
    """What is wrong with the arguments of a constructor."""
    unknown = [name for name in named if name not in fields]
    if not unknown:
        return f"{cls.__name__} has {len(fields)} fields, each given once: {', '.join(fields)}"
    from difflib import get_close_matches

    near = get_close_matches(unknown[0], fields, 1)
    meant = f"did you mean {near[0]}? It" if near else "it"
    return f"{cls.__name__} has no field {unknown[0]!r}; {meant} has {', '.join(fields)}"


class _DataclassFields:
    """What the functions of dataclasses ask a class for; made when they do, so these work on records too."""

    def __get__(self, instance, cls):
        import dataclasses

        fields = {}
        for name, annotation in cls.__annotations__.items():
            field = dataclasses.field(default=getattr(cls, name, dataclasses.MISSING))
            field.name, field.type, field._field_type = name, annotation, dataclasses._FIELD
            fields[name] = field
        return fields


class _DataclassParams:
    """As dataclasses has them of a decorator's arguments."""

    init = repr = eq = frozen = match_args = True
    order = unsafe_hash = kw_only = slots = weakref_slot = False


class _Signature:
    """What help() and editors ask a class for; made when they do."""

    def __get__(self, instance, cls):
        return _signature(cls)


class _Init:
    """What stands for a constructor when it is asked for its signature."""

    def __init__(self, cls):
        self._cls = cls

    @property
    def __signature__(self):
        return _signature(self._cls, "self")


class _Plain(str):
    """An annotation as it is written."""

    def __repr__(self):
        return str(self)


def _signature(cls, *before):
    from inspect import Parameter, Signature

    kind = Parameter.POSITIONAL_OR_KEYWORD
    parameters = [Parameter(name, kind) for name in before]
    for field, annotation in cls.__annotations__.items():
        default = getattr(cls, field, Parameter.empty)
        parameters.append(Parameter(field, kind, default=default, annotation=_Plain(annotation)))
    return Signature(parameters)
