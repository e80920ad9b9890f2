"""What every fault policy must do."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from dispy.interfaces import FaultPolicy, LostAttempt, Verdict
from dispy_testing.contracts.rules import check_identity, require

ATTEMPTS = (1, 2, 3, 10, 1000)


def check_fault_policy(make_policy: Callable[[], FaultPolicy]) -> None:
    """Check a fault policy on every kind of lost attempt.

    Args:
        make_policy: the class, or a function that gives a new policy.

    Raises:
        ContractViolation: it breaks a rule.
    """
    policy, other = make_policy(), make_policy()
    check_identity(type(policy), FaultPolicy)
    honours = policy.HONOURS_REENTRANT
    require(isinstance(honours, bool), f"HONOURS_REENTRANT must be True or False, not {honours!r}")
    verdicts = {}
    for reentrant, pinned, attempt in itertools.product((False, True), (False, True), ATTEMPTS):
        lost = LostAttempt(reentrant=reentrant, pinned=pinned, attempt=attempt)
        verdict = verdicts[lost] = policy.decide(lost)
        require(isinstance(verdict, Verdict), f"decide must return a Verdict, not {verdict!r}")
        if verdict is Verdict.RERUN:
            require(reentrant, f"a job that is not reentrant must never run again, but did for {lost}")
            require(not pinned, f"a job bound to the lost node must not run again, but did for {lost}")
    if honours:
        first = LostAttempt(reentrant=True, pinned=False, attempt=1)
        require(
            verdicts[first] is Verdict.RERUN,
            f"a policy with HONOURS_REENTRANT must run a reentrant job again, but said {verdicts[first]}",
        )
    for lost, verdict in reversed(verdicts.items()):
        again, elsewhere = policy.decide(lost), other.decide(lost)
        require(
            again is verdict and elsewhere is verdict,
            f"decide must depend on its argument alone, but said {verdict}, {again} and {elsewhere} for {lost}",
        )
