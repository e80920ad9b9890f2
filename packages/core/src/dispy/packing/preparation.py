"""What runs at each node before the first job and after the last: ``setup`` and ``cleanup``."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from types import FunctionType
from typing import Any

from dispy.errors import UsageError

TIMEOUT_S = 600.0
"""How long ``setup`` may take by default, in seconds: enough to read much data from a slow disk or network."""


@dataclass(frozen=True, slots=True)
class Preparation:
    """The two functions, each None if there is none."""

    setup: Callable[..., object] | None = None
    cleanup: Callable[..., object] | None = None

    @property
    def functions(self) -> dict[str, Callable[..., object]]:
        """Those that there are, by what they are for."""
        both = {"setup": self.setup, "cleanup": self.cleanup}
        return {role: function for role, function in both.items() if function is not None}

    def check_arguments(self, args: tuple[Any, ...], where: str) -> None:
        """Check that each function can be called with the ``setup_args`` of the nodes that *where* names.

        Raises:
            UsageError: it cannot.
        """
        for role, function in self.functions.items():
            try:
                inspect.signature(function).bind(*args)
            except TypeError as error:
                raise UsageError(
                    f"{role} function {_name(function)!r} cannot be called with the {len(args)} setup_args of "
                    f"{where}: {error}; setup and cleanup both get setup_args as positional arguments"
                ) from error


def make_preparation(setup: object, cleanup: object) -> Preparation:
    """Understand the parameters ``setup`` and ``cleanup`` of a cluster.

    Raises:
        UsageError: one of them cannot be used.
    """
    first = None if setup is None else _checked("setup", setup, "give a function")
    last = (
        None if isinstance(cleanup, bool) else _checked("cleanup", cleanup, "give True, False or a function")
    )
    return Preparation(first, last)


def checked_timeout(setup_timeout: object) -> float:
    """Check the parameter ``setup_timeout``.

    Raises:
        UsageError: it is no time in seconds.
    """
    if isinstance(setup_timeout, (int, float)) and not isinstance(setup_timeout, bool):
        seconds = float(setup_timeout)
        if seconds > 0 and not math.isnan(seconds):
            return seconds
    raise UsageError(f"setup_timeout must be a number of seconds above 0, not {setup_timeout!r}")


def _checked(role: str, value: object, remedy: str) -> Callable[..., object]:
    function = value
    while isinstance(function, functools.partial):
        function = function.func
    if not isinstance(function, FunctionType) or not callable(value):
        raise UsageError(f"{role}={value!r} is not a plain function: {remedy}, or a functools.partial of one")
    lazy = inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
    if lazy or inspect.isgeneratorfunction(function):
        raise UsageError(
            f"{role} function {function.__name__!r} is an async or generator function, a call of which runs "
            "nothing: make it a plain function"
        )
    return value


def _name(function: Any) -> str:
    while isinstance(function, functools.partial):
        function = function.func
    return str(function.__name__)
