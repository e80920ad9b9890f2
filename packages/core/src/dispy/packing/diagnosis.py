"""Finds out what it is in an object that cannot be pickled, and where it sits."""

from __future__ import annotations

import dis
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import CodeType, FunctionType, MethodType, ModuleType

MAX_DEPTH = 12
"""How deep to look; what lies deeper is named as a whole."""

MAX_ATTEMPTS = 2000
"""How many values to try, so that the answer for a huge object comes soon."""

GLOBAL_OPERATIONS = frozenset({"LOAD_GLOBAL", "STORE_GLOBAL", "DELETE_GLOBAL", "LOAD_NAME"})

Attempt = Callable[[object], BaseException | None]
"""Tries to pickle a value; returns the exception, or None if it went well."""


@dataclass(frozen=True, slots=True)
class Culprit:
    """What cannot be pickled.

    Attributes:
        path: steps from the object to the value, for people: ``("global variable 'helper'", ...)``.
        value: the innermost value that fails though everything in it can be pickled.
        error: what pickling it said.
    """

    path: tuple[str, ...]
    value: object
    error: BaseException

    def __str__(self) -> str:
        what = f"{type_name(self.value)} cannot be pickled ({self.error})"
        return f"{' > '.join(self.path)}: {what}" if self.path else what


def find_culprit(value: object, attempt: Attempt, error: BaseException) -> Culprit:
    """Look in *value*, which failed with *error*, for the part that is to blame."""
    return _Search(attempt).look(value, error, ()) or Culprit((), value, error)


class _Search:
    """Goes down through everything that fails; something is to blame if nothing in it fails."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._attempts = 0
        self._failed: dict[int, object] = {}
        """Holds what was looked at, so that no other object can have its id."""

    def look(self, value: object, error: BaseException, path: tuple[str, ...]) -> Culprit | None:
        """Return the culprit in *value*, or None if it only fails because of something looked at before."""
        self._failed[id(value)] = value
        innocent = False
        if len(path) < MAX_DEPTH:
            for step, child in parts(value):
                if id(child) in self._failed:
                    innocent = True
                    continue
                self._attempts += 1
                if self._attempts > MAX_ATTEMPTS:
                    break
                failure = self._attempt(child)
                if failure is not None:
                    innocent = True
                    culprit = self.look(child, failure, (*path, step))
                    if culprit is not None:
                        return culprit
        return None if innocent else Culprit(path, value, error)


def parts(value: object) -> Iterator[tuple[str, object]]:
    """Yield (how to name it, value) of everything that is pickled along with *value*."""
    if isinstance(value, FunctionType):
        yield from _parts_of_function(value)
    elif isinstance(value, MethodType):
        yield "its instance", value.__self__
        yield "its function", value.__func__
    elif isinstance(value, functools.partial):
        yield "its function", value.func
        yield from ((f"its argument {number}", child) for number, child in enumerate(value.args, 1))
        yield from ((f"its argument {name!r}", child) for name, child in value.keywords.items())
    elif isinstance(value, dict):
        yield from ((f"key {key!r}", child) for key, child in value.items())
    elif isinstance(value, (list, tuple, set, frozenset)):
        yield from ((f"element {number}", child) for number, child in enumerate(value))
    elif isinstance(value, type):
        yield from ((f"base class {base.__name__!r}", base) for base in value.__bases__)
        for name, child in vars(value).items():
            if name not in ("__dict__", "__weakref__"):
                yield f"class attribute {name!r}", child
    elif not isinstance(value, ModuleType):
        yield f"class {type(value).__name__!r}", type(value)
        yield from _parts_of_instance(value)


def _parts_of_instance(value: object) -> Iterator[tuple[str, object]]:
    try:
        reduced = value.__reduce_ex__(5)
    except Exception:
        return  # it cannot be taken apart, so it is to blame itself
    if not isinstance(reduced, tuple):
        return
    for number, child in enumerate(reduced[1], 1):
        yield f"constructor argument {number}", child
    state = reduced[2] if len(reduced) > 2 else None
    for names in state if isinstance(state, tuple) else (state,):
        if isinstance(names, dict):
            yield from ((f"attribute {name!r}", child) for name, child in names.items())
        elif names is not None:
            yield "its state", names


def _parts_of_function(function: FunctionType) -> Iterator[tuple[str, object]]:
    for name in dict.fromkeys(global_names(function.__code__)):
        if name in function.__globals__:
            yield f"global variable {name!r}", function.__globals__[name]
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        try:
            child = cell.cell_contents
        except ValueError:
            continue  # not bound yet
        yield f"closure variable {name!r}", child
    yield from (
        (f"default value {number}", child) for number, child in enumerate(function.__defaults__ or (), 1)
    )
    yield from ((f"default of {name!r}", child) for name, child in (function.__kwdefaults__ or {}).items())
    yield from ((f"attribute {name!r}", child) for name, child in vars(function).items())


def global_names(code: CodeType) -> Iterator[str]:
    """Yield the names of the globals that code, and the functions in it, use."""
    for instruction in dis.get_instructions(code):
        if instruction.opname in GLOBAL_OPERATIONS:
            yield str(instruction.argval)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from global_names(constant)


def type_name(value: object) -> str:
    """Name the type of a value, with its module unless that is builtins."""
    cls = type(value)
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
