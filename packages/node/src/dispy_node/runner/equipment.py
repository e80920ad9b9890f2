"""Variables of the environment that a single job has: what it may use for itself."""

from __future__ import annotations

import os


def pack_variables(variables: dict[str, str]) -> bytes:
    """Make the text of an EQUIP record."""
    return b"".join(f"{name}={value}\0".encode() for name, value in variables.items())


def equip(text: bytes) -> dict[str, str | None]:
    """Set the variables; give what they were, for `unequip`, None for those that were not set."""
    before: dict[str, str | None] = {}
    for item in text.decode().split("\0")[:-1]:
        name, _, value = item.partition("=")
        before[name] = os.environ.get(name)
        os.environ[name] = value
    return before


def unequip(before: dict[str, str | None]) -> None:
    """Give variables the values that they had, whatever the job has made of them."""
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
