from __future__ import annotations

import math
from typing import Any

import pytest

from dispy.errors import UsageError
from dispy.sizes import parse_size, text_of_part, too_large


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (0, 0),
        (7, 7),
        (1e3, 1000),
        ("0", 0),
        ("12", 12),
        ("64k", 65536),
        (" 2 M ", 2 * 1024**2),
        ("1.5g", 3 * 1024**3 // 2),
        ("1T", 1024**4),
        ("3kb", 3000),
        ("3KiB", 3072),
        ("2GB", 2 * 10**9),
        ("9b", 9),
    ],
)
def test_sizes(text: Any, size: int) -> None:
    assert parse_size(text, "it") == size


@pytest.mark.parametrize(
    "value", ["", "k", "-1", "1x", "1 2", "1e3", -1, True, None, math.nan, math.inf, b"1"]
)
def test_what_is_no_size(value: Any) -> None:
    with pytest.raises(UsageError, match='^it must be a number of bytes such as 1048576 or "1m", not '):
        parse_size(value, "it")


def test_what_is_too_large() -> None:
    assert too_large("x", 10**12, 0, "the limit") == ""
    assert too_large("x", 8, 8, "the limit") == ""
    assert too_large("x", 9, 8, "the limit") == "file 'x' has 9 bytes, more than the 8 of the limit"


@pytest.mark.parametrize(
    ("part", "total", "text"),
    [
        (1_230_000_000, 5_000_000_000, "1.2 of 5.0 GB"),
        (0, 40_000_000, "0.0 of 40.0 MB"),
        (500, 1000, "0.5 of 1.0 KB"),
    ],
)
def test_parts_for_people(part: int, total: int, text: str) -> None:
    assert text_of_part(part, total) == text
