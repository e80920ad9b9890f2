"""The policy ``rerun``: jobs that may run more than once are run again elsewhere."""

from __future__ import annotations

from typing import ClassVar

from dispy.interfaces import API_VERSION, FaultPolicy, LostAttempt, Verdict


class RerunPolicy(FaultPolicy):
    """Runs reentrant jobs again on other nodes, however often; gives up the others.

    A job that is bound to the lost node is given up too: no other node may run it.
    """

    NAME: ClassVar[str] = "rerun"
    API_VERSION: ClassVar[int] = API_VERSION
    HONOURS_REENTRANT: ClassVar[bool] = True

    def decide(self, lost: LostAttempt) -> Verdict:
        """Tell what becomes of the job."""
        if lost.reentrant and not lost.pinned:
            return Verdict.RERUN
        return Verdict.ABANDON
