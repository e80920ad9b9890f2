"""Results without pickle, for clients that want ``results="safe"``: written here, read by `dispy.packing.safe`.

MessagePack, written by hand: a module that writes it would make every fork dearer, and each value has to be looked
at anyway, because one of a sub-class would arrive as something else than it was.

None, bool, int, float, str, bytes, lists, and dicts whose keys are str, stand for themselves. Anything else is a map
with one entry: the number of its kind (see `TUPLE` and the following) and what it is made of.
"""

from __future__ import annotations

import builtins
import sys
from struct import Struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

TUPLE = 0
"""Numbers of kinds, as in `dispy.packing.safe` (a test compares them). Of this one, the items."""
SET = 1
FROZENSET = 2
DICT = 3
"""Keys and values by turns."""
INT = 4
"""One that has more than 64 bits: two's complement, big endian."""
COMPLEX = 5
TEXT = 6
"""One with lone surrogates, in UTF-8 as if they were none."""
BYTEARRAY = 7
DATETIME = 8
"""Year to microsecond, fold, and if it has a zone: days, seconds, microseconds of its offset, perhaps its name."""
DATE = 9
TIME = 10
"""As `DATETIME`, from the hour on."""
TIMEDELTA = 11
DECIMAL = 12
ARRAY = 13
"""Dtype (text, or size and fields: name, offset, text, shape), shape, order, bytes."""
SCALAR = 14
"""A NumPy scalar, as an array of no dimensions."""

MAX_DEPTH = 200
"""Deepest nesting of containers."""
MAX_BYTES = 0xFFFF_FFFF
"""Longest text, bytes or array: more than that MessagePack cannot tell."""
SHOWN = 120
"""What is told of a place in a value, or of a type, is cut to so many characters."""

REMEDY = "return numbers, text, bytes, lists, tuples, dicts or NumPy arrays"

_DOUBLE, _INT, _UNSIGNED, _LENGTH = Struct(">Bd"), Struct(">Bq"), Struct(">BQ"), Struct(">BI")
_PAIR = Struct(">BBdBd")
_TAGS = [bytes((0x81, kind)) for kind in range(SCALAR + 1)]


class NotSafe(ValueError):
    """A result does not fit; the text says what and where.

    Attributes:
        steps: from the thing outwards: what to write before and behind the name of a container to name the element.
    """

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what
        self.steps: list[tuple[str, str]] = []

    def __str__(self) -> str:
        place = "result"
        for before, behind in reversed(self.steps):
            place = before + place + behind
        return f"{_cut(place)} {self.what}, which does not fit results='safe': {REMEDY}"


def encode(value: object) -> bytes:
    """Encode a result.

    Raises:
        NotSafe: something in it does not fit.
    """
    writer = _Writer()
    try:
        writer.write(value)
        return b"".join(writer.parts)
    except NotSafe:
        raise
    except Exception as error:  # such as a list that another thread of the job is changing
        raise NotSafe(f"cannot be encoded ({type(error).__name__}: {error})") from error


def encode_exception(error: BaseException) -> bytes:
    """Encode an exception of a built-in class whose arguments fit; of any other, the client has the text only."""
    kind = type(error)
    if getattr(builtins, kind.__name__, None) is not kind:
        return b""
    try:
        return encode([kind.__name__, kind.__reduce__(error)[1]])
    except NotSafe:
        # No loss that would have to be told: the traceback's text goes along in any case.
        return b""


class _Writer:
    """Writes one value.

    Attributes:
        parts: what is written so far; arrays are not copied before it is joined.
    """

    def __init__(self) -> None:
        self.parts: list[Any] = []
        self._depth = 0

    def write(self, value: Any) -> None:
        write = _WRITERS.get(type(value))
        if write is None:
            write = _find_writer(value)
        write(self, value)

    # ---- containers

    def write_list(self, values: list[Any]) -> None:
        self._head(len(values), 0x90, 16, 0xDD)
        self._items(values)

    def write_tuple(self, values: tuple[Any, ...]) -> None:
        self.parts.append(_TAGS[TUPLE])
        self._head(len(values), 0x90, 16, 0xDD)
        self._items(values)

    def write_set(self, values: set[Any] | frozenset[Any]) -> None:
        self.parts.append(_TAGS[SET if type(values) is set else FROZENSET])
        self._head(len(values), 0x90, 16, 0xDD)
        self._items(values, "list(", ")")

    def write_dict(self, values: dict[Any, Any]) -> None:
        try:
            names = [str.encode(key) for key in values] if {str}.issuperset(map(type, values)) else None
        except UnicodeEncodeError:
            names = None  # a name with lone surrogates
        self._enter()
        if names is None:
            self.parts.append(_TAGS[DICT])
            self._head(2 * len(values), 0x90, 16, 0xDD)
        else:
            self._head(len(values), 0x80, 16, 0xDF)
        for index, (key, item) in enumerate(values.items()):
            if names is None:
                self._write_at(key, "list(", f")[{index}]")
            else:
                self._data(names[index], 0xA0, 32, 0xDB)
            try:
                self.write(item)
            except NotSafe as error:
                error.steps.append(("", f"[{_cut(repr(key))}]"))
                raise
        self._depth -= 1

    def _items(self, values: Iterable[Any], before: str = "", behind: str = "") -> None:
        self._enter()
        write, index = self.write, -1
        try:
            for index, item in enumerate(values):  # noqa: B007
                write(item)
        except NotSafe as error:
            error.steps.append((before, f"{behind}[{index}]"))
            raise
        self._depth -= 1

    def _write_at(self, value: Any, before: str, behind: str) -> None:
        try:
            self.write(value)
        except NotSafe as error:
            error.steps.append((before, behind))
            raise

    def _enter(self) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise NotSafe(f"is nested more than {MAX_DEPTH} levels deep, or contains itself")

    # ---- single values

    def write_none(self, value: None) -> None:
        self.parts.append(b"\xc0")

    def write_bool(self, value: bool) -> None:
        self.parts.append(b"\xc3" if value else b"\xc2")

    def write_int(self, value: int) -> None:
        if -32 <= value < 128:
            self.parts.append(bytes((value & 0xFF,)))
        elif -(2**63) <= value < 2**63:
            self.parts.append(_INT.pack(0xD3, value))
        elif 0 < value < 2**64:
            self.parts.append(_UNSIGNED.pack(0xCF, value))
        else:
            self.parts.append(_TAGS[INT])
            self.write_bytes(value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))

    def write_float(self, value: float) -> None:
        self.parts.append(_DOUBLE.pack(0xCB, value))

    def write_complex(self, value: complex) -> None:
        self.parts += _TAGS[COMPLEX], _PAIR.pack(0x92, 0xCB, value.real, 0xCB, value.imag)

    def write_str(self, value: str) -> None:
        try:
            data = value.encode()
        except UnicodeEncodeError:
            self.parts.append(_TAGS[TEXT])
            self.write_bytes(value.encode("utf-8", "surrogatepass"))
            return
        self._data(data, 0xA0, 32, 0xDB)

    def write_bytes(self, value: bytes | bytearray) -> None:
        self._data(value, 0, 0, 0xC6)

    def write_bytearray(self, value: bytearray) -> None:
        self.parts.append(_TAGS[BYTEARRAY])
        self.write_bytes(value)

    # ---- those whose modules need not be there

    def write_datetime(self, value: Any) -> None:
        day = value.year, value.month, value.day
        self._fields(DATETIME, (*day, *_clock(value)))

    def write_date(self, value: Any) -> None:
        self._fields(DATE, (value.year, value.month, value.day))

    def write_time(self, value: Any) -> None:
        self._fields(TIME, _clock(value))

    def write_timedelta(self, value: Any) -> None:
        self._fields(TIMEDELTA, (value.days, value.seconds, value.microseconds))

    def write_decimal(self, value: Any) -> None:
        self.parts.append(_TAGS[DECIMAL])
        self.write_str(str(value))

    def write_array(self, array: Any) -> None:
        self._numpy(ARRAY, array)

    def write_scalar(self, value: Any) -> None:
        array = sys.modules["numpy"].asarray(value)
        if array.dtype.kind in "SU" and array[()] != value:
            raise NotSafe("ends in a zero character, as no element of an array can")
        self._numpy(SCALAR, array)

    def _numpy(self, kind: int, array: Any) -> None:
        numpy: Any = sys.modules["numpy"]
        fields = _fields_of(array.dtype)
        if array.nbytes > MAX_BYTES:
            raise NotSafe(f"has {array.nbytes} bytes")
        order = "F" if array.flags.fnc else "C"
        rows = array.T if order == "F" else numpy.ascontiguousarray(array)
        self._fields(kind, (fields, list(array.shape), order))
        self.parts += _LENGTH.pack(0xC6, array.nbytes), rows.reshape(-1).view("u1")

    def _fields(self, kind: int, values: tuple[object, ...]) -> None:
        """Write a list of what needs no tag; that of an array has one place more, for its bytes."""
        self.parts.append(_TAGS[kind])
        self._head(len(values) + (kind >= ARRAY), 0x90, 16, 0xDD)
        for value in values:
            self.write(value)

    # ---- heads

    def _data(self, data: bytes | bytearray, small: int, limit: int, large: int) -> None:
        self._head(len(data), small, limit, large)
        self.parts.append(data)

    def _head(self, length: int, small: int, limit: int, large: int) -> None:
        if length < limit:
            self.parts.append(bytes((small + length,)))
        elif length <= MAX_BYTES:
            self.parts.append(_LENGTH.pack(large, length))
        else:
            raise NotSafe(f"has a length of {length}")


_WRITERS: dict[type, Callable[[_Writer, Any], None]] = {
    type(None): _Writer.write_none,
    bool: _Writer.write_bool,
    int: _Writer.write_int,
    float: _Writer.write_float,
    complex: _Writer.write_complex,
    str: _Writer.write_str,
    bytes: _Writer.write_bytes,
    bytearray: _Writer.write_bytearray,
    list: _Writer.write_list,
    tuple: _Writer.write_tuple,
    set: _Writer.write_set,
    frozenset: _Writer.write_set,
    dict: _Writer.write_dict,
}
_IMPORTED: list[tuple[str, str, Callable[[_Writer, Any], None]]] = [
    ("numpy", "ndarray", _Writer.write_array),
    ("datetime", "datetime", _Writer.write_datetime),
    ("datetime", "date", _Writer.write_date),
    ("datetime", "time", _Writer.write_time),
    ("datetime", "timedelta", _Writer.write_timedelta),
    ("decimal", "Decimal", _Writer.write_decimal),
]
"""Types of modules that are there if there is a value of that type; none is imported for this."""


def _find_writer(value: Any) -> Callable[[_Writer, Any], None]:
    kind = type(value)
    for module, name, write in _IMPORTED:
        if kind is getattr(sys.modules.get(module), name, None):
            return write
    generic = getattr(sys.modules.get("numpy"), "generic", None)
    if generic is not None and issubclass(kind, generic) and kind is value.dtype.type:
        return _Writer.write_scalar
    raise _misfit(kind)


def _misfit(kind: type) -> NotSafe:
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return NotSafe(f"is of type {_cut(name)}")


def _clock(value: Any) -> tuple[object, ...]:
    """Give the fields of a time, or of the time of a day, with its zone."""
    clock = value.hour, value.minute, value.second, value.microsecond, value.fold
    zone = value.tzinfo
    if zone is None:
        return clock
    if type(zone) is not getattr(sys.modules["datetime"], "timezone", None):
        error = _misfit(type(zone))
        error.steps.append(("", ".tzinfo"))
        raise error
    offset, *name = zone.__getinitargs__()
    return (*clock, offset.days, offset.seconds, offset.microseconds, *name)


def _fields_of(dtype: Any) -> object:
    """Describe a dtype: a text, or size and fields."""
    if dtype.names is None:
        return _text_of(dtype, dtype)
    fields = []
    for name in dtype.names:
        inner, offset, *title = dtype.fields[name]
        base, shape = inner.subdtype or (inner, ())
        if title:
            raise NotSafe(f"has dtype {_cut(str(dtype))}, with a title")
        fields.append([name, offset, _text_of(base, dtype), list(shape)])
    if dtype.type is not sys.modules["numpy"].void or not dtype.itemsize:
        raise NotSafe(f"has dtype {_cut(str(dtype))}")
    return [dtype.itemsize, fields]


def _text_of(dtype: Any, whole: Any) -> str:
    """Give the text of a dtype that is the same everywhere; those of long doubles are not.

    Args:
        whole: the dtype that it is a field of, for the message.
    """
    text = str(dtype.str)
    known = dtype.kind in "biufcSUMmV" and dtype.names is None and dtype.itemsize
    long = dtype.kind + str(dtype.itemsize) in ("f12", "f16", "c24", "c32")
    if not known or long or sys.modules["numpy"].dtype(text) != dtype:
        raise NotSafe(f"has dtype {_cut(str(whole))}")
    return text


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN else text[:SHOWN] + "..."
