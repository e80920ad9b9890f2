"""Sizes in bytes as people write them: ``"64k"``, ``"1.5g"``."""

from __future__ import annotations

import math
import re

from dispy.errors import UsageError

UNITS = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4}

_TEXT = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([kmgt]?)b?", re.IGNORECASE)


def parse_size(value: object, label: str) -> int:
    """Return a number of bytes; 0 means no limit.

    Args:
        value: a number of bytes, or text: a number with k, m, g or t behind it, for powers of 1024.
        label: what it is, for the message.

    Raises:
        UsageError: it is neither, or negative.
    """
    if isinstance(value, str) and (found := _TEXT.fullmatch(value.strip())):
        return int(float(found[1]) * UNITS[found[2].lower()])
    if (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and value >= 0
        and math.isfinite(value)
    ):
        return int(value)
    raise UsageError(f'{label} must be a number of bytes such as 1048576 or "1m", not {value!r}')


def too_large(name: str, size_bytes: int, limit_bytes: int, whose: str) -> str:
    """Say that a file is larger than it may be; empty if it is not.

    Args:
        limit_bytes: 0 for no limit.
        whose: the limit's name and place, for the message.
    """
    if not limit_bytes or size_bytes <= limit_bytes:
        return ""
    return f"file {name!r} has {size_bytes} bytes, more than the {limit_bytes} of {whose}"
