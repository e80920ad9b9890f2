from __future__ import annotations

import enum
import io
import pickle
import sys
from collections.abc import Callable
from typing import Any

import cloudpickle
import pytest

from dispy_node.runner.rebuild import MODULE, REBUILDERS, NotPlain


class Unpickler(pickle.Unpickler):
    """Fails where something has no stand-in."""

    def find_class(self, module: str, name: str) -> Any:
        if module == MODULE:
            if name not in REBUILDERS:
                raise NotPlain(name)
            return REBUILDERS[name]
        return super().find_class(module, name)


def rebuilt(value: object) -> Any:
    return Unpickler(io.BytesIO(cloudpickle.dumps(value))).load()


def counter(start: int) -> Callable[[], int]:
    def count() -> int:
        nonlocal start
        start += 1
        return start

    return count


def make_functions() -> list[tuple[Callable[..., Any], tuple[Any, ...]]]:
    offset = 3

    def plain(number: int, other: int = 4, *, third: int = 5) -> int:
        """Doc."""
        return number + other + third + offset

    def recursive(number: int) -> int:
        return 1 if number < 2 else number * recursive(number - 1)

    def with_module(text: str) -> str:
        return sys.intern(text)

    def unset() -> str:
        try:
            return later
        except NameError:
            return "unset"

    if offset > 3:
        later = ""
    return [(plain, (1,)), (recursive, (5,)), (with_module, ("x",)), (unset, ()), (lambda: offset, ())]


@pytest.mark.parametrize("number", range(5))
def test_functions(number: int) -> None:
    function, arguments = make_functions()[number]
    function.__module__ = "__main__"
    copy = rebuilt(function)
    assert copy is not function
    assert copy(*arguments) == function(*arguments)
    assert (copy.__name__, copy.__doc__, copy.__defaults__) == (
        function.__name__,
        function.__doc__,
        function.__defaults__,
    )
    assert copy.__kwdefaults__ == function.__kwdefaults__


def test_closures_share_their_variables() -> None:
    count = counter(5)
    first, second = rebuilt([count, count])
    assert (first(), second(), count()) == (6, 7, 6)


def test_classes() -> None:
    class Base:
        kind = "base"

        def __init__(self, value: int) -> None:
            self.value = value

        @property
        def double(self) -> int:
            return 2 * self.value

    class Derived(Base):
        @classmethod
        def make(cls) -> Derived:
            return cls(4)

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Derived) and super().double == other.double

    Base.__module__ = Derived.__module__ = "__main__"
    copy = rebuilt(Derived)
    assert copy is not Derived
    assert (copy.make().double, copy.kind, copy.__mro__[1].__name__) == (8, "base", "Base")
    assert copy(3) == copy(3)


def test_what_is_not_plain_is_left_to_cloudpickle() -> None:
    class Colour(enum.Enum):
        RED = 1

    Colour.__module__ = "__main__"
    with pytest.raises(NotPlain):
        rebuilt(Colour)
