"""Results that are kept: sent, sent again, acknowledged, left over when their computation is gone."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence

import msgspec

from dispy.model import AttemptKey, ComputationId
from dispy.wire.messages import FILE, AckResults, JobNews, JobResult, JobResults
from dispy_node.engine.effects import SendMessage, SendStream
from dispy_node.engine.ledger import Ledger
from dispy_node.engine.records import Attempt, AttemptState, Client, HostedComputation, KeptNews, Spooled
from dispy_node.engine.tables import AttemptStep, advance_attempt

RESULTS_BYTES = 1024 * 1024
"""Inline bodies in one JobResults message, about: a quarter of the largest frame, as others go along with it."""

RESULT_OVERHEAD_BYTES = 64
"""A result without body and detail, about."""


class Results:
    """Handles attempts that have ended.

    Args:
        ledger: what the parts of the engine share.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def send(self, client: Client, computation: ComputationId, attempts: Sequence[Attempt]) -> None:
        """Tell results, in as few messages as their size allows; large bodies follow on streams."""
        link = client.link
        if link is None or not client.reconciled or not attempts:
            return
        for attempt in attempts:
            if attempt.news:
                self.tell_news(client, computation, attempt)
        out = self._ledger.out
        results: list[JobResult] = []
        streams: list[SendStream] = []
        size = 0
        for attempt in attempts:
            if attempt.news and has_untold_news(attempt):
                continue  # it is sent when that is acknowledged
            result = attempt.result
            assert result is not None, attempt
            spooled = attempt.spooled
            if spooled is not None:
                number = client.next_stream
                client.next_stream += 1
                result = msgspec.structs.replace(result, body=b"", stream=number, size=spooled.size)
                streams.append(SendStream(link, number, spooled))
            cost = len(result.body) + len(result.detail) + RESULT_OVERHEAD_BYTES
            if results and size + cost > RESULTS_BYTES:
                out.append(SendMessage(link, JobResults(computation, results)))
                results, size = [], 0
            results.append(result)
            size += cost
        if results:
            out.append(SendMessage(link, JobResults(computation, results)))
        out += streams

    def tell_news(self, client: Client, computation: ComputationId, attempt: Attempt) -> None:
        """Tell what an attempt has told, as far as that may be told by now."""
        link = client.link
        if link is None or not client.reconciled:
            return
        out = self._ledger.out
        while attempt.untold and not attempt.streaming:
            kept = attempt.untold.popleft()
            kept.sent = True
            if kept.spooled is None:
                out.append(SendMessage(link, JobNews(computation, [kept.news])))
            else:
                attempt.streaming = True
                stream = client.next_stream
                client.next_stream += 1
                news = msgspec.structs.replace(kept.news, stream=stream, size=kept.spooled.size)
                out.append(SendMessage(link, JobNews(computation, [news])))
                out.append(SendStream(link, stream, kept.spooled))
        attempt.untold = attempt.untold or None

    def acknowledge(self, client: Client, message: AckResults) -> None:
        """Forget results that have arrived."""
        ledger = self._ledger
        computation = ledger.owned(client, message.computation)
        attempts = computation.attempts if computation is not None else {}
        files = []
        done = cost = 0
        for key in message.attempts:
            attempt = attempts.get(key)
            if attempt is not None and attempt.state is AttemptState.ENDED:
                del attempts[key]
            else:
                attempt = self._take_leftover(client, ComputationId(message.computation), key)
            if attempt is None:
                continue
            advance_attempt(attempt, AttemptStep.ACKNOWLEDGED)
            done += 1
            cost += attempt.cost
            files += spool_files(attempt)
        ledger.holding.count(client, -cost)
        ledger.counters.acknowledged += done
        ledger.counters.stale += len(message.attempts) - done
        ledger.remove(files)

    def drop_files(self, client: Client, attempt: Attempt) -> None:
        """Forget files that an attempt was sending: it has ended, and nobody waits for them."""
        if attempt.news:
            files = [kept for kept in attempt.news.values() if kept.news.kind == FILE]
            self.forget_news(client, attempt, files)
            for kept in attempt.news.values():
                kept.waits = False

    def forget_news(self, client: Client, attempt: Attempt, gone: Collection[KeptNews]) -> None:
        """Forget some of what an attempt has told; it takes as long as there is news that is not sent."""
        for kept in gone:
            del attempt.news[kept.news.number]
            attempt.streaming &= not (kept.sent and kept.spooled is not None)
            self._ledger.holding.count_news(client, attempt, kept, -1)
        if attempt.untold:
            attempt.untold = deque(kept for kept in attempt.untold if kept.news.number in attempt.news)
        self._ledger.remove([kept.spooled for kept in gone if kept.spooled is not None])

    def drop_leftovers(
        self, client: Client, computation: ComputationId, believed: Collection[AttemptKey] = ()
    ) -> None:
        """Forget the results of a computation that is gone, but those *believed* in."""
        attempts = client.leftovers.get(computation, {})
        for key in [key for key in attempts if key not in believed]:
            attempt = attempts[key]
            self._take_leftover(client, computation, key)
            advance_attempt(attempt, AttemptStep.DROPPED)
            self._ledger.holding.count(client, -attempt.cost)
            self._ledger.remove(spool_files(attempt))

    def move_to_leftovers(
        self, client: Client, computation: HostedComputation, ended: Sequence[Attempt] | None = None
    ) -> None:
        """Keep the results of a computation that is gone, or soon, with its client.

        Args:
            ended: all attempts that have results, if that is known.
        """
        if len(computation.attempts) == computation.active + computation.pending:
            return  # nobody looks through all attempts for nothing
        if ended is None:
            ended = [
                attempt for attempt in computation.attempts.values() if attempt.state is AttemptState.ENDED
            ]
        for attempt in ended:
            del computation.attempts[attempt.key]
            client.leftovers.setdefault(computation.id, {})[attempt.key] = attempt

    def _take_leftover(self, client: Client, computation: ComputationId, key: AttemptKey) -> Attempt | None:
        attempts = client.leftovers.get(computation)
        attempt = attempts.pop(key, None) if attempts else None
        if attempts is not None and not attempts:
            del client.leftovers[computation]
        return attempt


def has_untold_news(attempt: Attempt) -> bool:
    """Tell whether something has to arrive before the result of an attempt may be sent."""
    return attempt.streaming or bool(attempt.untold)


def spool_files(attempt: Attempt) -> list[Spooled]:
    """Give the files of an attempt that is forgotten: its result's and those of its news."""
    files = [kept.spooled for kept in attempt.news.values()]
    return [spooled for spooled in (attempt.spooled, *files) if spooled is not None]
