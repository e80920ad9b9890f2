from __future__ import annotations

from collections.abc import Callable

import pytest

from dispy.engine.policy import CancelPolicy
from dispy.interfaces import API_VERSION, FaultPolicy, LostAttempt, Verdict
from dispy_testing.contracts import ContractViolation, check_fault_policy


class Careful(FaultPolicy):
    NAME = "careful"
    API_VERSION = API_VERSION
    HONOURS_REENTRANT = True

    def decide(self, lost: LostAttempt) -> Verdict:
        may = lost.reentrant and not lost.pinned and lost.attempt < 5
        return Verdict.RERUN if may else Verdict.ABANDON


class RunsAnything(Careful):
    def decide(self, lost: LostAttempt) -> Verdict:
        return Verdict.RERUN


class RunsPinned(Careful):
    def decide(self, lost: LostAttempt) -> Verdict:
        return Verdict.RERUN if lost.reentrant else Verdict.ABANDON


class BreaksItsWord(Careful):
    def decide(self, lost: LostAttempt) -> Verdict:
        return Verdict.ABANDON


class Vague(Careful):
    def decide(self, lost: LostAttempt) -> Verdict:
        return None  # type: ignore[return-value]


class Remembers(Careful):
    def __init__(self) -> None:
        self.asked = 0

    def decide(self, lost: LostAttempt) -> Verdict:
        self.asked += 1
        return super().decide(lost) if self.asked <= 20 else Verdict.ABANDON


class Undecided(Careful):
    HONOURS_REENTRANT = None  # type: ignore[assignment]


@pytest.mark.parametrize("policy", [CancelPolicy, Careful])
def test_policies_that_keep_the_contract(policy: Callable[[], FaultPolicy]) -> None:
    check_fault_policy(policy)


@pytest.mark.parametrize(
    ("policy", "rule"),
    [
        (RunsAnything, "a job that is not reentrant must never run again"),
        (RunsPinned, "a job bound to the lost node must not run again"),
        (BreaksItsWord, "HONOURS_REENTRANT must run a reentrant job again"),
        (Vague, "decide must return a Verdict, not None"),
        (Remembers, "decide must depend on its argument alone"),
        (Undecided, "HONOURS_REENTRANT must be True or False, not None"),
    ],
)
def test_violations_are_named(policy: Callable[[], FaultPolicy], rule: str) -> None:
    with pytest.raises(ContractViolation, match=rule):
        check_fault_policy(policy)
