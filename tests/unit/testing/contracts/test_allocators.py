from __future__ import annotations

from collections.abc import Callable

import pytest

from dispy.interfaces import API_VERSION, Allocator
from dispy_testing.contracts import ContractViolation, check_allocator


class Steady(Allocator):
    NAME = "steady"
    API_VERSION = API_VERSION

    def rank(self, busy: int, slots: int) -> float:
        return -slots


class Wordy(Steady):
    def rank(self, busy: int, slots: int) -> float:
        return "first"  # type: ignore[return-value]


class Endless(Steady):
    def rank(self, busy: int, slots: int) -> float:
        return float("inf") if busy else 0.0


class Remembers(Steady):
    def __init__(self) -> None:
        self.asked = 0

    def rank(self, busy: int, slots: int) -> float:
        self.asked += 1
        return self.asked


def test_the_contract_can_be_kept() -> None:
    check_allocator(Steady)


@pytest.mark.parametrize(
    ("allocator", "rule"),
    [
        (Wordy, "rank must return a finite number, but gave 'first'"),
        (Endless, "rank must return a finite number, but gave inf"),
        (Remembers, "rank must depend on its arguments alone"),
    ],
)
def test_violations_are_named(allocator: Callable[[], Allocator], rule: str) -> None:
    with pytest.raises(ContractViolation, match=rule):
        check_allocator(allocator)
