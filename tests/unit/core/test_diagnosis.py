from __future__ import annotations

import functools
import threading
from typing import Any

import cloudpickle
import pytest

from dispy.packing.diagnosis import Culprit, find_culprit, global_names, parts, type_name

LOCK = threading.Lock()


def attempt(value: object) -> BaseException | None:
    try:
        cloudpickle.dumps(value)
    except Exception as error:
        return error
    return None


def culprit_in(value: object) -> Culprit:
    error = attempt(value)
    assert error is not None
    return find_culprit(value, attempt, error)


class Slotted:
    __slots__ = ("lock", "name")

    def __init__(self) -> None:
        self.name = "n"
        self.lock = threading.Lock()


class Thing:
    def __init__(self, value: object = None) -> None:
        self.fine = 1
        self.value = value

    def method(self) -> None: ...


class Hides:
    """Its lock is not pickled, but something else is."""

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {"bad": iter_of_nothing()}


def iter_of_nothing() -> Any:
    yield from ()


class Refuses:
    def __reduce_ex__(self, protocol: object) -> Any:
        raise TypeError("refused")


def by_default(lock: object = LOCK) -> None: ...


def by_keyword(*, lock: object = LOCK) -> None: ...


def with_attribute() -> None: ...


with_attribute.lock = LOCK  # type: ignore[attr-defined]


def make_closure(value: object) -> Any:
    def function() -> object:
        return value

    return function


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (LOCK, ()),
        ([1, {"k": (2, LOCK)}], ("element 1", "key 'k'", "element 1")),
        (Thing(Thing(LOCK)), ("attribute 'value'", "attribute 'value'")),
        (Slotted(), ("attribute 'lock'",)),
        (Hides(), ("attribute 'bad'",)),
        (Thing(LOCK).method, ("its instance", "attribute 'value'")),
        (functools.partial(print, LOCK), ("its argument 1",)),
        (functools.partial(print, sep=LOCK), ("its argument 'sep'",)),
        (make_closure([LOCK]), ("closure variable 'value'", "element 0")),
        (make_closure(make_closure(LOCK)), ("closure variable 'value'", "closure variable 'value'")),
        (Refuses(), ()),
    ],
    ids=lambda value: type_name(value) if not isinstance(value, tuple) else "",
)
def test_the_culprit_is_found(value: object, path: tuple[str, ...]) -> None:
    found = culprit_in(value)
    assert found.path == path
    assert attempt(found.value) is not None
    assert str(found.error) in str(found)


@pytest.mark.parametrize(
    ("function", "step"),
    [
        (by_default, "default value 1"),
        (by_keyword, "default of 'lock'"),
        (with_attribute, "attribute 'lock'"),
    ],
)
def test_parts_of_functions(function: Any, step: str) -> None:
    assert (step, LOCK) in list(parts(function))


def test_a_class_that_goes_by_value() -> None:
    namespace: dict[str, Any] = {"__name__": "__main__", "LOCK": LOCK}
    text = """
class Base:
    lock = LOCK
    def method(self): return super().method()
class Derived(Base):
    def method(self): return super().method()
def function(): return Derived()
"""
    exec(text, namespace)
    found = culprit_in(namespace["function"])
    assert found.value is LOCK
    assert found.path[0] == "global variable 'Derived'"
    assert found.path[-1] == "class attribute 'lock'"


def test_a_cycle_ends() -> None:
    loop: list[Any] = [1]
    loop.append(loop)
    loop.append(LOCK)
    assert culprit_in(loop).path == ("element 2",)


def test_a_variable_that_is_not_bound_yet_is_passed_over() -> None:
    def function() -> object:
        return late

    assert list(parts(function)) == []
    late = LOCK
    assert list(parts(function)) == [("closure variable 'late'", LOCK)]


def test_huge_objects_are_given_up_on() -> None:
    tried = []

    def failing(value: object) -> BaseException | None:
        tried.append(value)
        return None if isinstance(value, int) else TypeError("no")

    value = [list(range(100_000)), LOCK]
    found = find_culprit(value, failing, TypeError("no"))
    assert found.error.args == ("no",)
    assert len(tried) < 5000


def test_names_in_inner_functions_count_and_attributes_do_not() -> None:
    def function(value: Any) -> Any:
        return [LOCK for _ in value.Slotted], lambda: Thing

    assert {"LOCK", "Thing"} <= set(global_names(function.__code__))
    assert "Slotted" not in set(global_names(function.__code__))


def test_type_names() -> None:
    assert type_name(3) == "int"
    assert type_name(LOCK) == "_thread.lock"
