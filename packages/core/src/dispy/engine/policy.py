"""The fault policy of the core: a job that may have started on a lost node is never started again."""

from __future__ import annotations

from typing import ClassVar

from dispy.interfaces import API_VERSION, FaultPolicy, LostAttempt, Verdict


class CancelPolicy(FaultPolicy):
    """Gives up every attempt of a lost node; the job's result still counts if the node comes back with it."""

    NAME: ClassVar[str] = "cancel"
    API_VERSION: ClassVar[int] = API_VERSION
    HONOURS_REENTRANT: ClassVar[bool] = False

    def decide(self, lost: LostAttempt) -> Verdict:
        """Abandon the job, whatever it is."""
        return Verdict.ABANDON
