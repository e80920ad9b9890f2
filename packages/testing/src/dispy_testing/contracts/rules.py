"""How contract suites state their rules, and the rules that hold for plugins of every kind."""

from __future__ import annotations

import re

from dispy.interfaces import API_VERSION

NAME_PATTERN = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*")
"""Names are typed by people, in addresses and on command lines."""


class ContractViolation(AssertionError):
    """A plugin breaks a rule of its interface; the message is the rule, and what happened instead."""


def require(holds: bool, rule: str) -> None:
    """State a rule.

    Raises:
        ContractViolation: it does not hold.
    """
    if not holds:
        raise ContractViolation(rule)


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
