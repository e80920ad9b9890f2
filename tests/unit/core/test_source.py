"""Source bundles are executed here; `test_bundle` does so in other processes."""

from __future__ import annotations

import functools
import json
import math
import sys
import textwrap
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from dispy.packing.source import SourceUnavailable, source_bundle


@pytest.fixture
def tmp_main(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    def make(text: str) -> ModuleType:
        file = tmp_path / "program.py"
        file.write_text(textwrap.dedent(text))
        module = ModuleType("__main__")
        module.__file__ = str(file)
        monkeypatch.setitem(sys.modules, "__main__", module)
        exec(compile(file.read_text(), str(file), "exec"), module.__dict__)
        return module

    return make


def executed(data: bytes) -> tuple[Any, dict[str, Any]]:
    """Return what is called, and the namespace that it lives in."""
    assert data[:1] == b"S"
    content = json.loads(data[1:])
    module = sys.modules["__main__"] = ModuleType("__main__")
    namespace = module.__dict__
    for source in content["sources"]:
        assert set(source) == {"text", "name"}
        exec(compile(source["text"], source["name"], "exec"), namespace)
    return namespace[content["compute"]], namespace


def test_definitions_come_in_the_order_of_the_file(tmp_main: Any) -> None:
    main = tmp_main(
        """
        import math as m

        SIZE = 3

        def decorator(function):
            return function

        class Base:
            size = SIZE

        class Derived(Base):
            def root(self):
                return m.isqrt(self.size * SIZE)

        THE_ONE = Derived()

        @decorator
        def compute(one=THE_ONE, add=decorator):
            return recursive(one.root())

        def recursive(n):
            return n + recursive(n - 1) if n else 0
        """
    )
    compute, _ = executed(source_bundle(main.compute, {}, {}))
    assert compute() == 6


def test_everything_that_is_mentioned_goes_along(tmp_main: Any) -> None:
    main = tmp_main(
        """
        import math as m
        from math import isqrt as root

        SIZE, RATIO, NAMES, NOTHING = 3, 2.5, ("a", {"b": [1]}), None

        class Base:
            size = SIZE

        class Derived(Base):
            def root(self):
                return root(self.size * SIZE)

        THE_ONE = Derived()
        not_mentioned = (x for x in "")

        def compute():
            not_mentioned = THE_ONE
            return later(not_mentioned.root()), RATIO, NAMES, NOTHING, m.pi

        def later(n):
            return n + later(n - 1) if n else 0
        """
    )
    compute, namespace = executed(source_bundle(main.compute, {}, {}))
    assert compute() == (6, 2.5, ("a", {"b": [1]}), None, math.pi)
    assert compute.__globals__ is namespace
    assert "not_mentioned" not in namespace


def test_names_are_kept_and_aliases_made(tmp_main: Any) -> None:
    main = tmp_main("def one(): return 1\nalias = one\ndef compute(): return alias() + one()\n")
    compute, namespace = executed(
        source_bundle(main.compute, {"compute": main.compute, "floor": math.floor}, {})
    )
    assert compute() == 2
    assert namespace["compute"] is compute
    assert namespace["floor"] is math.floor


def test_things_of_installed_modules_are_imported(tmp_main: Any) -> None:
    main = tmp_main("def compute(): return 1")
    found, namespace = executed(
        source_bundle(textwrap.dedent, {"Any": Any, "Path": Path, "compute": main.compute}, {})
    )
    assert found is textwrap.dedent
    assert namespace["Path"] is Path
    assert namespace["Any"] is Any


def nested_without_variables() -> Any:
    def inner() -> int:
        return 4

    inner.__module__ = "__main__"
    return inner


def test_a_nested_function_without_variables_can_stand_alone(tmp_main: Any) -> None:
    tmp_main("")
    compute, _ = executed(source_bundle(nested_without_variables(), {}, {}))
    assert compute() == 4


UNAVAILABLE = """
    import functools
    import threading

    lock = threading.Lock()

    def uses_lock():
        return lock

    def around(n):
        def closure():
            return n
        return closure

    def deco(function):
        return functools.wraps(function)(lambda *args: function(*args))

    def plain(): return 1
    wrapped_by_call = deco(plain)

    one = [lambda: 1][0]

    class Outer:
        def method(self): return 1
    method = Outer.method
"""


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("uses_lock", "'lock' is neither text nor can it be pickled .*_thread.lock"),
        ("closure", r"closure' uses variables of the function around it \(n\)"),
        ("wrapped_by_call", "'plain' is wrapped by a call, not by a decorator"),
        ("one", "is not made by a def or class statement|cannot stand alone"),
    ],
)
def test_what_has_no_text_that_would_do(tmp_main: Any, name: str, said: str) -> None:
    main = tmp_main(UNAVAILABLE)
    main.closure = main.around(1)
    with pytest.raises(SourceUnavailable, match=said):
        source_bundle(getattr(main, name), {}, {})


def test_two_things_of_one_name(tmp_main: Any) -> None:
    main = tmp_main("def compute(): return 1")
    first = nested_without_variables()
    second = nested_without_variables()
    with pytest.raises(SourceUnavailable, match="two different things are called 'inner'"):
        source_bundle(main.compute, {"a": first, "b": second, "inner": first}, {})


def test_partials(tmp_main: Any) -> None:
    main = tmp_main("class C: pass\ndef compute(a, *, b): return a, type(b).__name__")
    compute, namespace = executed(source_bundle(functools.partial(main.compute, 1, b=main.C()), {}, {}))
    assert compute() == (1, "C")
    assert "C" in namespace


def test_an_instance_that_cannot_be_pickled(tmp_main: Any) -> None:
    tmp_main("")
    with pytest.raises(SourceUnavailable, match="cannot be pickled|can it be pickled"):
        source_bundle(threading.Lock(), {}, {})


def test_local_modules_are_made_importable_first(tmp_main: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "meta_path", sys.meta_path.copy())
    main = tmp_main("def compute():\n    import shipped_with_source\n    return shipped_with_source.X")
    sources = {"shipped_with_source": ("X = 'ü'", False, "shipped_with_source.py")}
    compute, namespace = executed(source_bundle(main.compute, {}, sources))
    monkeypatch.delitem(sys.modules, "shipped_with_source", raising=False)
    assert compute() == "ü"
    assert not {"SOURCES", "install", "SourceImporter"} & set(namespace)
    del sys.modules["shipped_with_source"]


def test_line_numbers_are_those_of_the_file_after_form_feeds(tmp_main: Any) -> None:
    main = tmp_main(
        "TEXT = '\x0c'\n\x0c\ndef first(): pass\n\x0c\ndef compute():\n    \x0c\n    return 1 / 0\n"
    )
    compute, _ = executed(source_bundle(main.compute, {}, {}))
    with pytest.raises(ZeroDivisionError) as here:
        main.compute()
    with pytest.raises(ZeroDivisionError) as there:
        compute()
    assert there.traceback[-1].lineno == here.traceback[-1].lineno == 6
