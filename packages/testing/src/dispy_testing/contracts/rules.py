"""How contract suites state their rules, and the rules that hold for plugins of every kind."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import trio

from dispy.interfaces import API_VERSION

NAME_PATTERN = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*")
"""Names are typed by people, in addresses and on command lines."""


PATIENCE_S = 10.0
"""What does not happen within this time never will; under a MockClock it costs nothing."""


class ContractViolation(AssertionError):
    """A plugin breaks a rule of its interface; the message is the rule, and what happened instead."""


def require(holds: bool, rule: str) -> None:
    """State a rule.

    Raises:
        ContractViolation: it does not hold.
    """
    if not holds:
        raise ContractViolation(rule)


@contextmanager
def patience(rule: str) -> Iterator[None]:
    """Turn waiting for ever, in a block that runs under trio, into a violation of *rule*.

    Raises:
        ContractViolation: the block has not ended within PATIENCE_S.
    """
    with trio.move_on_after(PATIENCE_S) as scope:
        yield
    if scope.cancelled_caught:
        raise ContractViolation(rule)


@contextmanager
def unwrapping() -> Iterator[None]:
    """Raise the first violation in the block by itself, out of the groups in which nurseries put it."""
    try:
        yield
    except BaseExceptionGroup as group:
        violation = _first_violation(group)
        if violation is None:
            raise
        raise violation from group


def _first_violation(group: BaseExceptionGroup[BaseException]) -> AssertionError | None:
    for error in group.exceptions:
        found = _first_violation(error) if isinstance(error, BaseExceptionGroup) else error
        if isinstance(found, AssertionError):
            return found
    return None


def is_text(value: object) -> bool:
    """Tell whether *value* is a text, whatever the annotations promise."""
    return isinstance(value, str)


def check_identity(offered: type[object], base: type[object]) -> None:
    """Check what every class that a register hook returns must have.

    Args:
        offered: the class.
        base: the interface that it implements, of `dispy.interfaces`.

    Raises:
        ContractViolation: it could not be registered.
    """
    require(issubclass(offered, base), f"{offered.__name__} must be a subclass of {base.__name__}")
    name = getattr(offered, "NAME", None)
    require(
        isinstance(name, str) and NAME_PATTERN.fullmatch(name) is not None,
        f"NAME must be lower-case words joined by - or _, not {name!r}",
    )
    version = getattr(offered, "API_VERSION", None)
    require(version == API_VERSION, f"API_VERSION must be {API_VERSION}, not {version!r}")
    abstract = sorted(getattr(offered, "__abstractmethods__", ()))
    require(not abstract, f"{offered.__name__} must implement {', '.join(abstract)}")
