"""Which messages count as answers that a peer owes it to us to read."""

from __future__ import annotations

import sys

import pytest

from dispy.wire import messages as msg
from dispy.wire.owing import COST_OF, OWED_HIGH, OWED_LOW, OWED_MAX, STALL_S
from dispy.wire.rights import NEEDED
from dispy.wire.session import SILENT_HEARTBEATS

BULK = {
    msg.OpenComputation,
    msg.CloseComputation,
    msg.AssignJobs,
    msg.CancelJobs,
    msg.SendFile,
    msg.LimitSlots,
    msg.FilesComing,
    msg.ShareData,
    msg.DropData,
    msg.RecallJobs,
    msg.WatchOutput,
    msg.Reconcile,
    msg.JobsStarted,
    msg.JobResults,
    msg.JobNews,
    msg.NodeChanged,
}
"""What is sent on the sender's own account, and bounded there."""

OF_SESSION = {msg.Hello, msg.Heartbeat, msg.Goodbye, msg.StreamEnded}


def test_every_message_is_an_answer_or_not() -> None:
    """A new message needs a decision: two honest peers must not be able to stop each other by it."""
    assert COST_OF.keys() | BULK | OF_SESSION == NEEDED.keys()
    assert not COST_OF.keys() & BULK


KEYS = [(number, 1) for number in range(10_000, 11_000)]
REAL = [
    msg.AckResults("c" * 32, KEYS),
    msg.JobsRejected("c" * 32, KEYS, "no"),
    msg.AckNews("c" * 32, [msg.NewsAck(number, 1, 1, True) for number in range(1000)]),
    msg.Reconciled([msg.Finding("c" * 32, "ready", KEYS)]),
    msg.FilesWanted("c" * 32, [f"{number:020}" for number in range(1000)]),
    msg.Reconciled([msg.Finding("c" * 32, "ready", [], list(range(3000)))]),
]


@pytest.mark.parametrize("message", REAL, ids=lambda message: type(message).__name__)
def test_cost_is_about_what_it_takes(message: msg.Message) -> None:
    keys = sys.getsizeof(KEYS) + sum(sys.getsizeof(key) + sys.getsizeof(key[0]) for key in KEYS)
    assert keys / 2 < COST_OF[type(message)](message) < 3 * keys


@pytest.mark.parametrize("kind", [msg.ComputationFailed, msg.FileTaken, msg.DataLost])
def test_reasons_count(kind: type) -> None:
    arguments = ("c",) if kind is msg.ComputationFailed else ("c", 1)
    cost = COST_OF[kind]
    assert cost(kind(*arguments, reason="x" * 5000)) - cost(kind(*arguments, reason="")) == 5000


def test_small_ones_cost_something() -> None:
    for message in (msg.StreamCredit(1, 1), msg.ComputationReady("c"), msg.ComputationClosed("c")):
        assert COST_OF[type(message)](message) > 0


def test_marks_are_in_order() -> None:
    assert 0 < OWED_LOW < OWED_HIGH < OWED_MAX
    assert STALL_S * 2 < SILENT_HEARTBEATS * 5.0  # while nothing is read, nothing is heard
