"""What jobs tell while they run: kept with their attempt until the scheduler has it, and told in order.

Of each attempt, news goes out in the order of its numbers, and its result after all of it. As large bodies travel on
streams, which a later message may overtake, nothing more is sent of an attempt until the scheduler has acknowledged
the one that is on a stream. On a new link everything that is kept is told again.

A job that logs something never waits: records for which there is no room are dropped, and counted in the next one.
A job that sends an intermediate result goes on as soon as that is kept; if `KEPT` of it wait already, or the node holds
too much for its client, when there is room. A job that sends a file waits until the scheduler has it. Nobody waits for
a client that is away for longer than its lease: the job then learns that what it has sent last did not arrive.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import islice

import msgspec

from dispy.model import AttemptKey, ComputationId
from dispy.wire.messages import FILE, LOG, AckNews, News
from dispy_node.engine.effects import AnswerNews
from dispy_node.engine.events import NewsTold
from dispy_node.engine.ledger import Ledger
from dispy_node.engine.records import Attempt, AttemptState, Client, HostedComputation, KeptNews
from dispy_node.engine.results import Results, has_untold_news

LOG_BYTES = 1024 * 1024
"""Records of logging of one attempt that wait to be acknowledged; more is dropped."""

RECORD_BYTES = 256
"""What each counts besides its text, so that there are not many empty ones."""

KEPT = 64
"""Intermediate results of one attempt that wait to be acknowledged before its job has to wait, too."""

NEWS_MAX = 16_384
"""What one attempt may have told and nobody has acknowledged: more than a correct job has threads that wait."""


class NewsDesk:
    """Handles what jobs tell while they run.

    Args:
        ledger: what the parts of the engine share.
        results: the part for results, which come after all news.
    """

    def __init__(self, ledger: Ledger, results: Results) -> None:
        self._ledger = ledger
        self._results = results

    def told(self, event: NewsTold) -> None:
        """Take in what a job tells."""
        ledger, news = self._ledger, event.news
        computation = ledger.with_runner(event.computation)
        attempt = computation.attempts.get((news.job, news.attempt)) if computation is not None else None
        if (
            computation is None
            or attempt is None
            or attempt.state is not AttemptState.RUNNING
            or attempt.unwanted
            or news.number <= attempt.last_news
        ):
            ledger.counters.stale += 1
            self._refuse(event)
            return
        attempt.last_news = news.number
        client = ledger.client_of(computation)
        room = ledger.holding.room(client)
        if news.kind == LOG:
            if not client.lapsed and room > 0 and attempt.log_bytes + _cost_of_record(news) <= LOG_BYTES:
                attempt.log_bytes += _cost_of_record(news)
                self._keep(client, attempt, KeptNews(_count_missed(attempt, news), None, waits=False))
                self._results.tell_news(client, computation.id, attempt)
            else:
                attempt.logs_missed += 1
            return
        waits = news.kind == FILE or len(attempt.news) >= KEPT or room < 0
        too_many = len(attempt.news) >= NEWS_MAX
        if (waits and client.lapsed) or room < -ledger.holding.reserve or too_many:
            self._refuse(event)
            return
        self._keep(client, attempt, KeptNews(news, event.spooled, waits=waits))
        if not waits:
            self._answer(computation.id, attempt, news.number, taken=True)
        self._results.tell_news(client, computation.id, attempt)

    def _keep(self, client: Client, attempt: Attempt, kept: KeptNews) -> None:
        attempt.news[kept.news.number] = kept
        if attempt.untold is None:
            attempt.untold = deque()
        attempt.untold.append(kept)
        self._ledger.holding.count_news(client, attempt, kept)

    def _refuse(self, event: NewsTold) -> None:
        if event.spooled is not None:
            self._ledger.remove([event.spooled])
        if event.news.kind == LOG:
            return  # nobody waits for an answer
        key = (event.news.job, event.news.attempt)
        self._ledger.out.append(AnswerNews(event.computation, key, event.news.number, taken=False))

    def _answer(self, computation: ComputationId, attempt: Attempt, number: int, *, taken: bool) -> None:
        self._ledger.out.append(AnswerNews(computation, attempt.key, number, taken))

    def tell_again(self, client: Client, computation: ComputationId, attempts: Iterable[Attempt]) -> None:
        """Tell all that is kept, on a new link; the results of those that have ended follow it."""
        for attempt in attempts:
            if attempt.news:
                for kept in attempt.news.values():
                    kept.sent = False
                attempt.untold, attempt.streaming = deque(attempt.news.values()), False
            self._results.tell_news(client, computation, attempt)

    def acknowledge(self, client: Client, message: AckNews) -> None:
        """Forget what has arrived, let who has waited for that go on, and tell what had to wait."""
        computation = ComputationId(message.computation)
        for ack in message.acks:
            attempt = self._find(client, computation, (ack.job, ack.attempt))
            kept = attempt.news.get(ack.number) if attempt is not None else None
            if attempt is None or kept is None or not kept.sent:
                self._ledger.counters.stale += 1
                continue
            was_held = has_untold_news(attempt)
            del attempt.news[kept.news.number]
            self._ledger.holding.count_news(client, attempt, kept, -1)
            if kept.news.kind == LOG:
                attempt.log_bytes -= _cost_of_record(kept.news)
            if kept.spooled is not None:
                attempt.streaming = False
                self._ledger.remove([kept.spooled])
            if kept.waits:
                self._answer(computation, attempt, kept.news.number, taken=ack.taken)
            for other in islice(attempt.news.values(), KEPT):
                if other.waits and other.news.kind != FILE:
                    other.waits = False
                    self._answer(computation, attempt, other.news.number, taken=True)
            self._results.tell_news(client, computation, attempt)
            if was_held and attempt.state is AttemptState.ENDED and not has_untold_news(attempt):
                self._results.send(client, computation, [attempt])

    def _find(self, client: Client, computation: ComputationId, key: AttemptKey) -> Attempt | None:
        ledger = self._ledger
        for hosted in (ledger.owned(client, computation), ledger.outgoing.get(computation)):
            attempt = hosted.attempts.get(key) if hosted is not None and hosted.client == client.id else None
            if attempt is not None:
                return attempt
        return client.leftovers.get(computation, {}).get(key)

    def lapse(self, client: Client, computation: HostedComputation) -> None:
        """Let no job wait any longer for a client that has been away for too long."""
        for attempt in computation.attempts.values():
            waiting = [kept for kept in attempt.news.values() if kept.waits]
            if waiting:
                self._results.forget_news(client, attempt, waiting)
            for kept in waiting:
                self._answer(computation.id, attempt, kept.news.number, taken=False)


def _cost_of_record(news: News) -> int:
    return RECORD_BYTES + len(news.body)


def _count_missed(attempt: Attempt, news: News) -> News:
    """Let a record of logging say how many before it were dropped; `mode` has that number."""
    if not attempt.logs_missed:
        return news
    missed, attempt.logs_missed = attempt.logs_missed, 0
    return msgspec.structs.replace(news, mode=missed)
