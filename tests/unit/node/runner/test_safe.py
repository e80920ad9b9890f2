"""What fits into a result without pickle; tests/unit/core/test_safe.py reads it back."""

from __future__ import annotations

import collections
import datetime as dt
import enum
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from dispy_node.runner import safe
from dispy_node.runner.safe import NotSafe, encode, encode_exception


class Point(collections.namedtuple("Point", "x y")):
    __slots__ = ()


class Colour(enum.IntEnum):
    RED = 1


class Text(str):
    __slots__ = ()


class Zone(dt.tzinfo):
    pass


class Own:
    pass


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (Own(), "result is of type test_safe.Own, which does not fit results='safe'"),
        (object, "result is of type type, which"),
        ({"a": [1, 2, 3, Own()]}, "result['a'][3] is of type test_safe.Own, which"),
        ({7: (Point(1, 2),)}, "result[7][0] is of type test_safe.Point, which"),
        ({(1, Colour.RED): 1}, "list(result)[0][1] is of type test_safe.Colour, which"),
        ([{frozenset({Text("x")})}], "list(list(result[0])[0])[0] is of type test_safe.Text, which"),
        (collections.defaultdict(list), "result is of type collections.defaultdict, which"),
        (collections.OrderedDict(), "result is of type collections.OrderedDict, which"),
        ([range(3)], "result[0] is of type range, which"),
        (memoryview(b"x"), "result is of type memoryview, which"),
        ([dt.time(tzinfo=Zone())], "result[0].tzinfo is of type test_safe.Zone, which"),
        ([[ValueError("x")]], "result[0][0] is of type ValueError, which"),
        ({"k" * 500: Own()}, f"result['{'k' * 112}... is of type"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_does_not_fit_is_named(value: object, said: str) -> None:
    with pytest.raises(NotSafe) as caught:
        encode(value)
    assert str(caught.value).replace(f"{__name__}.", "test_safe.").startswith(said)
    assert str(caught.value).endswith(": return numbers, text, bytes, lists, tuples, dicts or NumPy arrays")


def test_cycles_are_refused() -> None:
    around: list[object] = []
    around.append({"again": around})
    with pytest.raises(NotSafe, match="is nested more than 200 levels deep, or contains itself"):
        encode(around)


def test_lists_in_many_places_are_no_cycle() -> None:
    shared = [1]
    assert msgspec.msgpack.decode(encode([shared] * 300)) == [[1]] * 300


def test_what_is_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safe, "MAX_BYTES", 10)
    for value in ("x" * 32, b"x" * 11, [0] * 16, bytearray(11)):
        with pytest.raises(NotSafe, match=r"result\[0\] has a length of"):
            encode([value])


def test_errors_on_the_way_are_told() -> None:
    class Meta(type):
        def __getattribute__(cls, name: str) -> Any:
            if name == "__module__":
                raise RuntimeError("no such thing")
            return super().__getattribute__(name)

    class Strange(metaclass=Meta):
        pass

    with pytest.raises(NotSafe, match=r"result cannot be encoded \(RuntimeError: no such thing\)"):
        encode(Strange())


def test_what_message_pack_has_is_plain_message_pack() -> None:
    value = [None, True, -1, 2**64 - 1, 0.5, "ä", b"\xff", [], {"a": {}}]
    assert msgspec.msgpack.decode(encode(value)) == value


def test_exceptions() -> None:
    assert msgspec.msgpack.decode(encode_exception(ValueError("x"))) == ["ValueError", {safe.TUPLE: ["x"]}]


def deny() -> None:
    raise TypeError("no")


class OwnError(ValueError):
    __reduce__ = deny  # type: ignore[assignment]


@pytest.mark.parametrize(
    "error",
    [
        OwnError("x"),
        ValueError(Own()),
        ExceptionGroup("two", [ValueError()]),
        type("ValueError", (Exception,), {})(),
    ],
)
def test_exceptions_of_which_only_the_text_goes(error: Exception) -> None:
    assert encode_exception(error) == b""


# ---- NumPy


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda np: np.array([None]), "result has dtype object"),
        (lambda np: np.zeros(1, [("a", "i4"), ("b", "O")]), "result has dtype [('a', '<i4'), ('b', 'O')]"),
        (lambda np: np.zeros(1, [("a", [("b", "i4")])]), "result has dtype [('a', [('b', '<i4')])]"),
        (
            lambda np: np.zeros(1, [(("title", "a"), "i4")]),
            "result has dtype [(('title', 'a'), '<i4')], with a title",
        ),
        (lambda np: np.zeros(1, []), "result has dtype []"),
        (lambda np: np.zeros(1, np.dtype((np.record, [("a", "i4")]))), "result has dtype (numpy.record, "),
        (lambda np: np.bytes_(b"a\0"), "result ends in a zero character"),
        (lambda np: np.ma.masked_array([1]), "result is of type numpy.ma"),
        (lambda np: np.rec.array([(1,)], dtype=[("a", "i4")]), "result is of type numpy"),
        (lambda np: type("Own", (np.float64,), {})(1), "result is of type"),
        (lambda np: np.dtype("i4"), "result is of type numpy"),
    ],
)
def test_arrays_that_do_not_fit(make: Callable[[Any], object], said: str) -> None:
    np = pytest.importorskip("numpy")
    with pytest.raises(NotSafe) as caught:
        encode(make(np))
    assert str(caught.value).startswith(said)


def test_long_doubles_do_not_fit() -> None:
    np = pytest.importorskip("numpy")
    if np.dtype(np.longdouble).itemsize == 8:
        pytest.skip("they are doubles here")
    for value in (np.zeros(1, np.longdouble), np.clongdouble(1), np.zeros(1, [("a", np.longdouble)])):
        with pytest.raises(NotSafe, match="result has dtype "):
            encode(value)


def test_arrays_that_are_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    np = pytest.importorskip("numpy")
    monkeypatch.setattr(safe, "MAX_BYTES", 100)
    with pytest.raises(NotSafe, match="result has 104 bytes"):
        encode(np.zeros(13))
