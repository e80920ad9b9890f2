"""Files that a client sends to the folder of a computation that runs here."""

from __future__ import annotations

from dispy.wire.messages import FileTaken, SendFile
from dispy_node.engine.effects import PlaceFile
from dispy_node.engine.events import FilePlaced
from dispy_node.engine.holding import CROWDED, cost_of_file
from dispy_node.engine.ledger import Ledger
from dispy_node.engine.records import Client, ComputationState, HostedComputation, Spooled


class Files:
    """Receives files and has them placed.

    Args:
        ledger: what the parts of the engine share.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def offered(self, client: Client, message: SendFile) -> None:
        """Take in that a file comes.

        Raises:
            Violation: the number of its stream is out of order.
        """
        ledger, stream = self._ledger, message.file.stream
        ledger.announce(client, stream)
        computation = ledger.owned(client, message.computation)
        if computation is None or computation.state is not ComputationState.READY:
            ledger.drop_stream(client, stream)
            self._tell(client, message, "the computation is not ready at the node")
            return
        excess = ledger.excess(message.file.path, message.file.size)
        if excess:
            ledger.drop_stream(client, stream)
            self._tell(client, message, excess)
            return
        cost = cost_of_file(message)
        if cost > ledger.holding.room(client):
            ledger.drop_stream(client, stream)
            self._tell(client, message, CROWDED)
            return
        ledger.holding.count(client, cost)
        client.files[stream] = (computation, message)

    def stored(self, client: Client, stream: int, spooled: Spooled) -> bool:
        """Have a file placed that has come whole; False if there is none on this stream."""
        entry = client.files.pop(stream, None)
        if entry is None:
            return False
        computation, message = entry
        self._ledger.holding.count(client, -cost_of_file(message))
        if self._is_there(computation):
            self._ledger.out.append(PlaceFile(computation.id, client.id, message, spooled))
        else:
            self._ledger.remove([spooled])
            self._tell(client, message, "the computation is gone")
        return True

    def failed(self, client: Client, stream: int, reason: str) -> bool:
        """Tell that a file could not be received; False if there is none on this stream."""
        entry = client.files.pop(stream, None)
        if entry is None:
            return False
        self._ledger.holding.count(client, -cost_of_file(entry[1]))
        self._tell(client, entry[1], reason)
        return True

    def placed(self, event: FilePlaced) -> None:
        """Tell what became of a file."""
        client = self._ledger.clients.get(event.client)
        if client is not None:
            self._tell(client, event.message, event.reason)

    def _is_there(self, computation: HostedComputation) -> bool:
        known = self._ledger.computations.get(computation.id) is computation
        return known and computation.state is ComputationState.READY

    def _tell(self, client: Client, message: SendFile, reason: str) -> None:
        self._ledger.tell(client, FileTaken(message.computation, message.number, reason))
