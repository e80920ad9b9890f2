from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from dispy.model import ClientId
from dispy.wire.messages import JobsRejected
from dispy_node.engine import effects as fx
from dispy_node.engine.ledger import Ledger, Violation
from dispy_node.engine.records import AttemptState, Client, ComputationState

if TYPE_CHECKING:
    from conftest import NodeScript


@pytest.fixture
def busy(node: NodeScript) -> NodeScript:
    """A node with attempts in all states."""
    node.ready("a")
    node.assign(1, 2, 3)
    node.start(2)
    node.end(3)
    node.assign_stream(4, stream=1)
    node.send(node.offer("b"))
    node.assign(5, name="b")
    node.send(node.offer("d", code_stream=2))
    return node


def break_active(ledger: Ledger) -> None:
    ledger.computations["a"].active += 1


def break_pending(ledger: Ledger) -> None:
    ledger.computations["a"].pending -= 1


def break_state(ledger: Ledger) -> None:
    ledger.computations["a"].attempts[1, 1].state = AttemptState.ENDED


def break_body(ledger: Ledger) -> None:
    ledger.computations["b"].attempts[5, 1].body = None


def break_held(ledger: Ledger) -> None:
    ledger.computations["a"].held += 9


def break_slots(ledger: Ledger) -> None:
    ledger.computations["a"].slots = ledger.computations["a"].held = 0


def break_stream(ledger: Ledger) -> None:
    ledger.clients["c1"].awaited.pop(1)


def break_link(ledger: Ledger) -> None:
    ledger.links.clear()


def break_awaited(ledger: Ledger) -> None:
    ledger.computations["d"].awaited.clear()


def break_closed(ledger: Ledger) -> None:
    ledger.computations["b"].state = ComputationState.CLOSING


def break_membership(ledger: Ledger) -> None:
    ledger.slots.members.clear()


def break_listing(ledger: Ledger) -> None:
    ledger.clients["c1"].computations.clear()


@pytest.mark.parametrize(
    "damage",
    [
        break_active,
        break_pending,
        break_state,
        break_body,
        break_held,
        break_slots,
        break_stream,
        break_link,
        break_awaited,
        break_closed,
        break_membership,
        break_listing,
    ],
)
def test_invariants_see_damage(busy: NodeScript, damage: Callable[[Ledger], None]) -> None:
    busy.engine.check_invariants()
    damage(busy.engine._ledger)
    with pytest.raises(AssertionError):
        busy.engine.check_invariants()


def test_streams_are_announced_in_order() -> None:
    ledger = Ledger(2, 15.0, 3600.0)
    client = Client(ClientId("c1"), "host", None)
    ledger.announce(client, 1)
    ledger.announce(client, 5)
    with pytest.raises(Violation, match="stream 5 is announced after stream 5"):
        ledger.announce(client, 5)


def test_nothing_is_told_to_a_client_that_is_away() -> None:
    ledger = Ledger(2, 15.0, 3600.0)
    client = Client(ClientId("c1"), "host", None)
    ledger.reject(client, "a", [(1, 1)], "no")
    ledger.drop_stream(client, 1)
    assert ledger.out == []
    client.link = 3
    ledger.reject(client, "a", [], "no")
    ledger.remove([])
    assert ledger.out == []
    ledger.reject(client, "a", [(1, 1)], "no")
    assert ledger.out == [fx.SendMessage(3, JobsRejected("a", [(1, 1)], "no"))]
    assert ledger.counters.rejected == 2
