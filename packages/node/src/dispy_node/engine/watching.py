"""Output of jobs that run, for a client that looks on: passed on in both directions, and kept nowhere.

The runner knows who looks on and how far it has come, and the scheduler what has arrived: on a new link it asks for
what it misses. So there is nothing to remember here. Of an attempt that has ended nothing more is sent; the result
has it all.
"""

from __future__ import annotations

from dispy.wire.messages import STDERR, STDOUT, WatchOutput
from dispy_node.engine.effects import WatchAttempt
from dispy_node.engine.events import OutputTold
from dispy_node.engine.ledger import Ledger, Violation
from dispy_node.engine.records import AttemptState, Client

MAX_NUMBER = 2**32 - 1
"""Highest number of a watch: what fits a frame to the runner."""

MAX_OFFSET = 2**63 - 1


class Watching:
    """Handles what concerns output.

    Args:
        ledger: what the parts of the engine share.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def watch(self, client: Client, message: WatchOutput) -> None:
        """Pass on that a client wants to see output.

        Raises:
            Violation: a number is out of range.
        """
        places = (message.start, message.limit)
        if (
            message.stream not in (STDOUT, STDERR)
            or not 0 <= message.number <= MAX_NUMBER
            or not all(-1 <= place <= MAX_OFFSET for place in places)
        ):
            raise Violation(f"watch {message.number} of stream {message.stream} at {places} is out of range")
        computation = self._ledger.owned(client, message.computation)
        attempt = None if computation is None else computation.attempts.get((message.job, message.attempt))
        if computation is None or attempt is None or attempt.state is not AttemptState.RUNNING:
            self._ledger.counters.stale += 1
            return
        self._ledger.out.append(WatchAttempt(computation.id, message))

    def told(self, event: OutputTold) -> None:
        """Pass on output, if its client can be reached; else it is asked for again, as far as it is still there."""
        ledger, output = self._ledger, event.output
        computation = ledger.with_runner(event.computation)
        attempt = None if computation is None else computation.attempts.get((output.job, output.attempt))
        if computation is None or attempt is None or attempt.unwanted:
            ledger.counters.stale += 1
            return
        client = ledger.client_of(computation)
        if client.reconciled:
            ledger.tell(client, output)
