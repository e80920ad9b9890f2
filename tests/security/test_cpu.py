"""What a message costs the processor of its receiver: it grows with the message, not with what the receiver holds.

A frame has 4 MiB and a daemon one thread, so a handler that walks through all jobs for each entry of a message, or for
each of many small messages, would let one client keep a node from all others. Here a client has 20 000 jobs at a node,
and sends thousands of entries of each kind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from time import process_time

import msgspec
import pytest

from dispy.model import ComputationId, LinkId
from dispy.wire import messages as msg
from dispy_node.engine import events as ev
from dispy_node.engine.gathering import LINE_MAX, LINES_MAX
from dispy_node.engine.node import NodeEngine
from dispy_node.engine.records import AttemptState

LINK = LinkId(1)
JOBS = 20_000
"""At the node."""
ENTRIES = 3_000
"""In one message, or messages of one entry."""
MOST_S = 2.0
"""Some ten times what it takes; with a walk through all jobs for each it would be more than five times this."""


def hello() -> msg.Hello:
    return msg.Hello(1, 1, "client", "rogue", 1, "rogue", "1.0", "3.11.1", "linux", 4 << 20, 5.0)


def job(number: int, **options: object) -> msg.JobAssignment:
    return msg.JobAssignment(number, 1, b"", **options)  # type: ignore[arg-type]


class Node:
    """A node with 20 000 jobs of one client that wait for others to end; the second one is RUNNING."""

    def __init__(self) -> None:
        self.engine = NodeEngine(cpus=2)
        self.engine.handle(ev.LinkOpened(LINK, hello()), 1.0)
        self.tell(msg.Reconcile([]))
        self.tell(msg.OpenComputation("a", "f", "function", "process", b"P"))
        self.engine.handle(ev.RunnerReady(ComputationId("a")), 1.0)
        self.tell(msg.AssignJobs("a", [job(number) for number in range(1, JOBS + 1)]))
        self.engine.handle(ev.AttemptsStarted(ComputationId("a"), [msg.JobStart(2, 1, 5.0)]), 1.0)
        assert len(self.engine.computations[ComputationId("a")].attempts) == JOBS

    def tell(self, *messages: msg.Message) -> None:
        for message in messages:
            self.engine.handle(ev.MessageReceived(LINK, message), 1.0)


def each(make: Callable[[int], Iterable[msg.Message]]) -> list[msg.Message]:
    """Thousands of small messages."""
    return [message for number in range(1, ENTRIES + 1) for message in make(number)]


KEYS = [(number, 1) for number in range(1, ENTRIES + 1)]

CLOSING = msg.CloseComputation("a", terminate=True)
OPENING = msg.OpenComputation("a", "f", "function", "process", b"P", code_stream=0)

MESSAGES: dict[str, list[msg.Message]] = {
    "assign": [msg.AssignJobs("a", [job(number) for number in range(1, ENTRIES + 1)])],
    "assign one by one": each(lambda number: [msg.AssignJobs("a", [job(number)])]),
    "assign to one that is closing": [CLOSING, *each(lambda number: [msg.AssignJobs("a", [job(number)])])],
    "assign to one that is opened again": [
        CLOSING,
        OPENING,
        *each(lambda number: [msg.AssignJobs("a", [job(number)])]),
    ],
    "cancel": [msg.CancelJobs("a", KEYS)],
    "cancel one by one": each(lambda number: [msg.CancelJobs("a", [(number, 1)])]),
    "recall": [msg.RecallJobs("a", KEYS)],
    "recall one by one": each(lambda number: [msg.RecallJobs("a", [(number, 1)])]),
    "acknowledge": [msg.AckResults("a", KEYS)],
    "acknowledge one by one": each(lambda number: [msg.AckResults("a", [(number, 1)])]),
    "acknowledge news": [msg.AckNews("a", [msg.NewsAck(2, 1, number, True) for number in range(ENTRIES)])],
    "limit": each(lambda number: [msg.LimitSlots("a", number % 2)]),
    "limit all in line": [
        msg.AssignJobs("a", [job(JOBS + number, demand=msg.JobDemand(2)) for number in range(1, 65)]),
        *each(lambda number: [msg.LimitSlots("a", 1 + number % 2)]),
    ],
    "watch": each(lambda number: [msg.WatchOutput("a", 2, 1, number, msg.STDOUT, 0, 100)]),
    "share and drop": each(
        lambda number: [msg.ShareData("a", number, number, 9), msg.DropData("a", [number])]
    ),
    "share, need and drop": each(
        lambda number: [
            msg.ShareData("a", number, number, 9),
            msg.AssignJobs("a", [job(JOBS + number, needs=(number,))]),
            msg.DropData("a", [number]),
        ]
    ),
    "believe the same again": [
        msg.Reconcile([msg.Belief("a", [(number, 1)])] * ENTRIES) for number in range(1, 10)
    ],
    "believe again and again": each(lambda number: [msg.Reconcile([])]),
    "open and close": each(lambda number: [CLOSING, OPENING]),
    "open others": each(lambda number: [msg.OpenComputation(f"b{number}", "f", "function", "process", b"P")]),
}


@pytest.fixture
def node() -> Node:
    return Node()


@pytest.fixture
def crowded() -> Node:
    """All of the line is taken by jobs whose arguments never come, and one client has a thousand computations."""
    node = Node()
    node.tell(
        *(msg.OpenComputation(f"c{number}", "f", "function", "process", b"P") for number in range(1_000))
    )
    for number in range(LINES_MAX // LINE_MAX):
        link = LinkId(10 + number)
        greeting = msgspec.structs.replace(hello(), ident=f"other{number}")
        node.engine.handle(ev.LinkOpened(link, greeting), 1.0)
        name = f"b{number}"
        opening = msg.OpenComputation(name, "f", "function", "process", b"P")
        node.engine.handle(ev.MessageReceived(link, opening), 1.0)
        node.engine.handle(ev.RunnerReady(ComputationId(name)), 1.0)
        waiting = [
            msgspec.structs.replace(job(one, demand=msg.JobDemand(1)), stream=one, size=100_000)
            for one in range(1, LINE_MAX + 1)
        ]
        node.engine.handle(ev.MessageReceived(link, msg.AssignJobs(name, waiting)), 1.0)
    assert len(node.engine._ledger.gathering.line) == LINES_MAX
    return node


@pytest.mark.parametrize(
    "kind", ["acknowledge one by one", "watch", "cancel one by one", "share and drop", "limit"]
)
def test_cost_does_not_grow_with_what_others_wait_for(node: Node, crowded: Node, kind: str) -> None:
    took = []
    for one in (node, crowded):
        began = process_time()
        one.tell(*MESSAGES[kind])
        took.append(process_time() - began)
    assert took[1] < 5 * took[0] + 0.1


@pytest.mark.parametrize("kind", MESSAGES)
def test_cost_does_not_grow_with_what_is_there(node: Node, kind: str) -> None:
    began = process_time()
    node.tell(*MESSAGES[kind])
    assert process_time() - began < MOST_S


def test_every_message_of_a_client_is_in_the_table() -> None:
    told = {type(message) for messages in MESSAGES.values() for message in messages}
    others = {msg.SendFile, msg.FilesComing, msg.Heartbeat, msg.Goodbye, msg.StreamEnded, msg.StreamCredit}
    assert told | others == set(NodeEngine(cpus=1)._message_handlers)


def test_data_that_comes_does_not_look_at_all_that_each_job_needs(node: Node) -> None:
    """Each of many jobs needs all of much data, which comes one by one."""
    data = range(1, 1_001)
    node.tell(*(msg.ShareData("a", number, number, 1) for number in data))
    jobs = [job(JOBS + number, needs=tuple(data)) for number in range(1, 201)]
    node.tell(msg.AssignJobs("a", jobs))
    began = process_time()
    for number in reversed(data):
        spooled = ev.Spooled(f"p{number}", 1)
        node.engine.handle(ev.StreamStored(LINK, number, spooled), 1.0)
    assert process_time() - began < MOST_S
    attempts = node.engine.computations[ComputationId("a")].attempts
    assert attempts[JOBS + 1, 1].state is AttemptState.QUEUED


def test_news_costs_no_more_the_more_is_kept(node: Node) -> None:
    began = process_time()
    for number in range(1, 4_001):
        news = msg.News(2, 1, number, msg.LOG, b"")
        node.engine.handle(ev.NewsTold(ComputationId("a"), news), 1.0)
    node.tell(*(msg.AckNews("a", [msg.NewsAck(2, 1, number, True)]) for number in range(4_000, 0, -1)))
    assert process_time() - began < MOST_S
    assert not node.engine.computations[ComputationId("a")].attempts[2, 1].news
