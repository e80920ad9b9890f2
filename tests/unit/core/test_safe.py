"""What `dispy_node.runner.safe` writes comes back as it was; what nobody writes is refused."""

from __future__ import annotations

import builtins
import datetime as dt
import decimal
import importlib
import math
import pickle
import sys
import tracemalloc
from types import ModuleType
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispy.errors import JobBroken
from dispy.packing import safe
from dispy.packing.safe import decode, decode_exception
from dispy_node.runner import safe as writer
from dispy_node.runner.safe import encode, encode_exception

KINDS = (
    *("TUPLE", "SET", "FROZENSET", "DICT", "INT", "COMPLEX", "TEXT", "BYTEARRAY"),
    *("DATETIME", "DATE", "TIME", "TIMEDELTA", "DECIMAL", "ARRAY", "SCALAR"),
)

zones = st.none() | st.builds(
    dt.timezone,
    st.timedeltas(dt.timedelta(hours=-23), dt.timedelta(hours=23)),
    st.text(st.characters(codec="utf-8")),
)
keys = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.binary()
    | st.complex_numbers()
    | st.decimals(allow_nan=False)
    | st.datetimes(timezones=zones, allow_imaginary=False)
    | st.dates()
    | st.times(timezones=zones)
    | st.timedeltas(),
    lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3),
    max_leaves=5,
)
values = st.recursive(
    keys | st.binary().map(bytearray) | st.integers(-(2**200), 2**200),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner)
        | st.sets(keys, max_size=3)
        | st.dictionaries(keys, inner, max_size=3)
        | st.dictionaries(st.text(), inner, max_size=3)
    ),
    max_leaves=15,
)
raw = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.integers(0, 20) | st.text() | st.binary(), inner),
    max_leaves=20,
)


def shown(value: Any) -> str:
    """Tell values apart that are equal but not the same: 1 and True, 0.0 and -0.0, and treat all NaN as one."""
    match value:
        case list() | tuple():
            return f"{type(value).__name__}({', '.join(map(shown, value))})"
        case set() | frozenset():
            return f"{type(value).__name__}({', '.join(sorted(map(shown, value)))})"
        case dict():
            return f"dict({', '.join(f'{shown(key)}: {shown(item)}' for key, item in value.items())})"
        case dt.datetime() | dt.time():
            return f"{value!r} {value.fold}"
    return f"{type(value).__name__} {value!r}"


def tagged(kind: int, content: object) -> bytes:
    return msgspec.msgpack.encode({kind: content})


def test_both_sides_have_the_same_numbers() -> None:
    def numbers(module: ModuleType) -> dict[str, int]:
        return {name: getattr(module, name) for name in [*KINDS, "MAX_DEPTH"]}

    assert numbers(safe) == numbers(writer)
    assert sorted({*safe.CONTAINERS, *safe.LEAVES}) == list(range(len(KINDS)))


@given(values)
def test_values_come_back_as_they_were(value: object) -> None:
    assert shown(decode(encode(value))) == shown(value)


@pytest.mark.parametrize(
    "value",
    [
        *(sign * 2**bits + more for bits in (5, 7, 8, 63, 64, 65) for more in (-1, 0, 1) for sign in (1, -1)),
        decimal.Decimal("sNaN12"),
        decimal.Decimal("-0E+7"),
        dt.datetime(2026, 1, 2, 3, tzinfo=dt.UTC, fold=1),
        "x" * 31,
        "x" * 32,
        "\ud800",
        {"\ud800": 1},
        {1: 2},
        {},
        list(range(16)),
        {str(number): number for number in range(16)},
        b"",
    ],
    ids=repr,
)
def test_values_at_the_edges_come_back_as_they_were(value: object) -> None:
    assert shown(decode(encode(value))) == shown(value)


def test_deepest_value() -> None:
    value: object = 1
    for number in range(safe.MAX_DEPTH):
        value = ((value,), [value], {"": value}, {1: value})[number % 4]
    assert decode(encode(value)) == value
    with pytest.raises(JobBroken, match="more than 200 levels deep"):
        decode(b"\x91" + encode(value))


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x"),
        KeyError(("a", 1)),
        FileNotFoundError(2, "gone", "name"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"),
        StopIteration(),
        ZeroDivisionError(math.inf),
    ],
    ids=repr,
)
def test_builtin_exceptions_are_rebuilt(error: Exception) -> None:
    rebuilt = decode_exception(encode_exception(error))
    assert type(rebuilt) is type(error)
    assert (rebuilt.args, str(rebuilt)) == (error.args, str(error))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        encode(["KeyboardInterrupt", ()]),
        encode(["exec", ("1 / 0",)]),
        encode(["UnicodeDecodeError", (1,)]),
        encode(["ValueError"]),
        encode(["ValueError", [1]]),
        encode(5),
    ],
)
def test_other_exceptions_are_not(data: bytes) -> None:
    assert decode_exception(data) is None


def test_exceptions_that_are_rebuilt_are_builtin() -> None:
    assert {"ValueError", "OSError", "ArithmeticError"} <= set(safe.EXCEPTIONS)
    assert all(getattr(builtins, name, None) is kind for name, kind in safe.EXCEPTIONS.items())


# ---- foreign bytes


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\xa1\xff",
        b"\xdd\xff\xff\xff\xff",
        b"\x91" * 100_000,
        b"\x81\x00" * 100_000,
        msgspec.msgpack.encode({1: 1, 2: 2}),
        msgspec.msgpack.encode({"a": 1, 2: 2}),
        msgspec.msgpack.encode({b"a": 1}),
        msgspec.msgpack.encode({True: 1}),
        msgspec.msgpack.encode(msgspec.msgpack.Ext(5, b"x")),
        msgspec.msgpack.encode([msgspec.msgpack.Ext(5, b"x")]),
        msgspec.msgpack.encode(dt.datetime(2026, 11, 1, tzinfo=dt.UTC)),
        b"\xd6\xff\x00\x00\x00\x00",
        tagged(99, []),
        tagged(-1, []),
        tagged(safe.TUPLE, b"x"),
        tagged(safe.SET, [[]]),
        tagged(safe.DICT, [1]),
        tagged(safe.DICT, [[], 1]),
        tagged(safe.INT, 5),
        tagged(safe.INT, [1, 2]),
        tagged(safe.COMPLEX, ["1", "2"]),
        tagged(safe.COMPLEX, [1.0]),
        tagged(safe.TEXT, b"\xff"),
        tagged(safe.BYTEARRAY, 2**40),
        tagged(safe.BYTEARRAY, [1]),
        tagged(safe.DATETIME, [1.0] * 8),
        tagged(safe.DATETIME, [2026, 13, 1, 0, 0, 0, 0, 0]),
        tagged(safe.DATETIME, [2026, 1, 1, 0, 0, 0, 0, 0, 5]),
        tagged(safe.DATETIME, [2026, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 7]),
        tagged(safe.DATETIME, {}),
        tagged(safe.DATE, [b"1234"]),
        tagged(safe.TIME, [b"123456", 0, 0, 0, 0]),
        tagged(safe.TIMEDELTA, [2**60, 0, 0]),
        tagged(safe.DECIMAL, "one"),
        tagged(safe.DECIMAL, [0, [1], 1]),
        tagged(safe.ARRAY, []),
    ],
    ids=lambda data: repr(data[:20]),
)
def test_foreign_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(JobBroken, match="the node sent something that is not a safe result"):
        decode(data)


@given(values)
def test_pickles_are_refused(value: object) -> None:
    with pytest.raises(JobBroken, match="not a safe result"):
        decode(pickle.dumps(value, 5))


def check_refusal(data: bytes) -> None:
    """Check that *data* is a value or a JobBroken, and takes no more memory than a multiple of its size."""
    tracemalloc.start()
    try:
        decode(data)
        decode_exception(data)
    except JobBroken:
        pass
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 200_000 + 1000 * len(data)


@given(st.binary() | raw.map(msgspec.msgpack.encode))
def test_any_bytes_are_a_value_or_a_broken_job(data: bytes) -> None:
    check_refusal(data)


@given(values.map(encode), st.data())
def test_damaged_results_are_a_value_or_a_broken_job(data: bytes, draw: st.DataObject) -> None:
    position = draw.draw(st.integers(0, len(data) - 1))
    damage = draw.draw(st.binary(min_size=1, max_size=5))
    check_refusal(data[:position] + damage + data[position + draw.draw(st.integers(0, 5)) :])
    check_refusal(data[:position])


# ---- NumPy


@pytest.fixture(name="np")
def numpy_if_there() -> Any:
    return pytest.importorskip("numpy")


def arrays(np: Any) -> list[Any]:
    plain = [np.arange(6).astype(kind).reshape(2, 3) for kind in ("?", "i1", ">u2", "<f2", "f4", "f8", "c16")]
    return [
        *plain,
        *(array.astype(kind) for array in plain[1:3] for kind in ("U5", "S5", "V5", "M8[D]", "m8[25s]")),
        *(np.asfortranarray(array) for array in plain),
        *(array[:, ::2] for array in plain),
        np.array(2.5),
        np.zeros((0, 3), ">f4"),
        np.zeros((3, 0, 2), "U7"),
        np.array([(1, 2.0, [3, 4])], dtype=[("a", ">i4"), ("b", "f8"), ("c", "u1", (2,))]),
        np.zeros((2, 2), np.dtype([("a", "i1"), ("b", "f8")], align=True)),
    ]


def test_arrays_come_back_as_they_were(np: Any) -> None:
    for array in arrays(np):
        back = decode(encode([array]))[0]
        assert type(back) is np.ndarray
        assert (back.dtype, back.shape, back.strides) == (
            array.dtype,
            array.shape,
            array.copy("A").strides,
        )
        assert np.array_equal(back, array)
        assert back.flags.writeable
        assert back.flags.owndata


def test_scalars_come_back_as_they_were(np: Any) -> None:
    record = np.array([(1, 2.0)], dtype=[("a", "i1"), ("b", "f8")])[0]
    scalars = [np.float32(0.1), np.int64(-5), np.bool_(True), np.complex128(1j), np.str_("ä"), np.str_("")]
    for scalar in [*scalars, np.bytes_(b"x"), np.datetime64("2026-01-01T00:00"), np.void(b"abc"), record]:
        back = decode(encode(scalar))
        assert type(back) is type(scalar)
        assert (back.dtype, back) == (scalar.dtype, scalar)


@pytest.mark.parametrize(
    "content",
    [
        ["|O", [1], "C", b"x" * 8],
        ["O", [1], "C", b"x" * 8],
        ["<i8", [2], "C", b"x" * 8],
        ["<i8", [], "C", b""],
        ["<i8", [2**62, 4], "C", b""],
        ["<i8", [-1, -1], "C", b"x" * 8],
        ["<i8", [True], "C", b"x" * 8],
        ["<i8", [1.0], "C", b"x" * 8],
        ["<i8", [1] * 65, "C", b"x" * 8],
        ["<i8", 1, "C", b"x" * 8],
        ["<i8", [1], "K", b"x" * 8],
        ["<i8", [1], "C", "x" * 8],
        ["<i8,<i8", [1], "C", b"x" * 16],
        ["<i8\n", [1], "C", b"x" * 8],
        ["(2,)<i4", [1], "C", b"x" * 8],
        ["|V0", [2**60], "C", b""],
        ["<f16", [1], "C", b"x" * 16],
        ["<M8[xy]", [1], "C", b"x" * 8],
        ["numpy.object_", [1], "C", b"x" * 8],
        [None, [1], "C", b"x" * 8],
        [[8, [["a", 0, "|O", []]]], [1], "C", b"x" * 8],
        [[8, [["a", 4, "<i8", []]]], [1], "C", b"x" * 8],
        [[8, [["a", -8, "<i8", []]]], [1], "C", b"x" * 8],
        [[8, [["a", 0, "<i8", []], ["a", 0, "<i8", []]]], [1], "C", b"x" * 8],
        [[8, [["a", 0, "<i4", [3]]]], [1], "C", b"x" * 8],
        [[8, [[1, 0, "<i8", []]]], [1], "C", b"x" * 8],
        [[8, [["a", 0, [8, []], []]]], [1], "C", b"x" * 8],
        [[0, []], [2**60], "C", b""],
        [["8", []], [1], "C", b"x" * 8],
    ],
    ids=repr,
)
def test_foreign_arrays_are_refused(np: Any, content: object) -> None:
    for data in (tagged(safe.ARRAY, content), tagged(safe.SCALAR, content)):
        with pytest.raises(JobBroken, match="not a safe result"):
            decode(data)


def test_a_scalar_has_no_dimensions(np: Any) -> None:
    with pytest.raises(JobBroken, match="a scalar with dimensions"):
        decode(tagged(safe.SCALAR, ["<i8", [1], "C", b"x" * 8]))


@given(st.data())
def test_damaged_arrays_are_a_value_or_a_broken_job(draw: st.DataObject) -> None:
    np = pytest.importorskip("numpy")
    data = encode(draw.draw(st.sampled_from(arrays(np))))
    position = draw.draw(st.integers(0, len(data) - 1))
    check_refusal(data[:position] + draw.draw(st.binary(max_size=3)) + data[position + 1 :])


def test_an_array_takes_no_more_memory_than_its_bytes_for_its_shape(np: Any) -> None:
    tracemalloc.start()
    decode(tagged(safe.ARRAY, ["|V2147483647", [0], "C", b""]))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 200_000


def test_a_client_without_numpy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numpy", None)
    with pytest.raises(
        JobBroken, match=r"numpy cannot be imported at the client .*install it there, or return"
    ):
        decode(tagged(safe.ARRAY, ["<i8", [1], "C", b"x" * 8]))


def test_numpy_is_imported_for_arrays_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is imported")

    monkeypatch.setattr(importlib, "import_module", refuse)
    assert decode(encode([1, (2.5, "x", b"y")])) == [1, (2.5, "x", b"y")]
