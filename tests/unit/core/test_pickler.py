from __future__ import annotations

import contextlib
import functools
import io
import operator
import pickle
import sys
import textwrap
import weakref
from types import MemberDescriptorType, ModuleType
from typing import Any

import cloudpickle.cloudpickle as reducers  # type: ignore[import-untyped]
import pytest

from dispy.packing.pickler import (
    ArgumentPickler,
    BundlePickler,
    ByName,
    Filling,
    Names,
    Namespace,
    ValuePickler,
    dump_arguments,
    dump_by_value,
    error_of,
    find,
)


@pytest.fixture
def main(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", module)
    text = """
class C:
    class Inner: pass
    def method(self): return C
def helper(): return C
alias = helper
def compute():
    import json
    return helper(), json
"""
    exec(text, module.__dict__)
    return module


class Loader(pickle.Unpickler):
    namespace: dict[str, Any]

    def persistent_load(self, pid: Any) -> Any:
        assert pid == ("namespace", "__main__")
        return self.namespace


def dumped(value: object, main: ModuleType) -> tuple[bytes, BundlePickler]:
    file = io.BytesIO()
    pickler = BundlePickler(file, vars(main), lambda module: False)
    pickler.dump(value)
    return file.getvalue(), pickler


def loaded(data: bytes, namespace: dict[str, Any]) -> Any:
    loader = Loader(io.BytesIO(data))
    loader.namespace = namespace
    return loader.load()


def test_functions_of_main_live_in_the_namespace(main: ModuleType) -> None:
    functions = {main.compute, main.helper, main.C.method}
    data, pickler = dumped([main.compute, main.C], main)
    assert functions <= set(pickler.functions)
    namespace: dict[str, Any] = {}
    compute, cls = loaded(data, namespace)
    assert compute.__globals__ is namespace
    assert compute()[0] is cls
    assert namespace["helper"].__globals__ is namespace
    assert pickler.found == {"__main__": {"C": main.C, "helper": main.helper, "compute": main.compute}}


SLOTTED = """
import dataclasses
class Plain:
    __slots__ = "one", "__own", "__weakref__"
    def __init__(self): self.one, self.__own = 1, 2
    def own(self): return self.__own
class Single(Plain): __slots__ = "two"
class Open(Plain): pass
class Told: __slots__ = {"three": "what it is"}
class Used: __slots__ = iter(["four", "__dict__"])
@dataclasses.dataclass(slots=True, weakref_slot=True)
class Data: five: int = 5
"""


def rebuilt(value: Any, main: ModuleType, kind: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Pickle and unpickle, as if in a process that has never seen the classes."""
    file = io.BytesIO()
    first = vars(main) if kind is BundlePickler else {}
    if kind is ValuePickler:
        file.write(dump_by_value(value))
    else:
        kind(file, first, lambda module: False).dump(value)
    monkeypatch.setattr(reducers, "_DYNAMIC_CLASS_TRACKER_BY_ID", {})
    return loaded(file.getvalue(), {})


PICKLERS = pytest.mark.parametrize("kind", [BundlePickler, ArgumentPickler, ValuePickler])


@PICKLERS
def test_classes_keep_their_slots(main: ModuleType, monkeypatch: pytest.MonkeyPatch, kind: Any) -> None:
    exec(SLOTTED, main.__dict__)
    pickle.dumps(main.Plain(), 5)  # leaves __slotnames__ in the class
    old = [getattr(main, name) for name in ("Plain", "Single", "Open", "Told", "Used", "Data")]
    new = rebuilt(old, main, kind, monkeypatch)
    assert not any(map(operator.is_, old, new))
    plain, single, opened, told, used, data = new
    assert (plain().own(), plain().one, data().five, told.__slots__["three"]) == (2, 1, 5, "what it is")
    for cls, name in ((plain, "one"), (single, "two"), (told, "three"), (used, "four"), (data, "five")):
        assert type(vars(cls)[name]) is MemberDescriptorType
        assert hasattr(cls(), "__dict__") is (cls is used)
    assert hasattr(opened(), "__dict__")
    for one in (plain(), data()):
        assert weakref.ref(one)() is one


@PICKLERS
def test_locks_of_classes_are_made_anew(main: ModuleType, monkeypatch: pytest.MonkeyPatch, kind: Any) -> None:
    text = """
import functools, threading
class Guarded:
    lock, again = threading.Lock(), threading.RLock()
    @functools.cached_property
    def number(self):
        "What it is."
        with self.lock, self.again: return 4
"""
    exec(text, main.__dict__)
    with main.Guarded.lock:
        cls = rebuilt(main.Guarded, main, kind, monkeypatch)
    assert cls is not main.Guarded
    guarded = cls()
    assert (guarded.number, vars(guarded), cls.number.__doc__) == (4, {"number": 4}, "What it is.")
    assert main.Guarded.lock is not cls.lock


def test_modules_that_are_referred_to_are_noted(main: ModuleType) -> None:
    main.decoder = importlib_json_decoder()
    exec("def uses(): return decoder, decoder.JSONDecoder", main.__dict__)
    _, pickler = dumped([main.uses, contextlib.ExitStack], main)
    assert {"json.decoder", "contextlib"} <= pickler.modules
    assert "__main__" not in pickler.modules


def importlib_json_decoder() -> ModuleType:
    import json.decoder

    return json.decoder


def test_closures_of_a_module_share_its_globals(main: ModuleType) -> None:
    wrapped = contextlib.contextmanager(textwrap.dedent)  # a closure made by contextlib
    data, pickler = dumped(wrapped, main)
    again = loaded(data, {})
    assert again is not wrapped
    assert again.__globals__ is vars(contextlib)
    assert "contextlib" in pickler.modules


def test_cached_functions_go_by_value(main: ModuleType) -> None:
    exec(
        "import functools\n@functools.lru_cache(maxsize=3, typed=True)\ndef cached(n): return n",
        main.__dict__,
    )
    data, _ = dumped(main.cached, main)
    again = loaded(data, {})
    assert again is not main.cached
    assert again.cache_parameters() == {"maxsize": 3, "typed": True}
    assert again(5) == 5


def test_a_filling_gives_names_to_a_namespace(main: ModuleType) -> None:
    data, _ = dumped([Filling(Namespace("__main__"), {"one": 1}), main.helper], main)
    namespace: dict[str, Any] = {}
    nothing, helper = loaded(data, namespace)
    assert nothing is None
    assert namespace["one"] == 1
    assert helper.__globals__ is namespace


def test_attributes_by_name(main: ModuleType) -> None:
    data, _ = dumped(ByName(functools, "partial"), main)
    assert loaded(data, {}) is functools.partial


def test_arguments_need_no_special_loader(main: ModuleType) -> None:
    shipped: Names = {"__main__": {"C": main.C}}
    args = (main.C(), main.C.Inner, main.helper, main.C.method)
    (instance, inner, helper, method) = pickle.loads(dump_arguments(args, shipped, lambda name: False))
    assert type(instance) is main.C
    assert inner is main.C.Inner
    assert helper is not main.helper
    assert helper() is main.C
    assert method is main.C.method


def test_a_name_that_means_something_else_now_is_no_reference(main: ModuleType) -> None:
    instance = main.C()
    (again,) = pickle.loads(dump_arguments((instance,), {"__main__": {"C": int}}, lambda name: False))
    assert type(again).__name__ == "C"
    assert issubclass(ArgumentPickler, pickle.Pickler)


def test_find() -> None:
    assert find({"a": functools}, "a.partial.func") is functools.partial.func  # type: ignore[attr-defined]
    assert find({"a": functools}, "a.nothing.more") is None
    assert find({}, "a") is None


def test_errors_are_returned() -> None:
    assert error_of(lambda: 1) is None
    assert isinstance(error_of(lambda: 1 // 0), ZeroDivisionError)
