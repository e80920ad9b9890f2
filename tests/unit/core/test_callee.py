from __future__ import annotations

import functools
from typing import Any

import pytest

from dispy.errors import InvalidComputation
from dispy.packing.callee import examine


def function(x: int) -> int:
    return x


@functools.cache
def cached(x: int) -> int:
    return x


class Thing:
    def method(self, x: int, y: int = 0) -> None: ...

    def takes(self, other: Thing) -> None: ...

    @classmethod
    def of_class(cls, x: int) -> None: ...

    @staticmethod
    def static(x: int) -> None: ...

    def __call__(self, x: int) -> None: ...


class Awaited:
    async def __call__(self) -> None: ...


THING, OTHER = Thing(), Thing()


@pytest.mark.parametrize(
    ("compute", "name", "called", "owner", "instance"),
    [
        (function, "function", function, None, None),
        (cached, "cached", cached, None, None),
        (THING.method, "method", (Thing, "method"), Thing, THING),
        (Thing.of_class, "of_class", (Thing, "of_class"), Thing, None),
        (THING.of_class, "of_class", (Thing, "of_class"), Thing, None),
        (Thing.static, "static", Thing.static, None, None),
        (Thing.method, "method", Thing.method, None, None),
        (THING, "Thing", THING, Thing, None),
    ],
)
def test_what_is_called(compute: Any, name: str, called: Any, owner: Any, instance: Any) -> None:
    callee = examine(compute)
    assert (callee.name, callee.called, callee.owner, callee.instance) == (name, called, owner, instance)


def test_a_partial_is_called_itself_and_named_after_its_function() -> None:
    for inner in (function, functools.partial(function), THING.method):
        partial = functools.partial(inner)
        callee = examine(partial)
        assert callee.called is partial
        assert callee.name in ("function", "method")
        assert callee.instance is None


def test_a_function_put_on_an_instance_under_another_name() -> None:
    bound = function.__get__(THING)
    callee = examine(bound)
    assert callee.called is function
    assert callee.bind_arguments((), {}) == (THING,)


def test_arguments_of_a_function_are_left_alone() -> None:
    assert examine(function).bind_arguments((1,), {}) == (1,)
    assert examine(Thing.of_class).bind_arguments((1,), {}) == (1,)


@pytest.mark.parametrize(
    ("compute", "args", "kwargs", "bound"),
    [
        (THING.method, (1,), {}, (THING, 1)),
        (THING.method, (), {"x": 1}, (THING,)),
        (THING.method, (OTHER, 1), {}, (OTHER, 1)),
        (THING.method, (OTHER,), {"x": 1}, (OTHER,)),
        (THING.takes, (OTHER,), {}, (THING, OTHER)),
        (THING.takes, (OTHER, THING), {}, (OTHER, THING)),
    ],
)
def test_arguments_of_a_method(compute: Any, args: Any, kwargs: Any, bound: Any) -> None:
    assert examine(compute).bind_arguments(args, kwargs) == bound


@pytest.mark.parametrize(
    ("compute", "said"),
    [
        (Thing, "class 'Thing'"),
        (3, "int"),
        (None, "NoneType"),
        (len, "builtin_function_or_method"),
        (functools.partial(len), "partial"),
        ([].append, "builtin_function_or_method"),
        (object(), "object"),
        (Awaited(), "async def"),
    ],
)
def test_what_is_none(compute: Any, said: str) -> None:
    with pytest.raises(InvalidComputation, match=said):
        examine(compute)


def test_builtin_function_is_refused_with_what_to_write() -> None:
    with pytest.raises(InvalidComputation, match=r"lambda x: len\(x\)"):
        examine(len)
