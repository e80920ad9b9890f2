"""Nodes come, fall silent, come back and get lost; and after each of these: what does a node really have?

Rules: the first message on each link is Reconcile with all attempts that the scheduler believes the node to have,
those that it has abandoned there included. Until the answer comes nothing is assigned to the node, so the answer is
about all that is in flight there. What the answer says is missing has never been received, if the node still knows
the computation: it goes back to the queue. If the node has forgotten the computation, what it had of it may have
started before: the fault policy decides. Then requests that may have been lost with the old link are made again.

A node that is silent keeps what it has for `lease_s` seconds. After that, or when it has said that it ends, or when
it comes back as a new epoch, its attempts are lost.
"""

from __future__ import annotations

from dispy.engine.effects import CloseLink, Report
from dispy.engine.events import LinkOpened
from dispy.engine.ledger import Ledger, describe_node
from dispy.engine.opening import Opening
from dispy.engine.recalling import recall_again
from dispy.engine.records import Computation, JobState, Node, NodeState, Placement, PlacementState
from dispy.engine.settling import Settling
from dispy.engine.sharing import take_found
from dispy.engine.tables import NodeStep, PlacementStep, advance_node, advance_placement
from dispy.errors import RemoteProtocolError
from dispy.model import AttemptKey, Avail, ComputationId, NodeId, PythonVersion, Role
from dispy.wire.messages import Belief, CancelJobs, CloseComputation, Finding, Hello, Reconcile, Reconciled

_BELIEVED = (PlacementState.PREPARING, PlacementState.READY, PlacementState.CLOSING)

FINDINGS = ("unknown", "preparing", "ready", "closing")
"""What a node can say about a computation."""


class Reconciling:
    """Links, leases, and agreement with nodes about what they have."""

    def __init__(self, ledger: Ledger, opening: Opening, settling: Settling) -> None:
        self._ledger = ledger
        self._opening = opening
        self._settling = settling

    def link_opened(self, event: LinkOpened) -> None:
        """Greet a node.

        Raises:
            RemoteProtocolError: the peer is no node, or its greeting makes no sense.
        """
        hello = event.hello
        python = _check_hello(hello)
        node = self._ledger.nodes.get(NodeId(hello.ident))
        if node is None:
            node = _make_node(event, python)
            self._ledger.nodes[node.id] = node
        elif not node.owner.is_same(event.owner):
            self._refuse_impostor(event, node)
            return
        elif hello.epoch < node.epoch:
            raise RemoteProtocolError(
                f"{describe_node(node)} greets as start number {hello.epoch}, but number {node.epoch} was seen "
                "before; remove its state folder, so that it gets a new identity"
            )
        elif hello.epoch == node.epoch and node.link is not None:
            self._refuse_second_link(event, node)
            return
        else:
            if hello.epoch > node.epoch:
                self._forget_epoch(node)
            advance_node(node, NodeStep.LINK_OPENED)
            self._ledger.timers.clear(("lease", node.id))
        is_back = hello.epoch == node.epoch
        _update_node(node, event, python)
        self._ledger.links[event.link] = node
        node.reconciling = True  # so that nothing is said before Reconcile
        self._ledger.touch_node(node)
        if is_back:
            self._resume_placements(node)
        self._reconcile(node)
        self._opening.consider_all(node)

    def _refuse_impostor(self, event: LinkOpened, node: Node) -> None:
        """Leave a node alone whose ident another one says; a copied state folder looks like this too."""
        reason = (
            f"it greets with the ident of {describe_node(node)}, and cannot show that it is that node; if it is a "
            "node of yours, remove its state folder, so that it gets a new identity"
        )
        self._ledger.effects.append(CloseLink(event.link, reason))
        if event.peer_host not in node.impostors:
            node.impostors.add(event.peer_host)
            self._ledger.effects.append(Report(f"the node at {event.peer_host} is refused: {reason}"))

    def _refuse_second_link(self, event: LinkOpened, node: Node) -> None:
        """Keep the link that there is; but another address may make other computations accept the node."""
        reason = f"already connected to this node by {node.peer_host}"
        known = (len(node.addresses), len(node.targets), len(node.realms))
        _add_addresses(node, event)
        self._ledger.effects.append(CloseLink(event.link, reason))
        if (len(node.addresses), len(node.targets), len(node.realms)) != known:
            self._opening.consider_all(node)

    def _forget_epoch(self, node: Node) -> None:
        """Give up all that the node had before it started anew."""
        if node.link is not None:
            self._ledger.effects.append(CloseLink(node.link, "the node has started again"))
            del self._ledger.links[node.link]
            node.link = None
        advance_node(node, NodeStep.RESTARTED)
        self._lose_placements(node, "has started again")
        for computation in self._ledger.computations.values():
            placement = computation.placements.get(node.id)
            if placement is not None:
                self._ledger.forget_abandoned(placement)

    def link_closed(self, node: Node, now: float) -> None:
        """Wait for a node to come back."""
        self._detach(node)
        advance_node(node, NodeStep.LINK_CLOSED)
        node.lease_ends_at = now + self._ledger.lease_s
        self._ledger.timers.set(("lease", node.id), node.lease_ends_at)

    def node_ended(self, node: Node, reason: str) -> None:
        """Do not wait for a node to come back: it has said so."""
        self._detach(node)
        advance_node(node, NodeStep.ENDED)
        self._lose(node, f"has ended: {reason}" if reason else "has ended")

    def lease_over(self, node: Node) -> None:
        """Wait no longer for a node."""
        advance_node(node, NodeStep.LEASE_OVER)
        self._lose(node, f"was silent for {self._ledger.lease_s:g} s")

    def _detach(self, node: Node) -> None:
        assert node.link is not None  # it was found by its link
        del self._ledger.links[node.link]
        node.link = None
        node.reconciling = False
        self._ledger.touch_node(node)

    def _lose(self, node: Node, why: str) -> None:
        self._lose_placements(node, why)
        for computation in self._ledger.computations.values():
            placement = computation.placements.get(node.id)
            if placement is not None:
                self._ledger.drop_pinned(computation, placement, f"it {why}")

    def _lose_placements(self, node: Node, why: str) -> None:
        for computation in self._ledger.computations.values():
            placement = computation.placements.get(node.id)
            if placement is not None:
                advance_placement(placement, PlacementStep.NODE_LOST)
                placement.reason = f"it {why}"
                self._opening.tell_gone(computation, placement)
                self._ledger.touch(computation, placement)
                self._ledger.lose(computation, placement, list(placement.inflight.values()), why)

    def _resume_placements(self, node: Node) -> None:
        """Believe in placements of a node that was lost and is back as the same epoch; it may still have them."""
        for computation in self._ledger.computations.values():
            placement = computation.placements.get(node.id)
            if placement is None or placement.state is not PlacementState.CLOSED or computation.closing:
                continue
            slots = self._opening.ask(computation, node)
            if slots:
                advance_placement(placement, PlacementStep.REOPENED)
                self._opening.set_slots(computation, placement, slots)

    def _reconcile(self, node: Node) -> None:
        """Ask a node what it has of what it should have."""
        beliefs = []
        for computation in self._ledger.computations.values():
            placement = computation.placements.get(node.id)
            if placement is None:
                continue
            placement.coming.clear()  # streams of the link that is gone
            jobs = [*placement.inflight.values(), *placement.abandoned.values()]
            if jobs or placement.state in _BELIEVED:
                beliefs.append(Belief(computation.id, [(job.id, job.attempt) for job in jobs]))
        node.reconciling = bool(beliefs)
        self._ledger.send(node, Reconcile(beliefs))

    def reconciled(self, node: Node, message: Reconciled) -> None:
        """Take in what a node has.

        Raises:
            RemoteProtocolError: a finding is none that there is, or there are two for one computation.
        """
        if not node.reconciling:
            self._ledger.counters.stray_messages += bool(message.findings)
            return
        for finding in message.findings:
            if finding.state not in FINDINGS:
                raise RemoteProtocolError(
                    f"computation {finding.computation!r} is {finding.state!r}, which is no state"
                )
        if len({finding.computation for finding in message.findings}) < len(message.findings):
            raise RemoteProtocolError("what the node has of a computation is told twice")
        node.reconciling = False
        for finding in message.findings:
            computation = self._ledger.computations.get(ComputationId(finding.computation))
            placement = None if computation is None else computation.placements.get(node.id)
            if computation is not None and placement is not None:
                self._settle_difference(computation, placement, finding)
        self._ledger.touch_node(node)

    def _settle_difference(self, computation: Computation, placement: Placement, finding: Finding) -> None:
        node = placement.node
        self._take_missing(computation, placement, finding)
        take_found(self._ledger, computation, placement, finding.data)
        if finding.state == "unknown":
            self._open_anew(computation, placement)
        elif placement.state is PlacementState.CLOSING:
            if finding.state != "closing":
                self._ledger.send(node, CloseComputation(computation.id, computation.terminate))
        elif placement.state in (PlacementState.PREPARING, PlacementState.READY):
            if finding.state == "ready":
                self._opening.ready(computation, placement)
            elif finding.state == "preparing":
                advance_placement(placement, PlacementStep.FOUND_PREPARING)
            else:
                advance_placement(placement, PlacementStep.FOUND_CLOSING)
                self._opening.tell_gone(computation, placement)
        if finding.state in ("ready", "preparing"):
            self._opening.limit(computation, placement, anew=True)
        cancelling: list[AttemptKey] = [
            (job.id, job.attempt) for job in placement.inflight.values() if job.state is JobState.CANCELLING
        ]
        if cancelling:
            self._ledger.send(node, CancelJobs(computation.id, cancelling))
        recall_again(self._ledger, computation, placement)

    def _take_missing(self, computation: Computation, placement: Placement, finding: Finding) -> None:
        jobs = []
        for number, attempt in finding.missing:
            job = placement.inflight.get(number)
            if job is not None and job.attempt == attempt:
                jobs.append(job)
                continue
            job = placement.abandoned.get(number)
            if job is not None and job.attempt == attempt:
                del placement.abandoned[number]
                self._ledger.forget(job)
        jobs = list(dict.fromkeys(jobs))
        if finding.state == "unknown":
            self._ledger.lose(computation, placement, jobs, "has lost the computation and all its jobs")
        else:
            self._settling.take_back(computation, placement, jobs, "does not know the job any more")

    def _open_anew(self, computation: Computation, placement: Placement) -> None:
        """Open a placement again at a node that has forgotten it."""
        if placement.state is PlacementState.CLOSING:
            advance_placement(placement, PlacementStep.CLOSED)
            self._opening.closed(computation, placement)
        elif placement.state in (PlacementState.PREPARING, PlacementState.READY):
            advance_placement(placement, PlacementStep.FORGOTTEN)
            self._opening.tell_gone(computation, placement)
            self._opening.open(computation, placement)


def _check_hello(hello: Hello) -> PythonVersion:
    """Return the node's Python version.

    Raises:
        RemoteProtocolError: the peer is no node, or its greeting makes no sense.
    """
    if hello.role != Role.NODE:
        raise RemoteProtocolError(f"{hello.name!r} is a {hello.role}, not a node; give the address of a node")
    if not hello.ident or hello.epoch < 1 or hello.cpus < 0:
        raise RemoteProtocolError(
            f"{hello.name!r} greets with ident {hello.ident!r}, epoch {hello.epoch}, {hello.cpus} cpus"
        )
    try:
        return PythonVersion.parse(hello.python)
    except ValueError as error:
        raise RemoteProtocolError(f"{hello.name!r} greets with {error}") from error


def _make_node(event: LinkOpened, python: PythonVersion) -> Node:
    hello = event.hello
    return Node(
        NodeId(hello.ident),
        hello.name,
        hello.epoch,
        hello.cpus,
        python,
        hello.platform,
        hello.version,
        NodeState.CONNECTED,
        None,
        event.peer_host,
        draining=bool(hello.refusal),
        refusal=hello.refusal,
        owner=event.owner,
    )


def _update_node(node: Node, event: LinkOpened, python: PythonVersion) -> None:
    """Take over what a node says of itself as it greets."""
    hello = event.hello
    node.name, node.epoch, node.cpus, node.python = hello.name, hello.epoch, hello.cpus, python
    node.platform, node.version = hello.platform, hello.version
    node.link = event.link
    node.peer_host = event.peer_host
    node.avail = None if hello.avail is None else Avail(*hello.avail)
    node.draining, node.refusal = bool(hello.refusal), hello.refusal
    node.resources = {name: count for name, count in hello.resources.items() if count > 0}
    node.next_stream = 1
    _add_addresses(node, event)


def _add_addresses(node: Node, event: LinkOpened) -> None:
    node.addresses.update(event.hello.addresses, (event.peer_host,))
    if event.target is not None:
        node.targets.add(event.target)
    if event.realm:
        node.realms.add(event.realm)
