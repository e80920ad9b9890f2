"""Packs the arguments of jobs. It happens at `submit`, so that what cannot be sent is an error there."""

from __future__ import annotations

import pickle
import struct
import sys
from collections.abc import Callable, Mapping
from typing import Any

from dispy.errors import NotPicklable, UsageError
from dispy.packing.diagnosis import find_culprit, type_name

PROTOCOL = 5
"""Pickle protocol: the newest that every supported Python has."""

LARGE_BYTES = 256 * 1024
"""From this size on, it is worth asking whether the arguments can refer to anything before searching them."""

PLAIN_TYPES = frozenset({bool, bytes, bytearray, float, int, str, type(None)})
"""Values of these types refer to nothing."""

COUNT = struct.Struct("<I")
"""Number of arguments, at the head of a program's job body."""


class ArgumentPacker:
    """Pickles arguments of function jobs. Safe to use from several threads.

    Plain pickle does it, unless the pickle mentions ``__main__`` or a local module that the node does not have:
    then classes and functions that are in the bundle go by name, and others by value.

    Args:
        shipped: module -> name -> function or class that is in the bundle.
        is_whole: tells whether a local module came along as a whole.
    """

    def __init__(self, shipped: dict[str, dict[str, object]], is_whole: Callable[[str], bool]) -> None:
        self._shipped = shipped
        self._is_whole = is_whole
        self._suspects: tuple[int, tuple[bytes, ...]] = (-1, ())
        """Number of loaded modules, and names that a node cannot resolve by itself while it is so."""

    def pack(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
        """Return the pickle of ``(args, kwargs)``, for `pickle.loads` at a node that has the computation.

        Raises:
            NotPicklable: an argument cannot be sent; the message names it.
        """
        try:
            data = pickle.dumps((args, kwargs), PROTOCOL)
        except Exception:  # code of the arguments' classes may raise anything; by value it may go well
            return self._pack_carefully(args, kwargs)
        if len(data) >= LARGE_BYTES and _all_plain(args, kwargs):
            return data
        count, suspects = self._suspects
        if count != len(sys.modules):
            suspects = self._find_suspects()
        for name in suspects:
            if name in data:
                return self._pack_carefully(args, kwargs)
        return data

    def _find_suspects(self) -> tuple[bytes, ...]:
        from dispy.packing.modules import is_local

        modules = sys.modules.copy()
        names = [b"__main__"]
        for name, module in modules.items():
            if is_local(module) and not self._is_whole(name):
                names.append(name.encode("utf-8", "surrogatepass"))
        self._suspects = len(modules), tuple(names)
        return tuple(names)

    def _pack_carefully(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
        from dispy.packing.pickler import dump_arguments, error_of

        try:
            return dump_arguments((args, kwargs), self._shipped, self._is_whole)
        except Exception as failed:  # as above
            failure = failed

        def attempt(value: object) -> BaseException | None:
            return error_of(lambda: dump_arguments(value, self._shipped, self._is_whole))

        named = {f"argument {number}": value for number, value in enumerate(args, 1)}
        named |= {f"argument {name!r}": value for name, value in kwargs.items()}
        for label, value in named.items():
            error = attempt(value)
            if error is not None:
                culprit = find_culprit(value, attempt, error)
                raise NotPicklable(
                    f"{label} ({type_name(value)}) cannot be sent to a node: {culprit}; "
                    "pass plain data, or give its class __getstate__ and __setstate__"
                ) from error
        raise NotPicklable(f"the arguments cannot be sent to a node: {failure}") from failure


def _all_plain(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    return all(type(value) in PLAIN_TYPES for value in args) and all(
        type(value) in PLAIN_TYPES for value in kwargs.values()
    )


def pack_program_arguments(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
    """Return the body of a program's job: each argument becomes a string.

    Raises:
        UsageError: there are keyword arguments, or an argument that no program can be given.
    """
    if kwargs:
        raise UsageError(
            f"a program takes no keyword arguments ({', '.join(map(repr, kwargs))}); give strings in their order"
        )
    parts = [COUNT.pack(len(args))]
    for number, value in enumerate(args, 1):
        try:
            text = str(value).encode("utf-8", "surrogateescape")
        except UnicodeEncodeError as error:
            raise UsageError(f"argument {number} is text that cannot be encoded: {error}") from error
        if b"\0" in text:
            raise UsageError(f"argument {number} has a NUL byte, which no program can be given: {value!r}")
        parts.append(text + b"\0")
    return b"".join(parts)
