"""The default policy abandons."""

from __future__ import annotations

import pytest

from dispy.engine.policy import CancelPolicy
from dispy.interfaces import API_VERSION, LostAttempt, Verdict


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("pinned", [False, True])
def test_every_lost_attempt_is_abandoned(reentrant: bool, pinned: bool) -> None:
    assert CancelPolicy().decide(LostAttempt(reentrant, pinned, 1)) is Verdict.ABANDON


def test_what_it_says_of_itself() -> None:
    assert CancelPolicy.NAME == "cancel"
    assert CancelPolicy.API_VERSION == API_VERSION
    assert CancelPolicy.HONOURS_REENTRANT is False
