"""Which nodes a computation uses, and how it gets there.

Rules: the application is asked about each connected node that runs (`Computation.accepts`), and again when
more nodes may match, or when the node has got another address or number of slots. A placement that FAILED stays so
for this epoch of its node. A node that drains gets nothing new. Code up to `INLINE_BODY_BYTES` travels in the
message, and so do the arguments of `setup`; files with different contents have a stream each, read from disk as they
are sent. For a folder that outlives computations files are only offered, by hash, and the node says which it wants. So
are large ones in any case: when a link has broken, the node says how much of them it has, and only the rest is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from dispy.engine.effects import Effect, SendStream, TellNode
from dispy.engine.ledger import Ledger, describe_node
from dispy.engine.placing import window_of
from dispy.engine.records import (
    Computation,
    Job,
    JobState,
    Node,
    NodeState,
    Placement,
    PlacementState,
    SourceFile,
)
from dispy.engine.tables import JobStep, PlacementStep, advance_placement
from dispy.errors import RemoteProtocolError
from dispy.model import INLINE_BODY_BYTES, RESUMABLE_BYTES, FilePart, LinkId, NodeStatus
from dispy.wire.messages import FileOffer, FilesComing, FilesWanted, LimitSlots, OpenComputation

_T = TypeVar("_T")


OPEN = (PlacementState.PREPARING, PlacementState.READY)
"""Those that a node has, and is not asked to close."""

RESTARTS_MAX = 3
"""How often a computation is opened again at a node after its runner died there: one bad job may kill a runner, but
a computation whose runners keep dying must not keep a node busy for ever."""


class Opening:
    """Opens computations at nodes, and takes in what nodes say about that."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def consider_all(self, node: Node) -> None:
        """Ask every computation about *node*."""
        for computation in self._ledger.computations.values():
            self.consider(computation, node)

    def consider(self, computation: Computation, node: Node) -> None:
        """Ask *computation* how many slots of *node* it wants, and open it there or adapt its placement."""
        if computation.closing or node.state is not NodeState.CONNECTED:
            return
        placement = computation.placements.get(node.id)
        if placement is not None and (
            placement.dismissed or placement.state in (PlacementState.FAILED, PlacementState.CLOSING)
        ):
            return
        slots = self.ask(computation, node)
        if placement is not None and placement.state is not PlacementState.CLOSED:
            self.set_slots(computation, placement, slots)
        elif slots and not node.draining:
            if placement is None:
                placement = self._place(computation, node)
            placement.slots = slots
            placement.window = window_of(slots, placement.mean_s)
            self._ledger.touch(computation, placement)
            if placement.state is PlacementState.CLOSED:
                advance_placement(placement, PlacementStep.REOPENED)
            self.open(computation, placement)
        elif placement is not None:
            self._ledger.drop_pinned(computation, placement, placement.reason or "it is not used any more")

    def ask(self, computation: Computation, node: Node) -> int:
        """Tell how many slots of *node* the application wants to use, 0 if it cannot say."""
        wanted, failure = _guarded(lambda: computation.accepts(node))
        if wanted is None:
            text = (
                f"{describe_node(node)} is not used by {computation.name}: choosing nodes failed: {failure}"
            )
            self._ledger.report(text, computation.id)
            return 0
        return max(0, min(wanted, node.usable_cpus))

    def set_slots(self, computation: Computation, placement: Placement, slots: int) -> None:
        """Use that many slots; what is in flight beyond them stays."""
        placement.slots = slots
        placement.window = window_of(slots, placement.mean_s)
        self._ledger.touch(computation, placement)
        self.limit(computation, placement)

    def limit(self, computation: Computation, placement: Placement, *, anew: bool = False) -> None:
        """Tell the node how many slots to use, if it was told otherwise, or (*anew*) may have missed it."""
        if anew:
            placement.told = placement.opened_with
        most = _most(placement)
        if most == placement.told or placement.node.reconciling or placement.state not in OPEN:
            return
        placement.told = most
        self._ledger.send(placement.node, LimitSlots(computation.id, most))

    def open(self, computation: Computation, placement: Placement) -> None:
        """Send the computation to a connected node; its placement is PREPARING."""
        node = placement.node
        assert node.link is not None  # callers see to it
        code, failure = _guarded(lambda: computation.code_for(node.python))
        if not isinstance(code, bytes):
            self.fail(computation, placement, failure if code is None else code)
            return
        arguments, failure = _guarded(lambda: computation.arguments_for(node))
        if arguments is None:
            self.fail(computation, placement, failure)
            return
        placement.opened_with = placement.told = _most(placement)
        placement.data.clear()
        placement.coming.clear()
        streams: list[Effect] = []
        code_stream = setup_stream = 0
        if len(code) > INLINE_BODY_BYTES:
            code_stream = _announce(streams, node, node.link, code, len(code))
        if computation.files_for is None:
            placement.files = computation.files
        else:
            files_for = computation.files_for
            files, failure = _guarded(lambda: files_for(node))
            if files is None:
                self.fail(computation, placement, failure)
                return
            placement.files = files
        # In a folder that is shared, files may be there already, and large ones in part: the node says which it wants.
        least = 0 if computation.dest_path else RESUMABLE_BYTES
        later = {item.path for item in placement.files if item.digest and item.size >= least}
        now = [item for item in placement.files if item.path not in later]
        offers = _announce_files(streams, node, node.link, now)
        placement.coming.update({offer.stream: offer.size for offer in offers})
        offers += [_offer(item, 0) for item in placement.files if item.path in later]
        if len(arguments) > INLINE_BODY_BYTES:
            setup_stream = _announce(streams, node, node.link, arguments, len(arguments))
        message = OpenComputation(
            computation.id,
            computation.name,
            computation.executor,
            computation.isolation.value,
            b"" if code_stream else code,
            code_stream,
            len(code) if code_stream else 0,
            offers,
            placement.opened_with,
            computation.setup_timeout_s,
            b"" if setup_stream else arguments,
            setup_stream,
            len(arguments) if setup_stream else 0,
            computation.live,
            computation.log_level,
            computation.dest_path,
            computation.keep_files,
            computation.start_method.value,
        )
        self._ledger.send(node, message)
        self._ledger.effects.extend(streams)

    def files_wanted(self, node: Node, placement: Placement, message: FilesWanted) -> None:
        """Send what a node, which prepares the computation, does not have.

        Raises:
            RemoteProtocolError: it wants what was not offered, or something twice, or has more than there is.
        """
        assert node.link is not None
        have = message.have or [0] * len(message.paths)
        offered = {item.path: item for item in placement.files}
        if len(set(message.paths) & offered.keys()) != len(message.paths):
            raise RemoteProtocolError(f"{describe_node(node)} wants files that were not offered, or again")
        streams: list[Effect] = []
        wanted = [offered[path] for path in message.paths]
        if len(have) != len(wanted) or not all(
            0 <= skip <= item.size for skip, item in zip(have, wanted, strict=True)
        ):
            raise RemoteProtocolError(
                f"{describe_node(node)} has other parts of files than there can be: {have}"
            )
        placement.files = []  # a node tells all that it wants at once
        offers = _announce_files(streams, node, node.link, wanted, have)
        placement.coming.update({offer.stream: offer.size for offer in offers})
        self._ledger.send(node, FilesComing(message.computation, offers))
        self._ledger.effects.extend(streams)

    def ready(self, computation: Computation, placement: Placement) -> None:
        """Let jobs be assigned: the node can run them."""
        advance_placement(placement, PlacementStep.READY)
        if not placement.initialized:
            placement.initialized = True
            self._ledger.effects.append(TellNode(placement.node, NodeStatus.INITIALIZED, computation.id))
        self._ledger.touch(computation, placement)

    def closed(self, computation: Computation, placement: Placement) -> None:
        """Take in that a placement is CLOSED at a connected node; the application may still want it."""
        self.tell_gone(computation, placement)
        if not placement.dismissed:
            placement.reason = "it has closed the computation"
        self.consider(computation, placement.node)

    def tell_gone(self, computation: Computation, placement: Placement) -> None:
        """Tell the application that a node it could use is not usable any more."""
        if placement.initialized:
            placement.initialized = False
            self._ledger.effects.append(TellNode(placement.node, NodeStatus.CLOSED, computation.id))

    def fail(self, computation: Computation, placement: Placement, reason: str) -> None:
        """Give up a placement for this epoch of its node.

        What runs there is the node's to tell about; what it has not started, it will not.
        """
        advance_placement(placement, PlacementStep.FAILED)
        self._ledger.touch(computation, placement)
        placement.reason = reason
        text = f"{describe_node(placement.node)} cannot be used by {computation.name}: {reason}"
        self._ledger.report(text, computation.id)
        self.tell_gone(computation, placement)
        jobs: list[Job] = [job for job in placement.inflight.values() if job.state is JobState.ASSIGNED]
        for job in jobs:
            self._ledger.release(computation, placement, job)
        self._ledger.requeue(computation, placement, jobs, JobStep.RETURNED)
        self._ledger.drop_pinned(computation, placement, reason)

    def restart(self, computation: Computation, placement: Placement, reason: str) -> bool:
        """Open a READY placement again whose runner has died; return False if that happens too often.

        What was running there is told by the node; what it has not started goes back to the queue.
        """
        if placement.state is not PlacementState.READY or placement.restarts >= RESTARTS_MAX:
            return False
        placement.restarts += 1
        node = describe_node(placement.node)
        self._ledger.report(f"{node}: {reason}; {computation.name} is prepared there again", computation.id)
        advance_placement(placement, PlacementStep.FORGOTTEN)
        self._ledger.touch(computation, placement)
        self.tell_gone(computation, placement)
        jobs = [job for job in placement.inflight.values() if job.state is JobState.ASSIGNED]
        for job in jobs:
            self._ledger.release(computation, placement, job)
        self._ledger.requeue(computation, placement, jobs, JobStep.RETURNED)
        self.open(computation, placement)
        return True

    def _place(self, computation: Computation, node: Node) -> Placement:
        placement = Placement(node, PlacementState.PREPARING, 0)
        computation.placements[node.id] = placement
        return placement


def _most(placement: Placement) -> int:
    """Tell how many slots the node may use; 0 for all, so that they can become more.

    It runs what it has one by one if it is to get nothing more.
    """
    return max(1, placement.slots) if placement.slots < placement.node.cpus else 0


def _announce_files(
    streams: list[Effect], node: Node, link: LinkId, files: Sequence[SourceFile], have: Sequence[int] = ()
) -> list[FileOffer]:
    """Have files sent, those with the same content once.

    Args:
        have: for each, how many bytes at its beginning are there already; empty if none are.
    """
    sent: dict[bytes, tuple[int, int]] = {}
    offers = []
    for item, skip in zip(files, have or [0] * len(files), strict=True):
        known = sent.get(item.digest) if item.digest else None
        if known is None:
            content = replace(item.content, skip=skip)
            known = sent[item.digest] = _announce(streams, node, link, content, len(content)), skip
        offers.append(_offer(item, *known))
    return offers


def _offer(item: SourceFile, stream: int, skip: int = 0) -> FileOffer:
    return FileOffer(item.path, item.size, item.mode, item.modified_at, stream, item.digest, skip)


def _announce(streams: list[Effect], node: Node, link: LinkId, source: bytes | FilePart, size: int) -> int:
    """Choose a number for a stream, and have it sent after the message that announces it."""
    stream = node.next_stream
    node.next_stream += 1
    streams.append(SendStream(link, stream, source, size))
    return stream


def _guarded(call: Callable[[], _T]) -> tuple[_T, str] | tuple[None, str]:
    """Call the application's code; if it raises, return None and what it raised."""
    try:
        return call(), ""
    except Exception as error:  # whatever it is, it is told to the user and must not stop other clusters
        return None, f"{type(error).__name__}: {error}"
