"""Packs the arguments of jobs. It happens at `submit`, so that what cannot be sent is an error there."""

from __future__ import annotations

import functools
import pickle
import struct
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from dispy.errors import NotPicklable, UsageError
from dispy.model import Pieces, SharedData
from dispy.packing.diagnosis import find_culprit, type_name
from dispy.packing.sharing import (
    BUFFER_BYTES,
    SHARED_BYTES,
    Collection,
    NeedsSharing,
    SharedRef,
    Sharer,
    refuse_large,
)

PROTOCOL = 5
"""Pickle protocol: the newest that every supported Python has."""

LARGE_BYTES = 256 * 1024
"""From this size on, it is worth asking whether the arguments can refer to anything before searching them."""

PLAIN_TYPES = frozenset({bool, bytes, bytearray, float, int, str, type(None)})
"""Values of these types refer to nothing."""

BUFFER_TYPES = frozenset({bytes, bytearray})
"""Arguments of these types are looked at for their size before they are pickled."""

STACK_GLOBAL = pickle.STACK_GLOBAL
"""Ends each reference to a class or function."""

PICKLE_HEAD = 2 + 9
"""Bytes of a pickle of one string before that: protocol, and length of a frame."""

KNOWN_BYTES = 16 * 1024
"""Up to this size it is worth asking whether all in a pickle is known."""

COUNT = struct.Struct("<I")
"""Number of arguments, at the head of a program's job body."""


class ArgumentPacker:
    """Pickles arguments of function jobs. Safe to use from several threads.

    Plain pickle does it, unless the pickle mentions the main module or a local module that the node does not have:
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

    def pack(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes | Pieces:
        """Return the pickle of ``(args, kwargs)``, for `pickle.loads` at a node that has the computation.

        Large bytes among the arguments are not copied: the pickle then comes in pieces.

        Raises:
            NotPicklable: an argument cannot be sent; the message names it.
        """
        return self._pack(args, kwargs, None)

    def pack_job(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], sharer: Sharer
    ) -> tuple[bytes | Pieces, tuple[SharedData, ...]]:
        """Do as `pack` for a job; what is shared, or large, is referred to.

        Returns:
            the pickle, and the shared data without which it cannot be loaded.

        Raises:
            NotPicklable: as `pack`.
            UsageError: shared data of another cluster, or that was released, is among the arguments.
        """
        try:
            if _has_large(args) or (kwargs and _has_large(kwargs.values())):
                return self._pack_shared(args, kwargs, sharer)
            return self._pack(args, kwargs, refuse_large), ()
        except NeedsSharing:
            return self._pack_shared(args, kwargs, sharer)

    def put(self, value: object, sharer: Sharer) -> SharedRef:
        """Pickle what jobs are to share, as it is now.

        Raises:
            NotPicklable: it cannot be sent; the message names what in it.
        """
        from dispy.packing.pickler import KeepingPickler

        collector = _Collector()
        buffers: list[bytes] = []

        def take(buffer: pickle.PickleBuffer) -> bool:
            view = memoryview(buffer)
            if view.nbytes < BUFFER_BYTES or not view.contiguous:
                return True
            buffers.append(bytes(buffer.raw()))
            return False

        try:
            KeepingPickler(collector, self._shipped, self._is_whole, take).dump(value)
        except NeedsSharing:
            raise
        except Exception as failure:  # code of the objects' classes may raise anything
            raise self._explain({"what is put there": value}, failure, None) from failure
        return sharer.put(Pieces(tuple(collector.parts)), buffers)

    def _pack(
        self,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        take: Callable[[pickle.PickleBuffer], bool] | None,
    ) -> bytes | Pieces:
        try:
            for value in args:
                if type(value) in BUFFER_TYPES and len(value) >= LARGE_BYTES:
                    return self._pack_in_pieces(args, kwargs, take)
            data = pickle.dumps((args, kwargs), PROTOCOL, buffer_callback=take)
        except NeedsSharing:
            raise
        except Exception:  # code of the arguments' classes may raise anything; by value it may go well
            return self._pack_carefully(args, kwargs)
        if len(data) >= LARGE_BYTES and _all_plain(args, kwargs):
            return data
        return (
            self._pack_carefully(args, kwargs)
            if self._is_suspect(data) and not self._is_known(data)
            else data
        )

    def _pack_shared(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], sharer: Sharer
    ) -> tuple[bytes, tuple[SharedData, ...]]:
        """Make the body of a job that refers to shared data; see `dispy_node.runner.shared`."""
        collection = Collection(sharer)
        inner = self._pack_carefully(args, kwargs, collection)
        if not collection.needs:
            return inner, ()
        return pickle.dumps(((inner, collection.buffers), None), PROTOCOL), collection.needs

    def _pack_in_pieces(
        self,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        take: Callable[[pickle.PickleBuffer], bool] | None,
    ) -> bytes | Pieces:
        collector = _Collector()
        pickle.Pickler(collector, PROTOCOL, buffer_callback=take).dump((args, kwargs))
        # Only large buffers stand alone, and those refer to nothing; all else is in the small parts.
        small = b"".join(part for part in collector.parts if len(part) < LARGE_BYTES)
        if self._is_suspect(small):
            return self._pack_carefully(args, kwargs)
        return Pieces(tuple(collector.parts))

    def _is_suspect(self, data: bytes) -> bool:
        """Tell whether a pickle mentions what a node may not be able to resolve."""
        count, suspects = self._suspects
        if count != len(sys.modules):
            suspects = self._find_suspects()
        for name in suspects:  # noqa: SIM110 -- once for each job, and twice as fast as any() with a generator
            if name in data:
                return True
        return False

    def _is_known(self, data: bytes) -> bool:
        """Tell whether all that a pickle refers to is in the bundle, under the name that it has here."""
        if len(data) > KNOWN_BYTES:
            return False
        left = data.count(STACK_GLOBAL)  # perhaps more than there are: it may be part of a value
        for module, names in self._shipped.items():
            here = vars(sys.modules.get(module, object))
            for name, value in names.items():
                if left and here.get(name) is value:
                    left -= data.count(_reference(module, name))
        return not left

    def _find_suspects(self) -> tuple[bytes, ...]:
        from dispy.packing.modules import MAINS, is_local

        modules = sys.modules.copy()
        names = [name.encode() for name in MAINS]
        for name, module in modules.items():
            if is_local(module) and not self._is_whole(name):
                names.append(name.encode("utf-8", "surrogatepass"))
        self._suspects = len(modules), tuple(names)
        return tuple(names)

    def _pack_carefully(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], collection: Collection | None = None
    ) -> bytes:
        from dispy.packing.pickler import dump_arguments

        try:
            return dump_arguments((args, kwargs), self._shipped, self._is_whole, collection)
        except UsageError:
            raise
        except Exception as failure:  # as above
            named = {f"argument {number}": value for number, value in enumerate(args, 1)}
            named |= {f"argument {name!r}": value for name, value in kwargs.items()}
            raise self._explain(named, failure, collection) from failure

    def _explain(
        self, named: Mapping[str, object], failure: Exception, collection: Collection | None
    ) -> NotPicklable:
        """Find out what among *named* cannot be pickled."""
        from dispy.packing.pickler import dump_arguments, error_of

        def attempt(value: object) -> BaseException | None:
            return error_of(lambda: dump_arguments(value, self._shipped, self._is_whole, collection))

        for label, value in named.items():
            error = attempt(value)
            if error is not None:
                culprit = find_culprit(value, attempt, error)
                return NotPicklable(
                    f"{label} ({type_name(value)}) cannot be sent to a node: {culprit}; "
                    "pass plain data, or give its class __getstate__ and __setstate__"
                )
        return NotPicklable(f"the arguments cannot be sent to a node: {failure}")


@functools.lru_cache(4096)
def _reference(module: str, name: str) -> bytes:
    """Return what stands in a pickle for the first thing of a module that it refers to."""
    text = pickle.dumps(module, PROTOCOL)[PICKLE_HEAD:-1], pickle.dumps(name, PROTOCOL)[PICKLE_HEAD:-1]
    return b"".join(text) + STACK_GLOBAL


class _Collector:
    """A file for a pickler, which hands large bytes over as they are instead of copying them."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Take a part; what the caller could still change is copied."""
        self.parts.append(data if type(data) is bytes else bytes(data))
        return len(data)


def _has_large(values: Iterable[Any]) -> bool:
    """Tell whether there are bytes that are worth being shared."""
    return any(type(value) in BUFFER_TYPES and len(value) >= SHARED_BYTES for value in values)


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
        if isinstance(value, SharedRef):
            raise UsageError(
                f"argument {number} is shared data, which a program cannot read: send it as a file"
            )
        try:
            text = str(value).encode("utf-8", "surrogateescape")
        except UnicodeEncodeError as error:
            raise UsageError(f"argument {number} is text that cannot be encoded: {error}") from error
        if b"\0" in text:
            raise UsageError(f"argument {number} has a NUL byte, which no program can be given: {value!r}")
        parts.append(text + b"\0")
    return b"".join(parts)
