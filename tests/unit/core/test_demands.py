"""What may be said about the turn of jobs."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispy.demands import MAX_PRIORITY, PLAIN, Demands, change_demands
from dispy.errors import UsageError
from dispy.limits import UNSET


@given(st.integers(-MAX_PRIORITY, MAX_PRIORITY))
def test_priorities_are_whole_numbers(priority: int) -> None:
    demands = change_demands(PLAIN, priority=priority)
    assert demands == Demands(priority)
    assert change_demands(demands, priority=UNSET) is demands


@pytest.mark.parametrize("given", [None, 1.5, "5", True, MAX_PRIORITY + 1, -MAX_PRIORITY - 1])
def test_nothing_else_is_one(given: Any) -> None:
    with pytest.raises(UsageError, match="is no priority"):
        change_demands(PLAIN, priority=given)
