"""Reads results that come without pickle, of clusters with ``results="safe"``; `dispy_node.runner.safe` writes them.

Nothing here runs code that a node could choose: the types are those below, a dtype is made from a text that is
checked first, and an exception is of a built-in class. Memory is bounded by a multiple of what has been received.
"""

from __future__ import annotations

import builtins
import importlib
import math
import re
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

import msgspec

from dispy.errors import JobBroken

TUPLE = 0
"""Numbers of kinds; what each holds stands in `dispy_node.runner.safe`."""
SET = 1
FROZENSET = 2
DICT = 3
INT = 4
COMPLEX = 5
TEXT = 6
BYTEARRAY = 7
DATETIME = 8
DATE = 9
TIME = 10
TIMEDELTA = 11
DECIMAL = 12
ARRAY = 13
SCALAR = 14

MAX_DEPTH = 200
"""Deepest nesting of containers."""
MAX_DIMENSIONS = 64
"""Of a NumPy array: before the product of its shape is computed."""
SHOWN = 200
"""What is told of an error that foreign bytes have caused is cut to so many characters."""

PLAIN = frozenset({type(None), bool, int, float, str, bytes})
"""Types of what stands for itself."""
DTYPE = re.compile(
    r"[<>|](b1|[iu][1248]|f[248]|c8|c16|[SUV][1-9][0-9]{0,9}|[Mm]8(\[[0-9]{0,9}[A-Za-z]{1,2}\])?)", re.ASCII
)
"""Dtypes of NumPy that hold no objects and are the same everywhere."""
EXCEPTIONS = {
    kind.__name__: kind
    for kind in vars(builtins).values()
    if isinstance(kind, type) and issubclass(kind, Exception)
}
"""Classes of exceptions that are rebuilt."""


def decode(data: bytes | memoryview) -> Any:
    """Decode a result.

    Raises:
        JobBroken: *data* is no safe result, or it holds a NumPy array and numpy is not installed here.
    """
    try:
        return _rebuild(msgspec.msgpack.decode(data), 0)
    except JobBroken:
        raise
    except Exception as error:  # what msgspec and the constructors of all these types raise at foreign bytes
        reason = f"{type(error).__name__}: {error}"[:SHOWN]
        raise JobBroken(
            f"the node sent something that is not a safe result ({reason}), and results='safe' takes nothing else; "
            "find out what runs at that node"
        ) from error


def decode_exception(data: bytes | memoryview) -> Exception | None:
    """Rebuild the exception of a job; None if it is not of a built-in class, or its arguments did not fit.

    Raises:
        JobBroken: as `decode`.
    """
    if not len(data):
        return None
    match decode(data):
        case [str(name), tuple(args)] if name in EXCEPTIONS:
            try:
                return EXCEPTIONS[name](*args)
            except Exception:  # arguments that its class does not take: then the text has to do
                return None
    return None


def _rebuild(raw: Any, depth: int) -> Any:
    """Make a value of what MessagePack knows.

    This is the only function that calls itself: a deep value must not exhaust Python's stack.

    Args:
        depth: number of containers around it.
    """
    kind = type(raw)
    if kind in PLAIN:
        return raw
    make: Callable[[Any], Any] | None = None
    if kind is dict:
        if len(raw) == 1 and type(next(iter(raw))) is int:
            ((tag, raw),) = raw.items()
            if tag in LEAVES:
                return LEAVES[tag](raw)
            make, kind = CONTAINERS[tag], _checked(raw, list)
        elif not {str}.issuperset(map(type, raw)):
            raise ValueError("keys that are not text")
    if depth >= MAX_DEPTH:
        raise ValueError(f"it is nested more than {MAX_DEPTH} levels deep")
    if kind is dict:
        if not PLAIN.issuperset(map(type, raw.values())):
            for key, item in raw.items():
                raw[key] = _rebuild(item, depth + 1)
        return raw
    if kind is not list:
        raise ValueError(f"a value of type {kind.__name__}")
    if not PLAIN.issuperset(map(type, raw)):
        for index, item in enumerate(raw):
            raw[index] = _rebuild(item, depth + 1)
    return raw if make is None else make(raw)


def _checked(content: Any, kind: type) -> type:
    if type(content) is not kind:
        raise ValueError(f"{type(content).__name__} in place of {kind.__name__}")
    return kind


def _integers(content: Any, *lengths: int) -> list[int]:
    _checked(content, list)
    if len(content) not in lengths or not {int}.issuperset(map(type, content)):
        raise ValueError(f"not a list of {' or '.join(map(str, lengths))} integers")
    return list(content)


def _dict(items: list[Any]) -> dict[Any, Any]:
    return dict(zip(items[::2], items[1::2], strict=True))


def _int(content: Any) -> int:
    _checked(content, bytes)
    return int.from_bytes(content, "big", signed=True)


def _complex(content: Any) -> complex:
    real, imaginary = content
    _checked(real, float)
    _checked(imaginary, float)
    return complex(real, imaginary)


def _text(content: Any) -> str:
    _checked(content, bytes)
    return str(content, "utf-8", "surrogatepass")


def _bytearray(content: Any) -> bytearray:
    _checked(content, bytes)
    return bytearray(content)


def _datetime(content: Any) -> datetime:
    *moment, fold = _integers(content[:8], 8)
    return datetime(*moment, fold=fold, tzinfo=_zone(content[8:]))  # type: ignore[arg-type,misc]


def _date(content: Any) -> date:
    return date(*_integers(content, 3))


def _time(content: Any) -> time:
    *moment, fold = _integers(content[:5], 5)
    return time(*moment, fold=fold, tzinfo=_zone(content[5:]))  # type: ignore[arg-type,misc]


def _zone(content: list[Any]) -> timezone | None:
    if not content:
        return None
    offset, name = _timedelta(content[:3]), content[3:]
    return timezone(offset, *name)


def _timedelta(content: Any) -> timedelta:
    return timedelta(*_integers(content, 3))


def _decimal(content: Any) -> Decimal:
    _checked(content, str)
    return Decimal(content)


def _array(content: Any) -> Any:
    fields, shape, order, data = content
    _checked(data, bytes)
    try:
        numpy: Any = importlib.import_module("numpy")
    except ImportError as error:
        raise JobBroken(
            f"the result holds a NumPy array, and numpy cannot be imported at the client ({error}); "
            "install it there, or return lists"
        ) from error
    dtype = _dtype(numpy, fields)
    if math.prod(_shape(shape)) * dtype.itemsize != len(data) or order not in ("C", "F"):
        raise ValueError(f"{len(data)} bytes for an array of {dtype} with shape {shape}")
    # The array over the received bytes cannot be written to.
    return numpy.ndarray(tuple(shape), dtype, data, order=order).copy(order)


def _scalar(content: Any) -> Any:
    array = _array(content)
    if array.shape:
        raise ValueError("a scalar with dimensions")
    return array[()]


def _dtype(numpy: Any, fields: Any) -> Any:
    if type(fields) is str:
        return numpy.dtype(_dtype_text(fields))
    size, inner = fields
    names, offsets, formats = [], [], []
    for name, offset, text, shape in inner:
        _checked(name, str)
        names.append(name)
        offsets.append(_integers([offset], 1)[0])
        formats.append((_dtype_text(text), tuple(_shape(shape))) if shape else _dtype_text(text))
    size = _integers([size], 1)[0]
    if size < 1:
        raise ValueError("a dtype without a size")
    return numpy.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": size})


def _dtype_text(text: Any) -> str:
    _checked(text, str)
    if not DTYPE.fullmatch(text):
        raise ValueError(f"dtype {text[:SHOWN]!r}")
    return str(text)


def _shape(content: Any) -> list[int]:
    shape = _integers(content, *range(MAX_DIMENSIONS + 1))
    if any(length < 0 for length in shape):
        raise ValueError("a dimension of negative length")
    return shape


CONTAINERS: dict[int, Callable[[list[Any]], Any]] = {
    TUPLE: tuple,
    SET: set,
    FROZENSET: frozenset,
    DICT: _dict,
}
LEAVES: dict[int, Callable[[Any], Any]] = {
    INT: _int,
    COMPLEX: _complex,
    TEXT: _text,
    BYTEARRAY: _bytearray,
    DATETIME: _datetime,
    DATE: _date,
    TIME: _time,
    TIMEDELTA: _timedelta,
    DECIMAL: _decimal,
    ARRAY: _array,
    SCALAR: _scalar,
}
