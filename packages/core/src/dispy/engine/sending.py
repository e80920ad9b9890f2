"""Files that the application sends to a node while a computation runs there.

Rules: a file is sent at once, or not at all, to a node that is ready; it counts as sent when the node has told so. If
the link breaks, or the node gets rid of the computation, nobody waits any longer. Files do not come along when the
computation is opened anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from typing import Any

from dispy.engine.effects import SendStream, TellFile
from dispy.engine.events import FileWanted
from dispy.engine.ledger import Ledger, describe_node
from dispy.engine.records import Node, Placement, PlacementState
from dispy.model import ComputationId, LinkId
from dispy.wire.messages import FileOffer, FileTaken, SendFile

_THERE = (PlacementState.READY, PlacementState.CLOSING)


@dataclass(frozen=True, slots=True)
class _Sent:
    placement: Placement
    link: LinkId
    handle: Any


class Sending:
    """Sends files to nodes."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._numbers = count(1)
        self._sent: dict[int, _Sent] = {}

    def send(self, event: FileWanted) -> None:
        """Send a file, or tell why that cannot be done."""
        ledger, file = self._ledger, event.file
        computation = ledger.computations.get(event.computation)
        placement = None if computation is None else computation.placements.get(event.node)
        if placement is None or placement.state is not PlacementState.READY or placement.node.link is None:
            ledger.effects.append(TellFile(event.handle, "the node cannot be reached, or is not ready"))
            return
        node, link, number = placement.node, placement.node.link, next(self._numbers)
        stream = node.next_stream
        node.next_stream += 1
        offer = FileOffer(file.path, file.size, file.mode, file.modified_at, stream)
        ledger.send(node, SendFile(event.computation, number, offer))
        ledger.effects.append(SendStream(link, stream, file.content, file.size))
        self._sent[number] = _Sent(placement, link, event.handle)

    def taken(self, node: Node, message: FileTaken) -> None:
        """Take in that a file has its place at the node, or why not."""
        sent = self._sent.get(message.number)
        computation = self._ledger.computations.get(ComputationId(message.computation))
        if sent is None or computation is None or computation.placements.get(node.id) is not sent.placement:
            self._ledger.counters.stray_messages += 1
            return
        del self._sent[message.number]
        self._ledger.effects.append(TellFile(sent.handle, message.reason))

    def give_up_lost(self) -> None:
        """Wait no longer for answers that cannot come any more."""
        for number, sent in list(self._sent.items()):
            node = sent.placement.node
            if node.link != sent.link or sent.placement.state not in _THERE:
                del self._sent[number]
                why = f"{describe_node(node)} was lost, or got rid of the computation, before it had the file"
                self._ledger.effects.append(TellFile(sent.handle, why))
