"""Sizes in bytes as people write them: ``"64k"``, ``"1.5G"``, ``"2GB"``, ``"2GiB"``."""

from __future__ import annotations

import math
import re

from dispy.errors import UsageError

UNITS: dict[str, int] = {"": 1, "b": 1} | {
    letter + end: base**power
    for power, letter in enumerate("kmgt", 1)
    for end, base in (("", 1024), ("ib", 1024), ("b", 1000))
}
"""In lower case, as they are written elsewhere too: 2G as for control groups, 2GB for disks, 2GiB for both."""

_TEXT = re.compile(r"([0-9]+)(\.[0-9]*)?\s*([a-z]*)", re.IGNORECASE | re.ASCII)


def size_of_text(text: str) -> int | None:
    """Return a number of bytes, rounded up; None if that is not what *text* says."""
    found = _TEXT.fullmatch(text.strip())
    if found is None or found[3].lower() not in UNITS:
        return None
    unit = UNITS[found[3].lower()]
    return math.ceil(float(found[1] + found[2]) * unit) if found[2] else int(found[1]) * unit


def text_of_part(part: int, total: int) -> str:
    """Write a part of a number of bytes for people: ``"1.2 of 5.0 GB"``."""
    for unit, size in (("GB", 10**9), ("MB", 10**6)):
        if total >= size:
            return f"{part / size:.1f} of {total / size:.1f} {unit}"
    return f"{part / 1000:.1f} of {total / 1000:.1f} KB"


def parse_size(value: object, label: str) -> int:
    """Return a number of bytes; 0 means no limit.

    Args:
        value: a number of bytes, or text: a number with a unit of `UNITS` behind it.
        label: what it is, for the message.

    Raises:
        UsageError: it is neither, or negative.
    """
    if isinstance(value, str) and (size := size_of_text(value)) is not None:
        return size
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
