"""What may be said about the turn of jobs."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispy.demands import MAX_PRIORITY, PLAIN, Demands, change_demands
from dispy.errors import UsageError
from dispy.limits import UNSET
from dispy.wire.messages import JobDemand


@given(st.integers(-MAX_PRIORITY, MAX_PRIORITY))
def test_priorities_are_whole_numbers(priority: int) -> None:
    demands = change_demands(PLAIN, priority=priority)
    assert demands == Demands(priority)
    assert change_demands(demands, priority=UNSET) is demands


@pytest.mark.parametrize("given", [None, 1.5, "5", True, MAX_PRIORITY + 1, -MAX_PRIORITY - 1])
def test_nothing_else_is_one(given: Any) -> None:
    with pytest.raises(UsageError, match="is no priority"):
        change_demands(PLAIN, priority=given)


def test_cpus_and_resources_are_changed_one_by_one() -> None:
    demands = change_demands(PLAIN, resources={"gpu": 1, "cpu": 4})
    assert demands.demand == JobDemand(4, False, (("gpu", 1),))
    assert change_demands(demands, exclusive=True).demand == JobDemand(4, True, (("gpu", 1),))
    assert change_demands(demands, cpus=1, resources=None) == PLAIN
    assert change_demands(PLAIN, resources={"cpu": 4}) == change_demands(PLAIN, cpus=4)
    assert change_demands(PLAIN, cpus=4, resources={"cpu": 4}) == change_demands(PLAIN, cpus=4)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"cpus": 0}, "cpus=0 is no amount"),
        ({"cpus": True}, "cpus=True is no amount"),
        ({"cpus": 1.5}, "is no amount"),
        ({"cpus": 2, "resources": {"cpu": 3}}, "differ"),
        ({"resources": {"gpu": 0}}, "is no amount"),
        ({"resources": {"gpu": "1"}}, "is no amount"),
        ({"resources": {1: 1}}, "is no name of a resource"),
        ({"resources": {"x" * 65: 1}}, "is no name of a resource"),
        ({"resources": {f"r{number}": 1 for number in range(16)}}, "15 at most"),
        ({"resources": "gpu"}, "is no dict"),
        ({"exclusive": 1}, "neither True nor False"),
    ],
)
def test_what_cannot_be_had_is_told_at_once(given: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        change_demands(PLAIN, **given)
