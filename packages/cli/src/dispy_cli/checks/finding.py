"""What a check has found."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Level(enum.Enum):
    """How bad it is."""

    OK = "ok"
    WARN = "warn"
    """It may be what the user wants, or matters only for some uses."""
    FAIL = "fail"
    """Something does not work as long as it stays so."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        check: what was looked at, in a word.
        text: what was found.
        remedy: what to do; empty if that is nothing.
    """

    check: str
    level: Level
    text: str
    remedy: str = ""


def split_remedy(error: Exception) -> tuple[str, str]:
    """Take a message of dispy apart into what is wrong and what to do."""
    text, _, remedy = str(error).partition("; ")
    return text, remedy or "do as it says"
