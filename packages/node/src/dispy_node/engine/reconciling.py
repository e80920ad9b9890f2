"""What a scheduler believes to be at the node, against what is: the first exchange on each link."""

from __future__ import annotations

import msgspec

from dispy.model import MAX_FRAME_BYTES, AttemptKey, ComputationId
from dispy.wire.messages import Belief, Finding, JobsStarted, JobStart, Reconcile, Reconciled
from dispy_node.engine.attempts import Attempts
from dispy_node.engine.computations import Computations
from dispy_node.engine.effects import CancelAttempts
from dispy_node.engine.ledger import Ledger, Violation
from dispy_node.engine.news import NewsDesk
from dispy_node.engine.records import Attempt, AttemptState, Client, ComputationState, HostedComputation
from dispy_node.engine.results import Results

ANSWER_BYTES = MAX_FRAME_BYTES - 4096
"""Largest answer: it travels in one message, in a frame that may carry others."""

LOOKS_MAX = 200_000
"""At how many attempts a client may have looked by asking again on one link; a correct one asks once."""


class Reconciling:
    """Answers Reconcile.

    Args:
        ledger: what the parts of the engine share.
        attempts: the part for attempts.
        results: the part for results that are kept.
        computations: the part for computations.
        news: the part for what jobs tell while they run.
    """

    def __init__(
        self,
        ledger: Ledger,
        attempts: Attempts,
        results: Results,
        computations: Computations,
        news: NewsDesk,
    ) -> None:
        self._ledger = ledger
        self._news = news
        self._attempts = attempts
        self._results = results
        self._computations = computations

    def reconcile(self, client: Client, message: Reconcile) -> None:
        """Tell what is here, end what is not believed in, then tell again what runs and what has ended.

        Raises:
            Violation: the answer would not fit into a message: no correct scheduler believes in so much.
        """
        ledger = self._ledger
        if client.asked:
            self._count_looks(client)
        believed: dict[ComputationId, set[AttemptKey]] = {}
        for belief in message.beliefs:
            believed.setdefault(ComputationId(belief.computation), set()).update(belief.attempts)
        # Once for each computation, however often it is named: there may be many attempts.
        known = {key: self._known(client, key) for key in believed}
        findings = []
        first = set(believed)
        for belief in message.beliefs:
            key = ComputationId(belief.computation)
            findings.append(self._find(client, belief, known[key], with_data=key in first))
            first.discard(key)
        answer = Reconciled(findings)
        if len(msgspec.msgpack.encode(answer)) > ANSWER_BYTES:
            raise Violation(
                f"it believes in {len(findings)} computations and more jobs than can be answered for"
            )
        ledger.tell(client, answer)
        client.reconciled = True
        self._end_others(client, believed)
        if client.asked:
            return  # it was told once on this link, and may be much
        client.asked = True
        for key in believed:
            self._tell_again(client, key)

    def _count_looks(self, client: Client) -> None:
        hosted = [life for key in client.computations for life in self._lives(client, key)]
        client.looks += 1 + sum(len(life.attempts) for life in hosted)
        client.looks += sum(map(len, client.leftovers.values()))
        if client.looks > LOOKS_MAX:
            raise Violation("it asks again and again what is here: once on each link is enough")

    def _find(
        self, client: Client, belief: Belief, known: dict[AttemptKey, Attempt], *, with_data: bool
    ) -> Finding:
        missing = [attempt for attempt in belief.attempts if attempt not in known]
        computation = self._ledger.owned(client, ComputationId(belief.computation))
        data = sorted(computation.data) if computation is not None and with_data else []
        return Finding(belief.computation, _describe(computation), missing, data)

    def _known(self, client: Client, key: ComputationId) -> dict[AttemptKey, Attempt]:
        """Give all that is here and wanted of one computation, those of its earlier lives too."""
        known = dict(client.leftovers.get(key, {}))
        for computation in self._lives(client, key):
            known.update(computation.attempts)
        return {name: attempt for name, attempt in known.items() if not attempt.unwanted}

    def _lives(self, client: Client, key: ComputationId) -> list[HostedComputation]:
        found = (self._ledger.outgoing.get(key), self._ledger.computations.get(key))
        return [item for item in found if item is not None and item.client == client.id]

    def _end_others(self, client: Client, believed: dict[ComputationId, set[AttemptKey]]) -> None:
        """End and forget what the scheduler does not believe in."""
        ledger = self._ledger
        for key in list(client.leftovers):
            self._results.drop_leftovers(client, key, believed.get(key, ()))
        for key, computation in ledger.outgoing.items():
            if computation.client == client.id:
                self._attempts.disown(client, computation, believed.get(key, ()))
        for key in sorted(client.computations):
            computation = ledger.computations[key]
            if key not in believed:
                self._computations.discard(client, computation)
                continue
            running = self._attempts.disown(client, computation, believed[key])
            if running:
                ledger.out.append(CancelAttempts(key, running))
            # It may be closing as it was not named on an earlier link; now its end is waited for.
            computation.told = True
            ledger.touch(computation)

    def _tell_again(self, client: Client, key: ComputationId) -> None:
        starts = []
        ended = []
        known = self._known(client, key)
        for attempt in known.values():
            if attempt.state is AttemptState.RUNNING:
                starts.append(JobStart(*attempt.key, attempt.started_at))
            elif attempt.state is AttemptState.ENDED:
                ended.append(attempt)
        if starts:
            self._ledger.tell(client, JobsStarted(key, starts))
        self._news.tell_again(client, key, known.values())
        self._results.send(client, key, ended)


def _describe(computation: HostedComputation | None) -> str:
    """Give the word for a computation's state in a finding."""
    if computation is None:
        return "unknown"
    if computation.finishing or computation.state is ComputationState.CLOSING:
        return "closing"
    return "ready" if computation.state is ComputationState.READY else "preparing"
