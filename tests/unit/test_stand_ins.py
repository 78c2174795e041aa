"""What stands in for slow imports (startup/) does what the real ones do: both get the same at random."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import enum
import pickle
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral.startup import enums, threads
from corral.startup.record import record
from corral.startup.undo import Undo

NAMES = st.sampled_from(["alpha", "beta", "gamma", "delta", "address", "size"])
VALUES = st.one_of(st.integers(), st.text(max_size=4), st.binary(max_size=4), st.none(), st.tuples(st.integers()))


def _class(name: str, bases: tuple[type, ...], body: dict[str, Any]) -> Any:
    """At the top of this module, as pickle wants it."""
    made = type(bases[0])(name, bases, {**body, "__module__": __name__, "__qualname__": name}) if bases else None
    made = made or type(name, (), {**body, "__module__": __name__, "__qualname__": name})
    setattr(sys.modules[__name__], name, made)
    return made


def _outcome(call: Callable[[], Any]) -> Any:
    """What it returns, as text without the class's name; or the kind of exception."""
    try:
        return repr(call()).replace("Ours", "Theirs")
    except Exception as error:
        return type(error)


@st.composite
def _records(draw: st.DrawFn) -> tuple[Any, Any, list[str]]:
    """A class of each kind with the same fields, some with defaults."""
    names = draw(st.lists(NAMES, min_size=1, unique=True))
    without = draw(st.integers(0, len(names)))
    body = {"__annotations__": dict.fromkeys(names, "object")}
    body |= {name: draw(VALUES) for name in names[without:]}  # type: ignore[misc]
    ours = record(frozen=True)(_class("Ours", (), dict(body)))
    theirs = dataclasses.dataclass(frozen=True)(_class("Theirs", (), dict(body)))
    return ours, theirs, names


@given(_records(), st.data())
def test_a_record_is_like_a_dataclass(classes: tuple[Any, Any, list[str]], data: st.DataObject) -> None:
    *kinds, names = classes
    given_ = data.draw(st.lists(VALUES, max_size=len(names) + 1))
    named = data.draw(st.dictionaries(NAMES, VALUES, max_size=3))
    outcomes = [_outcome(lambda kind=kind: kind(*given_, **named)) for kind in kinds]  # type: ignore[misc]
    assert outcomes[0] == outcomes[1]
    if isinstance(outcomes[0], type):
        return
    changes = data.draw(st.dictionaries(NAMES, VALUES, max_size=2))
    other = data.draw(st.lists(VALUES, min_size=len(names), max_size=len(names)))
    for step in (
        lambda kind, one: (one == kind(*other), one != kind(*other), one == kind(*given_, **named), one == 5),
        lambda kind, one: (hash(one), one.__match_args__),
        lambda kind, one: dataclasses.replace(one, **changes),
        lambda kind, one: copy.replace(one, **changes) if sys.version_info >= (3, 13) else None,
        lambda kind, one: (copy.copy(one), copy.copy(one) == one),
        lambda kind, one: (copy.deepcopy(one), copy.deepcopy(one) == one),
        lambda kind, one: [pickle.loads(pickle.dumps(one, protocol)) for protocol in range(2, 6)],
        lambda kind, one: (dataclasses.asdict(one), dataclasses.astuple(one)),
        lambda kind, one: [(field.name, field.type) for field in dataclasses.fields(one)],
        lambda kind, one: setattr(one, names[0], 1),
        lambda kind, one: delattr(one, names[0]),
    ):
        results = [
            _outcome(lambda kind=kind: step(kind, kind(*given_, **named)))  # type: ignore[misc]  # noqa: B023
            for kind in kinds
        ]
        if results[1] is dataclasses.FrozenInstanceError:  # of AttributeError
            results[1] = AttributeError
        assert results[0] == results[1]


@given(st.dictionaries(NAMES.map(str.upper), st.one_of(st.integers(0, 3), st.text(max_size=2)), min_size=1), VALUES)
def test_an_enumeration_is_like_a_real_one(members: dict[str, Any], value: Any) -> None:
    ours = _class("Ours", (enums.Enum,), members)
    body = enum.EnumType.__prepare__("Theirs", (enum.Enum,))
    body.update({**members, "__module__": __name__, "__qualname__": "Theirs"})
    theirs: Any = enum.EnumType("Theirs", (enum.Enum,), body)  # type: ignore[arg-type]
    sys.modules[__name__].Theirs = theirs
    for step in (
        lambda kind: (list(kind), len(kind), [str(member) for member in kind]),
        lambda kind: [(member.name, member.value) for member in kind],
        lambda kind: kind(value),
        lambda kind: [kind(wanted) is kind[name] for name, wanted in members.items()],
        lambda kind: [getattr(kind, name) is kind[name] for name in members],
        lambda kind: kind["NONE"],
        lambda kind: [copy.copy(member) is member and copy.deepcopy(member) is member for member in kind],
        lambda kind: [pickle.loads(pickle.dumps(member)) is member for member in kind],
        lambda kind: [[one == other for other in kind] for one in kind],
        lambda kind: dict.fromkeys(kind),
    ):
        assert _outcome(lambda: step(ours)) == _outcome(lambda: step(theirs))  # noqa: B023


@given(st.lists(st.booleans(), max_size=8))
def test_steps_are_undone_like_callbacks_of_an_exit_stack(raises: list[bool]) -> None:
    def run(push: Callable[..., object], end: Callable[[], object]) -> tuple[list[int], str]:
        calls: list[int] = []

        def step(number: int) -> None:
            calls.append(number)
            if raises[number]:
                raise ValueError(number)

        for number in range(len(raises)):
            push(step, number)
        try:
            end()
        except ValueError as error:
            return calls, str(error)
        return calls, ""

    undo, stack = Undo(), contextlib.ExitStack()
    assert run(undo.push, undo.run) == run(stack.callback, stack.close)
    assert undo.forget() == []


def test_a_record_shows_what_is_asked_for_in_hexadecimal() -> None:
    made: Any = record(frozen=True)(_class("Ours", (), {"__annotations__": {"address": "int"}, "HEX": ("address",)}))
    assert repr(made(4096)) == "Ours(address=0x1000)"
    with pytest.raises(TypeError, match="did you mean address"):
        made(adress=1)


@pytest.mark.parametrize("condition", [threading.Condition, threads.Condition])
@given(items=st.lists(st.integers(0, 3), max_size=12), consumers=st.integers(1, 4))
@settings(deadline=None)
def test_a_condition_loses_nobody_who_waits(condition: type[Any], items: list[int], consumers: int) -> None:
    """Each of some threads takes its share of what another one brings, and all come to their end."""
    changed, brought, taken = condition(), list[int](), list[int]()
    wanted = [len(items) // consumers + (at < len(items) % consumers) for at in range(consumers)]

    def take(count: int) -> None:
        for _ in range(count):
            with changed:
                while not brought:
                    changed.wait()
                taken.append(brought.pop())

    running = [threading.Thread(target=take, args=(count,), daemon=True) for count in wanted]
    for thread in running:
        thread.start()
    for item in items:
        with changed:
            brought.append(item)
            changed.notify_all()
    for thread in running:
        thread.join(60)
    assert not any(thread.is_alive() for thread in running)
    assert sorted(taken) == sorted(items)
