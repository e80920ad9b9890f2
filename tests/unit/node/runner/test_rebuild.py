"""Our half of cloudpickle makes of a cloudpickle what cloudpickle makes."""

from __future__ import annotations

import abc
import builtins
import io
import pickle
import sys
import types
from typing import Any

import cloudpickle
import pytest

from dispy_node.runner.rebuild import (
    MODULE,
    REBUILDERS,
    NotPlain,
    builtin_type,
    copy_cell,
    fill_class,
    fill_function,
    import_module,
    make_cell,
    make_class,
    make_function,
)

CODE = compile("def f(a, b=2):\n    return a + b + offset\n", "file.py", "exec").co_consts[0]


class Rebuilder(pickle.Unpickler):
    """Uses ours, and notes which were asked for; anything else of cloudpickle is an error."""

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data))
        self.used: set[str] = set()

    def find_class(self, module: str, name: str) -> Any:
        if module == MODULE:
            self.used.add(name)
            return REBUILDERS[name]
        return super().find_class(module, name)


def rebuild(value: object) -> tuple[Any, set[str]]:
    unpickler = Rebuilder(cloudpickle.dumps(value))
    return unpickler.load(), unpickler.used


def test_functions() -> None:
    def compute(number: int, *, factor: int = 3) -> int:
        """Multiply."""
        return number * factor

    compute.note = "attribute"  # type: ignore[attr-defined]
    made, used = rebuild(compute)
    assert made is not compute
    assert (made(2), made(2, factor=5)) == (6, 10)
    assert (made.__name__, made.__doc__, made.note) == ("compute", "Multiply.", "attribute")
    assert made.__qualname__ == compute.__qualname__
    assert made.__module__ == compute.__module__
    assert made.__kwdefaults__ == {"factor": 3}
    assert {"_make_function", "_function_setstate"} <= used


def test_closures_and_recursion() -> None:
    start = 10

    def factorial(number: int) -> int:
        return number * factorial(number - 1) if number > 1 else start

    made, used = rebuild(factorial)
    assert made(3) == 60
    assert "_make_empty_cell" in used or "_make_cell" in used


def test_variables_of_a_closure_may_be_unset() -> None:
    def compute() -> object:
        return later

    made, _ = rebuild(compute)
    with pytest.raises(NameError):
        made()
    later = 1
    assert compute() == later


def test_globals_are_taken_along() -> None:
    namespace: dict[str, Any] = {"__name__": "__main__", "__builtins__": builtins, "offset": 5}
    function = types.FunctionType(CODE, namespace, "f", (2,))
    made, _ = rebuild(function)
    namespace["offset"] = 100
    assert made(1) == 8


def test_functions_of_one_bundle_share_their_globals() -> None:
    text = "count = 0\ndef add():\n    global count\n    count += 1\ndef read():\n    return count\n"
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(text, namespace)
    (add, read), _ = rebuild((namespace["add"], namespace["read"]))
    add()
    assert (read(), namespace["count"]) == (1, 0)


def test_classes() -> None:
    class Base:
        def __init__(self, content: int) -> None:
            self.content = content

        def doubled(self) -> int:
            return self.content * 2

    class Box(Base):
        """Holds."""

        kind = "box"

        def __init__(self, content: int) -> None:
            super().__init__(content)

        @property
        def half(self) -> float:
            return self.content / 2

        @staticmethod
        def fixed() -> int:
            return 4

        @classmethod
        def make(cls) -> Box:
            return cls(9)

    made, used = rebuild(Box)
    assert made is not Box
    assert (made(4).doubled(), made(4).half, made.fixed(), made.make().content) == (8, 2.0, 4, 9)
    assert (made.__name__, made.__doc__, made.kind) == ("Box", "Holds.", "box")
    assert type(made.make()) is made
    assert {"_make_skeleton_class", "_class_setstate"} <= used
    if sys.version_info >= (3, 13):
        assert made.__firstlineno__ == Box.__firstlineno__


def test_classes_with_slots() -> None:
    class Point:
        __slots__ = ("x", "y")

        def __init__(self, x: int, y: int) -> None:
            self.x, self.y = x, y

    made, _ = rebuild(Point)
    point = made(1, 2)
    assert (point.x, point.y) == (1, 2)
    with pytest.raises(AttributeError):
        point.z = 3


def test_modules_are_imported_also_inside_packages() -> None:
    import xml.dom.minidom

    def compute() -> str:
        return xml.dom.minidom.parseString("<a/>").documentElement.tagName

    made, _ = rebuild(compute)
    assert made() == "a"
    assert import_module("xml.dom.minidom") is sys.modules["xml.dom.minidom"]
    with pytest.raises(ModuleNotFoundError):
        import_module("nowhere_found")


class Meta(type):
    """A metaclass."""


def test_what_is_not_plain_is_left_to_cloudpickle() -> None:
    with pytest.raises(NotPlain, match="metaclass Meta"):
        make_class(Meta, "Made", (object,), {}, None, None)

    class Abstract(abc.ABC):
        @abc.abstractmethod
        def do(self) -> None: ...

    with pytest.raises(NotPlain):
        rebuild(Abstract)
    with pytest.raises(NotPlain, match="abstract class"):
        fill_class(type("Made", (), {}), ({"_abc_impl": None}, {}))


def test_a_function_is_made_in_two_steps() -> None:
    namespace: dict[str, Any] = {}
    function = make_function(CODE, namespace, "f", (2,), None)
    assert namespace == {"__builtins__": builtins}
    fill_function(
        function,
        (
            {"note": 1},
            {"__globals__": {"offset": 5}, "__qualname__": "C.f", "_cloudpickle_submodules": [sys]},
        ),
    )
    assert function(1) == 8
    assert (function.__qualname__, function.__dict__) == ("C.f", {"note": 1})


def test_cells() -> None:
    empty, full = make_cell(), make_cell(1)
    copy_cell(empty, full)
    assert full.cell_contents == 1
    copy_cell(full, empty)
    assert empty.cell_contents == 1
    copy_cell(full, full)
    assert full.cell_contents == 1


def test_types_without_a_public_name() -> None:
    assert builtin_type("CodeType") is types.CodeType


def test_cloudpickle_still_has_what_is_stood_in_for() -> None:
    assert [name for name in REBUILDERS if not hasattr(sys.modules[MODULE], name)] == []
