from __future__ import annotations

import pytest

from dispy.interfaces import LostAttempt, Verdict
from dispy_faults.rerun import RerunPolicy
from dispy_testing.contracts import check_fault_policy


def test_contract() -> None:
    check_fault_policy(RerunPolicy)


@pytest.mark.parametrize("attempt", [1, 2, 100])
@pytest.mark.parametrize(
    ("reentrant", "pinned", "verdict"),
    [
        (True, False, Verdict.RERUN),
        (True, True, Verdict.ABANDON),
        (False, False, Verdict.ABANDON),
        (False, True, Verdict.ABANDON),
    ],
)
def test_runs_again_what_may_run_elsewhere(
    reentrant: bool, pinned: bool, verdict: Verdict, attempt: int
) -> None:
    lost = LostAttempt(reentrant=reentrant, pinned=pinned, attempt=attempt)
    assert RerunPolicy().decide(lost) is verdict
