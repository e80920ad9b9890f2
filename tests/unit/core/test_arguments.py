from __future__ import annotations

import importlib
import pickle
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispy.errors import NotPicklable, UsageError
from dispy.model import Pieces
from dispy.packing.arguments import LARGE_BYTES, ArgumentPacker, pack_program_arguments

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=10,
)

UNPACK = "import pickle, sys; sys.stdout.write(repr(pickle.loads(sys.stdin.buffer.read())))"


def packer(
    shipped: dict[str, object] | None = None, is_whole: Callable[[str], bool] | None = None
) -> ArgumentPacker:
    return ArgumentPacker({"__main__": shipped or {}}, is_whole or (lambda name: False))


def elsewhere(body: bytes) -> str:
    """Return the repr of what *body* is in another process, which has nothing of this one's."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", UNPACK], input=body, capture_output=True, timeout=60, check=True
    )
    return done.stdout.decode()


@pytest.fixture
def main(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", module)
    text = """
class Item:
    def __init__(self, n): self.n = n
    def __repr__(self): return f"Item({self.n})"
    class Inner: pass
def function(): return 5
"""
    exec(text, module.__dict__)
    return module


@given(st.lists(values).map(tuple), st.dictionaries(st.text(), values))
def test_plain_arguments_are_plain_pickles(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    assert pickle.loads(packer().pack(args, kwargs)) == (args, kwargs)


@pytest.mark.parametrize("text", ["__main__", "x" * LARGE_BYTES + "__main__"], ids=["small", "large"])
def test_text_that_looks_like_a_reference_is_only_text(text: str) -> None:
    assert pickle.loads(packer().pack((text, [text]), {"t": text})) == ((text, [text]), {"t": text})


def test_large_plain_arguments_are_pickled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ArgumentPacker, "_pack_carefully", lambda *args: pytest.fail("pickled twice"))
    args = (b"__main__" * LARGE_BYTES, 1)
    body = packer().pack(args, {})
    assert isinstance(body, Pieces)
    assert pickle.loads(b"".join(body.parts)) == (args, {})


def test_a_shipped_class_goes_by_name(main: ModuleType) -> None:
    shipped = {"Item": main.Item}
    for args in ((main.Item(3),), ([{"k": main.Item.Inner}],)):
        body = packer(shipped).pack(args, {})
        assert b"cloudpickle" not in body
        assert b"__main__" in body


def test_a_class_that_is_not_shipped_goes_by_value(main: ModuleType) -> None:
    body = packer({"function": main.function}).pack((main.Item(3),), {"key": [main.Item(4)]})
    assert elsewhere(body) == "((Item(3),), {'key': [Item(4)]})"


def test_a_class_that_was_defined_anew_since_goes_by_value(main: ModuleType) -> None:
    old = main.Item
    exec("class Item:\n    def __repr__(self): return 'new'", main.__dict__)
    assert elsewhere(packer({"Item": old}).pack((main.Item(),), {})) == "((new,), {})"


def test_a_shipped_class_that_only_lives_in_a_namespace_of_its_own_goes_by_name(main: ModuleType) -> None:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec("class Own:\n    class Inner: pass", namespace)
    body = packer({"Own": namespace["Own"]}).pack((namespace["Own"](), namespace["Own"].Inner), {})
    main.Own = node_class = type("Own", (), {"Inner": int})  # what the node has under that name
    (instance, inner), _ = pickle.loads(body)
    assert type(instance) is node_class
    assert inner is int


def test_what_only_fails_together_is_an_error_too() -> None:
    class Twice:
        made = 0

        def __reduce__(self) -> Any:
            Twice.made += 1
            if Twice.made < 3:
                raise ValueError("not yet")
            return int, ()

    with pytest.raises(NotPicklable, match="the arguments cannot be sent to a node: not yet"):
        packer().pack((Twice(),), {})


def test_functions_and_lambdas_as_arguments(main: ModuleType) -> None:
    body = packer().pack((main.function, lambda x: x + 1), {})
    (function, successor), _ = pickle.loads(body)
    assert function is not main.function
    assert (function(), successor(1)) == (5, 2)
    (same,), _ = pickle.loads(packer({"function": main.function}).pack((main.function,), {}))
    assert same is main.function


def test_classes_of_local_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "argument_classes.py").write_text(
        "class A:\n    def __repr__(self): return 'A'\n\nclass B(A): pass\n\ndef f(): return B()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    before = packer()
    before.pack((1,), {})  # the module is not there yet
    module = importlib.import_module("argument_classes")
    monkeypatch.setitem(sys.modules, "argument_classes", module)
    assert elsewhere(before.pack((module.B(),), {})) == "((A,), {})"
    (function,), _ = pickle.loads(before.pack((module.f,), {}))
    assert function is not module.f
    assert repr(function()) == "A"
    is_whole = packer(is_whole=lambda name: name == "argument_classes").pack((module.B(),), {})
    assert b"cloudpickle" not in is_whole


class Holder:
    def __init__(self, value: object) -> None:
        self.value = value


class Refuses:
    def __reduce__(self) -> Any:
        raise ZeroDivisionError("never")


@pytest.mark.parametrize(
    ("args", "kwargs", "said"),
    [
        ((1, threading.Lock()), {}, r"argument 2 \(_thread.lock\) cannot be sent to a node: _thread.lock cannot be"),
        ((), {"x": {"a": [threading.Lock()]}}, r"argument 'x' \(dict\) .*: key 'a' > element 0: _thread.lock"),
        ((Holder((i for i in "")),), {}, r"argument 1 \(.*Holder\).*: attribute 'value': generator cannot"),
        ((Refuses(),), {}, r"argument 1 .*Refuses cannot be pickled \(never\)"),
    ],
    ids=["lock", "nested", "attribute", "raises"],
)  # fmt: skip
def test_an_argument_that_cannot_be_pickled_is_named(args: Any, kwargs: Any, said: str) -> None:
    with pytest.raises(NotPicklable, match=said) as caught:
        packer().pack(args, kwargs)
    assert "__getstate__" in str(caught.value)


@given(st.lists(st.integers() | st.floats() | st.text(st.characters(exclude_characters="\0", codec="utf-8"))))
def test_program_arguments(args: list[Any]) -> None:
    body = pack_program_arguments(tuple(args), {})
    (count,) = struct.unpack_from("<I", body)
    texts = body[4:].decode().split("\0")
    assert count == len(args)
    assert texts == [*map(str, args), ""]


def test_undecodable_file_names_reach_the_program_unchanged() -> None:
    assert pack_program_arguments((b"\xff.dat".decode("utf-8", "surrogateescape"),), {})[4:] == b"\xff.dat\0"


@pytest.mark.parametrize(
    ("args", "kwargs", "said"),
    [
        ((), {"n": 1}, "no keyword arguments .'n'"),
        (("a", "b\0c"), {}, "argument 2 has a NUL byte"),
        (("\ud800",), {}, "argument 1 is text that cannot be encoded"),
    ],
    ids=["keyword", "NUL", "surrogate"],
)
def test_program_arguments_that_cannot_be_passed(args: Any, kwargs: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        pack_program_arguments(args, kwargs)


def test_large_bytes_are_not_copied() -> None:
    data = bytes(LARGE_BYTES)
    body = packer().pack((1, data, "x"), {"key": 2})
    assert isinstance(body, Pieces)
    assert any(part is data for part in body.parts)
    assert len(body) == sum(map(len, body.parts))
    assert pickle.loads(b"".join(body.parts)) == ((1, data, "x"), {"key": 2})


def test_large_bytearray_is_taken_as_it_is_now() -> None:
    data = bytearray(LARGE_BYTES)
    body = packer().pack((data,), {})
    data[0] = 1
    assert isinstance(body, Pieces)
    assert pickle.loads(b"".join(body.parts)) == ((bytearray(LARGE_BYTES),), {})


def test_classes_beside_large_bytes_still_go_by_value(main: ModuleType) -> None:
    body = packer().pack((bytes(LARGE_BYTES), main.Item(3)), {})
    assert isinstance(body, bytes)
    assert "Item(3)" in elsewhere(body)


def test_what_is_shipped_needs_no_second_pickle(main: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    packing = packer(vars(main))
    careful: list[object] = []
    monkeypatch.setattr(packing, "_pack_carefully", lambda args, kwargs: careful.append(args))
    for args in ((main.Item(1),), (main.Item, main.function), ([main.Item(1), main.Item(2)],)):
        assert pickle.loads(packing.pack(args, {}) or b"N.") is not None or careful
    assert careful == [(main.Item, main.function)], "a second reference to the module leaves its name out"


def test_reference_beside_those_to_what_is_shipped_is_seen(main: ModuleType) -> None:
    """In a pickle the name of a module stands once, before the first of its classes."""
    exec("class Other:\n    pass", main.__dict__)
    body = packer({"Item": main.Item}).pack((main.Item(1), main.Other()), {})
    assert isinstance(body, bytes)
    del main.Other
    assert type(pickle.loads(body)[0][1]).__name__ == "Other"


def test_class_that_is_not_the_shipped_one_goes_by_value(main: ModuleType) -> None:
    shipped = main.Item
    exec("class Item:\n    n = 5", main.__dict__)
    body = packer({"Item": shipped}).pack((main.Item(),), {})
    assert isinstance(body, bytes)
    main.Item = shipped
    assert pickle.loads(body)[0][0].n == 5
