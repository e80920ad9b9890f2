"""Data that jobs of a computation share: received once, kept for the runner, dropped when the client says so.

It belongs to the runner and goes with it. An attempt that needs data which is still arriving waits for it; one that
needs data of which nobody has told is rejected, so that no attempt ever runs without.
"""

from __future__ import annotations

from collections.abc import Iterable

from dispy.wire.messages import DataLost, DropData, ShareData
from dispy_node.engine.attempts import Attempts
from dispy_node.engine.effects import ForgetData, KeepData
from dispy_node.engine.holding import CROWDED, DATA_BYTES
from dispy_node.engine.ledger import Ledger
from dispy_node.engine.records import (
    Client,
    ComputationState,
    HostedComputation,
    Spooled,
)

DATA_MAX = 16_384
"""How much shared data may be kept for one client: each takes a little memory, and a file."""


class DataStore:
    """Handles shared data.

    Args:
        ledger: what the parts of the engine share.
        attempts: the part for attempts.
    """

    def __init__(self, ledger: Ledger, attempts: Attempts) -> None:
        self._ledger = ledger
        self._attempts = attempts

    def offered(self, client: Client, message: ShareData) -> None:
        """Take in that data comes.

        Raises:
            Violation: the number of its stream is out of order.
        """
        ledger, number = self._ledger, message.data
        ledger.announce(client, message.stream)
        computation = ledger.owned(client, message.computation)
        if computation is None or computation.state is not ComputationState.READY:
            ledger.drop_stream(client, message.stream)
            ledger.tell(
                client, DataLost(message.computation, number, "the computation is not ready at the node")
            )
        elif client.data >= DATA_MAX:
            ledger.drop_stream(client, message.stream)
            ledger.tell(
                client,
                DataLost(message.computation, number, f"the node keeps {DATA_MAX} objects for this client"),
            )
        elif number in computation.data or number in computation.arriving:
            ledger.counters.duplicates += 1
            ledger.drop_stream(client, message.stream)
        elif ledger.holding.room(client) < DATA_BYTES:
            ledger.drop_stream(client, message.stream)
            ledger.tell(client, DataLost(message.computation, number, CROWDED))
        else:
            ledger.holding.count_data(client, 1)
            computation.arriving[number] = message.stream
            client.sharing[message.stream] = (computation, number)

    def stored(self, client: Client, stream: int, spooled: Spooled) -> bool:
        """Have data kept that has come whole, and run what waited for it; False if none is on this stream."""
        entry = client.sharing.pop(stream, None)
        if entry is None:
            return False
        computation, number = entry
        del computation.arriving[number]
        computation.data.add(number)
        self._ledger.out.append(KeepData(computation.id, number, spooled))
        waiting = list(computation.waiting.get(number, {}).values())
        for attempt in waiting:
            attempt.lacks -= 1
        self._attempts.hand_over(computation, waiting)
        return True

    def failed(self, client: Client, stream: int, reason: str) -> bool:
        """End what needs data that could not be received; False if none comes on this stream."""
        entry = client.sharing.pop(stream, None)
        if entry is None:
            return False
        computation, number = entry
        del computation.arriving[number]
        self._ledger.holding.count_data(client, -1)
        self._ledger.tell(client, DataLost(computation.id, number, reason))
        self._break_off(client, computation, [number], f"shared data that it needs: {reason}")
        return True

    def drop(self, client: Client, message: DropData) -> None:
        """Let go of data, here or still arriving."""
        computation = self._ledger.owned(client, message.computation)
        if computation is None:
            self._ledger.counters.stale += len(message.data)
            return
        here = [number for number in dict.fromkeys(message.data) if number in computation.data]
        computation.data.difference_update(here)
        self._ledger.holding.count_data(client, -len(here))
        gone = set(here)
        for number in message.data:
            stream = computation.arriving.pop(number, None)
            if stream is not None:
                self._ledger.drop_stream(client, stream)
                self._ledger.holding.count_data(client, -1)
                gone.add(number)
        if gone:  # once for all of them: there may be many, and many attempts
            why = "shared data that it needs was released"
            self._break_off(client, computation, gone, why)
        if here:
            self._ledger.out.append(ForgetData(computation.id, here))

    def _break_off(
        self, client: Client, computation: HostedComputation, gone: Iterable[int], why: str
    ) -> None:
        waiting = {
            key: attempt for number in gone for key, attempt in computation.waiting.get(number, {}).items()
        }
        if waiting:
            self._attempts.break_off(client, computation, list(waiting.values()), why)
