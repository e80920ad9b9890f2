"""Whether the node takes jobs: the rules of its owner about hours, numbers of computations, and who may end it.

A pause comes before the end of service hours and after it: nothing is started, and what waits goes back to its
scheduler, which runs it elsewhere. Computations stay, and are taken, so that their jobs run here again when the hours
begin. A drain ends the node; only its driver can ask for one, or the rules.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dispy_node.engine.attempts import Attempts
from dispy_node.engine.effects import CancelAttempts, RecallAttempts, Report
from dispy_node.engine.events import DrainRequested, HoursChanged, ShutdownAsked
from dispy_node.engine.hours import Phase
from dispy_node.engine.ledger import Ledger
from dispy_node.engine.records import AttemptState, HostedComputation

OVER = "the service hours of the node are over"
"""Why jobs are ended at their end."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What the owner of a node has said; see `dispy_node.engine.node.NodeEngine`."""

    serve: int | None = None
    client_shutdown: bool = False


class Duty:
    """Handles what concerns the owner's rules.

    Args:
        ledger: what the parts of the engine share.
        attempts: the part for attempts.
        rules: what the owner has said.
        tell_all: tells all clients how the node is.
    """

    def __init__(
        self, ledger: Ledger, attempts: Attempts, rules: Rules, tell_all: Callable[[], None]
    ) -> None:
        self._ledger = ledger
        self._attempts = attempts
        self._rules = rules
        self._tell_all = tell_all

    @property
    def serve_left(self) -> int | None:
        """How many computations may still end before the node does."""
        serve = self._rules.serve
        return None if serve is None else max(0, serve - self._ledger.served)

    def drain_requested(self, event: DrainRequested) -> None:
        """Take no more jobs, and end when all is done."""
        if not self._ledger.draining:
            self._ledger.draining = True
            self._tell_all()

    def count(self) -> None:
        """Drain when enough computations have ended; called after each event."""
        if self.serve_left == 0 and not self._ledger.draining:
            self._ledger.out.append(Report(f"served {self._ledger.served} computations, as --serve wants"))
            self.drain_requested(DrainRequested())

    def shutdown_asked(self, event: ShutdownAsked) -> None:
        """Drain if clients may ask for it."""
        computation = self._ledger.with_runner(event.computation)
        if computation is None:
            self._ledger.counters.stale += 1
            return
        who = f"the cleanup of {computation.offer.name!r} of {self._ledger.client_of(computation).name!r}"
        if self._rules.client_shutdown:
            self._ledger.out.append(Report(f"{who} has this node end"))
            self.drain_requested(DrainRequested())
        else:
            text = f"{who} wants this node to end, which --client_shutdown would allow"
            self._ledger.out.append(Report(text, warning=True))

    def hours_changed(self, event: HoursChanged) -> None:
        """Begin to take jobs, or take back what has not started; at the end of the hours end what runs."""
        ledger = self._ledger
        pause = "" if event.phase is Phase.OPEN else f"its service hours are {event.text}"
        if pause != ledger.pause:
            ledger.pause = pause
            if not ledger.draining:
                self._tell_all()
        if event.phase is Phase.OPEN:
            ledger.out.append(Report(f"service hours begin: jobs are taken ({event.text})"))
            return
        ends = event.phase is Phase.SHUT
        what = "what runs is ended" if ends else "what runs goes on"
        ledger.out.append(Report(f"outside service hours: no jobs are taken, {what} ({event.text})"))
        for computation in (*ledger.outgoing.values(), *ledger.computations.values()):
            self._take_back(computation, pause)
            if ends:
                self._end(computation)

    def _take_back(self, computation: HostedComputation, why: str) -> None:
        """Give back what has not started."""
        ledger = self._ledger
        client = ledger.client_of(computation)
        rejected, recalled = [], []
        for attempt in list(computation.attempts.values()):
            if attempt.state in (AttemptState.RECEIVING, AttemptState.WAITING):
                rejected.append(attempt.key)
                self._attempts.forget(client, computation, attempt)
            elif (
                attempt.state is AttemptState.QUEUED
                and not attempt.recalled
                and self._attempts.ask_end(computation, attempt)
            ):
                attempt.recalled, attempt.why = True, why
                recalled.append(attempt.key)
        if recalled:
            ledger.out.append(RecallAttempts(computation.id, recalled))
        ledger.reject(client, computation.id, rejected, f"the node takes no jobs: {why}")
        ledger.touch(computation)

    def _end(self, computation: HostedComputation) -> None:
        """End what runs, and what may have started meanwhile."""
        ended = []
        for attempt in computation.attempts.values():
            at_runner = attempt.state in (AttemptState.QUEUED, AttemptState.RUNNING)
            if at_runner and self._attempts.ask_end(computation, attempt):
                attempt.withdrawn, attempt.why = True, OVER
                ended.append(attempt.key)
        if ended:
            self._ledger.out.append(CancelAttempts(computation.id, ended))
