"""What users may say about limits."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispy.errors import UsageError
from dispy.limits import MAX_BYTES, MAX_PROCESSES, MAX_S, UNSET, change_limits
from dispy.wire.messages import JobLimits
from dispy_node.engine import attempts


def test_nothing_said_is_no_limits() -> None:
    assert change_limits(None) is None
    assert change_limits(None, timeout=None, cpu_time=None, memory=None, processes=None) is None


def test_each_is_changed_by_itself() -> None:
    limits = change_limits(None, timeout=60, memory="2GB")
    assert limits == JobLimits(timeout_s=60.0, memory_bytes=2_000_000_000)
    assert change_limits(limits, cpu_time=1.5, processes=7, memory=None) == JobLimits(60.0, 1.5, 0, 7)
    assert change_limits(limits, timeout=None, memory=None) is None
    assert change_limits(limits) == limits


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1", 1),
        ("500MB", 500_000_000),
        ("500 mb", 500 * 10**6),
        ("2GiB", 2 * 1024**3),
        ("2G", 2 * 1024**3),
        ("1.5kB", 1500),
        ("1.5 KiB", 1536),
        ("3TB", 3 * 10**12),
        ("7B", 7),
        (" 1MB ", 10**6),
        (12345, 12345),
        (2**80, MAX_BYTES),
    ],
)
def test_amounts_of_memory(text: int | str, size: int | None) -> None:
    if size is None:
        with pytest.raises(UsageError, match="no amount of memory"):
            change_limits(None, memory=text)
    else:
        assert change_limits(None, memory=text) == JobLimits(memory_bytes=size)


@pytest.mark.parametrize(
    "value", [0, -1, "", "0", "GB", "-1GB", "1XB", "1e9", True, 1.5, float("nan"), b"1GB", []]
)
def test_what_is_no_memory_is_refused(value: Any) -> None:
    with pytest.raises(UsageError, match=r"^memory=.* or a text such as .*None for no limit$"):
        change_limits(None, memory=value)


@pytest.mark.parametrize("name", ["timeout", "cpu_time"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), "60", True])
def test_what_is_no_time_is_refused(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=rf"^{name}=.* give seconds above 0"):
        change_limits(None, **{name: value})


@pytest.mark.parametrize("value", [0, -1, 1.5, "3", True])
def test_what_is_no_number_of_processes_is_refused(value: Any) -> None:
    with pytest.raises(UsageError, match=r"^processes=.* give 1 or more"):
        change_limits(None, processes=value)


def test_the_mark_of_what_is_left_alone_can_be_shown() -> None:
    assert repr(UNSET) == "as it is"


@given(st.floats(1e-9, 1e300), st.integers(1, 10**40), st.integers(1, 10**40))
def test_a_node_takes_whatever_is_accepted_here(seconds: float, size: int, count: int) -> None:
    limits = change_limits(None, timeout=seconds, cpu_time=seconds, memory=size, processes=count)
    assert limits is not None
    assert attempts._are_limits(limits)
    assert limits.timeout_s <= MAX_S
    assert limits.processes <= MAX_PROCESSES
