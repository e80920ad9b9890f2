"""What the user gave as computation: which function it comes down to, and what is called at the node."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from types import FunctionType, MethodType
from typing import Any

from dispy.errors import InvalidComputation

REMEDY = "give a function, a method, or the path of a program"


@dataclass(frozen=True, slots=True)
class Callee:
    """A computation that is a Python callable.

    Attributes:
        name: what it is called, for people.
        called: what is called at the node: the object itself or, for a method, (class, method name).
        function: the Python function that it comes down to.
        owner: the class that goes along, if it is a method or an instance.
        instance: the object that a method is bound to, if it is not a class.
    """

    name: str
    called: object
    function: FunctionType
    owner: type | None = None
    instance: object | None = None

    def bind_arguments(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return the positional arguments of one call, with the instance in front if the caller left it out.

        The original expects ``submit(instance, x)`` for a method; ``submit(x)`` takes the instance that the
        method is bound to.
        """
        if self.instance is None or self.owner is None:
            return args
        if args and isinstance(args[0], self.owner):
            try:
                inspect.signature(self.function).bind(*args, **kwargs)
            except TypeError:
                pass  # an instance as ordinary argument: one argument is missing in front
            else:
                return args
        return (self.instance, *args)


def examine(compute: object) -> Callee:
    """Find out what kind of computation *compute* is.

    Raises:
        InvalidComputation: it cannot be one; the message says what to do.
    """
    callee = _examine(compute)
    if callee is None:
        what = f"class {compute.__qualname__!r}" if isinstance(compute, type) else type(compute).__name__
        wrap = f"; or wrap it: lambda x: {compute.__name__}(x)" if inspect.isbuiltin(compute) else ""
        raise InvalidComputation(f"invalid computation type: {what}; {REMEDY}{wrap}")
    problem = _problem_with(callee.function)
    if problem:
        raise InvalidComputation(f"computation {callee.name!r} is {problem}")
    return callee


def _examine(compute: Any) -> Callee | None:
    if isinstance(compute, FunctionType):
        return Callee(compute.__name__, compute, compute)
    if isinstance(compute, MethodType):
        return _examine_method(compute)
    if isinstance(compute, functools.partial):
        inner = _examine(compute.func)
        return None if inner is None else Callee(inner.name, compute, inner.function, inner.owner)
    wrapped = getattr(compute, "__wrapped__", None)
    if isinstance(compute, type) or inspect.isbuiltin(compute):
        return None
    if not callable(compute):
        return None
    if isinstance(wrapped, FunctionType):
        return Callee(wrapped.__name__, compute, wrapped)  # functools.lru_cache, for one
    function = type(compute).__call__
    if isinstance(function, FunctionType):
        return Callee(type(compute).__name__, compute, function, type(compute))
    return None


def _examine_method(method: MethodType) -> Callee | None:
    function = method.__func__
    if not isinstance(function, FunctionType):
        return None
    name = function.__name__
    target = method.__self__
    owner = target if isinstance(target, type) else type(target)
    found = getattr(owner, name, None)
    if isinstance(target, type):
        is_attribute = getattr(found, "__func__", None) is function
        return Callee(name, (owner, name) if is_attribute else method, function, owner)
    return Callee(name, (owner, name) if found is function else function, function, owner, target)


def _problem_with(function: FunctionType) -> str:
    if inspect.isasyncgenfunction(function):
        return "an async generator, which gives no result that could be sent back; collect in a list and return it"
    if inspect.iscoroutinefunction(function):
        return (
            'an "async def" function, whose call only makes a coroutine; '
            "make it a plain function that calls asyncio.run (or trio.run) on this one"
        )
    if inspect.isgeneratorfunction(function):
        return "a generator, which cannot be sent back; return a list instead of using yield"
    return ""
