"""What nodes tell of jobs that run: intermediate results, what they log, files that the driver has put in place.

Rules: what the latest attempt of a job tells is passed on, each number once, for a node tells it again on a new link
if it has not learnt that it has arrived. What comes of other attempts has no effect. All is acknowledged, for the node
keeps it until then.
"""

from __future__ import annotations

from dispy.engine.effects import JobChange, SendMessage, TellLog
from dispy.engine.ledger import Ledger
from dispy.engine.records import Job, JobState, Node
from dispy.engine.tables import JobStep, advance_job
from dispy.errors import RemoteProtocolError
from dispy.model import ComputationId, JobStatus
from dispy.wire.messages import LOG, PARTIAL, AckNews, JobNews, News, NewsAck


class Hearing:
    """Takes in what jobs tell while they run."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def find(self, node: Node, computation: str, job: int, attempt: int) -> Job | None:
        """Give the job if this attempt of it is the latest and at that node, as far as is known."""
        known = self._ledger.computations.get(ComputationId(computation))
        placement = None if known is None else known.placements.get(node.id)
        found = None if placement is None else placement.inflight.get(job)
        return found if found is not None and found.attempt == attempt else None

    def results(self, node: Node, message: JobNews) -> None:
        """Take in intermediate results, whose bodies have come, and records of logging.

        Raises:
            RemoteProtocolError: it is something else.
        """
        for news in message.news:
            if news.kind not in (PARTIAL, LOG):
                raise RemoteProtocolError(f"news of job {news.job} is of the unknown kind {news.kind}")
        for news in message.news:
            self._result(node, message.computation, news)
        self._acknowledge(
            node,
            message.computation,
            [NewsAck(news.job, news.attempt, news.number, taken=True) for news in message.news],
        )

    def _result(self, node: Node, computation: str, news: News) -> None:
        job = self.find(node, computation, news.job, news.attempt)
        if job is None or news.number <= job.last_news:
            self._ledger.counters.stale_news += 1
            return
        job.last_news = news.number
        if news.kind == LOG:
            self._ledger.effects.append(TellLog(job, node, news.body, news.mode))
            return
        changes = self._ledger.changes
        if job.state is JobState.ASSIGNED:
            advance_job(job, JobStep.STARTED)
            changes.append(JobChange(job, JobStatus.RUNNING, node))
        if job.state is not JobState.CANCELLING:
            changes.append(JobChange(job, JobStatus.PROVISIONAL_RESULT, node, partial=news.body))

    def file(self, node: Node, computation: str, news: News, *, taken: bool) -> None:
        """Take in that a file has come and has its place, or (then *taken* is false) was refused or lost."""
        self._acknowledge(node, computation, [NewsAck(news.job, news.attempt, news.number, taken)])

    def _acknowledge(self, node: Node, computation: str, acks: list[NewsAck]) -> None:
        if acks and node.link is not None:
            self._ledger.acks.append(SendMessage(node.link, AckNews(computation, acks)))
