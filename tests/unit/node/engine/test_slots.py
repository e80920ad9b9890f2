from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispy.model import ClientId, ComputationId
from dispy.wire.messages import OpenComputation
from dispy_node.engine.effects import SetSlots
from dispy_node.engine.records import Client, ComputationState, HostedComputation
from dispy_node.engine.slots import HOLD_S, TURN_S, SlotShares, water_fill


class Shares:
    """Slot shares with computations by name; "b2" is the second computation of client "b"."""

    def __init__(self, cpus: int, *names: str) -> None:
        self.slots = SlotShares(cpus)
        self.now = 10.0
        self.clients: dict[str, Client] = {}
        self.hosted: dict[str, HostedComputation] = {}
        for name in names:
            self.join(name)

    def join(self, name: str, limit: int = 0) -> HostedComputation:
        client = self.clients.setdefault(name[0], Client(ClientId(name[0]), name[0], None))
        offer = OpenComputation(name, "compute", "function", "process", b"", cpus=limit)
        hosted = HostedComputation(ComputationId(name), client.id, offer, ComputationState.READY)
        self.hosted[name] = hosted
        self.slots.join(hosted, client)
        return hosted

    def active(self, name: str, count: int) -> dict[str, int]:
        """Set the number of active attempts; give changes of slots."""
        hosted = self.hosted[name]
        before, hosted.active = hosted.active, count
        if count > before:
            self.slots.note_more(hosted)
        else:
            self.slots.note_fewer(hosted, self.now)
        return self.share_if_due()

    def give_up(self, name: str, count: int) -> dict[str, int]:
        self.slots.note_given_up(self.hosted[name], count)
        return self.share_if_due()

    def resize(self, cpus: int) -> dict[str, int]:
        self.slots.resize(cpus)
        return self.share_if_due()

    def wait(self, seconds: float) -> dict[str, int]:
        """Let time pass; give changes of slots."""
        changes = {}
        end = self.now + seconds
        while self.slots.deadline <= end:
            self.now = self.slots.deadline
            self.slots.due = True
            changes.update(self.share_if_due())
        self.now = end
        return changes

    def share_if_due(self) -> dict[str, int]:
        changes: dict[str, int] = {}
        if self.slots.due:
            for change in self.slots.share(self.now):
                assert isinstance(change, SetSlots)
                changes[change.computation] = change.slots
        self.slots.check_invariants()
        return changes


@pytest.mark.parametrize(
    ("wants", "total", "given"),
    [
        ([], 4, []),
        ([9], 4, [4]),
        ([1, 9], 4, [1, 3]),
        ([9, 9], 4, [2, 2]),
        ([9, 9, 9], 4, [2, 1, 1]),
        ([9, 9, 9], 2, [1, 1, 0]),
        ([2, 9, 3], 9, [2, 4, 3]),
        ([0, 5], 3, [0, 3]),
        ([5, 5], 0, [0, 0]),
        ([1, 1], 5, [1, 1]),
    ],
)
def test_water_fill(wants: list[int], total: int, given: list[int]) -> None:
    assert water_fill(wants, total) == given


@given(st.lists(st.integers(0, 50), max_size=8), st.integers(0, 100))
def test_water_fill_is_fair(wants: list[int], total: int) -> None:
    result = water_fill(wants, total)
    assert sum(result) == min(total, sum(wants))
    assert all(0 <= got <= want for got, want in zip(result, wants, strict=True))
    hungry = [got for got, want in zip(result, wants, strict=True) if got < want]
    if hungry:
        assert max(result) <= min(hungry) + 1


def test_one_computation_grows_with_its_jobs_and_then_is_left_alone() -> None:
    shares = Shares(4, "a")
    assert shares.active("a", 1) == {"a": 1}
    assert shares.active("a", 3) == {"a": 3}
    assert shares.active("a", 1000) == {"a": 4}
    assert not shares.slots.due
    assert shares.active("a", 5000) == {}
    assert shares.active("a", 0) == {}
    assert shares.wait(1000) == {}
    assert shares.active("a", 2) == {}
    assert shares.slots.deadline == math.inf


def test_an_offer_limits_the_slots() -> None:
    shares = Shares(8)
    shares.join("a", limit=3)
    shares.join("b")
    assert shares.active("a", 100) == {"a": 3}
    assert shares.active("b", 100) == {"b": 5}


def test_a_newcomer_gets_its_share_when_jobs_end() -> None:
    shares = Shares(4, "a", "b")
    shares.active("a", 10)
    assert shares.active("b", 10) == {"a": 2}
    assert shares.hosted["a"].held == 4
    assert shares.give_up("a", 3) == {"b": 1}
    assert shares.give_up("a", 2) == {"b": 2}
    assert shares.give_up("a", 2) == {}


def test_long_jobs_do_not_starve_a_newcomer() -> None:
    """All slots are taken by jobs that run: the first that ends makes room."""
    shares = Shares(2, "a", "b")
    shares.active("a", 2)
    assert shares.active("b", 1) == {"a": 1}
    shares.active("a", 1)
    assert shares.give_up("a", 1) == {"b": 1}


def test_idle_slots_are_taken_away_at_once_and_no_more_than_wanted() -> None:
    shares = Shares(4, "a", "b")
    shares.active("a", 4)
    shares.active("a", 0)
    shares.wait(2 * HOLD_S)
    assert shares.active("b", 1) == {"a": 3}
    assert shares.give_up("a", 3) == {"b": 1}


def test_slots_are_held_for_a_moment_against_others() -> None:
    """Between a result and the next assignment nobody loses a slot."""
    shares = Shares(2, "a", "b")
    shares.active("a", 1)
    shares.active("b", 5)
    shares.active("a", 0)
    assert shares.wait(HOLD_S / 2) == {}
    assert shares.active("a", 1) == {}
    assert shares.wait(10) == {}
    shares.active("a", 0)
    assert shares.wait(HOLD_S * 1.01) == {"a": 0}
    assert shares.give_up("a", 0) == {"b": 2}


def test_a_newcomer_shares_with_one_that_has_just_become_idle() -> None:
    shares = Shares(2, "a", "b")
    shares.active("a", 2)
    shares.active("a", 0)
    assert shares.active("b", 2) == {"a": 1}
    assert shares.give_up("a", 1) == {"b": 1}
    assert shares.wait(HOLD_S * 1.01) == {"a": 0}
    assert shares.give_up("a", 0) == {"b": 2}


def test_clients_have_equal_shares_whatever_the_number_of_their_computations() -> None:
    shares = Shares(4, "a1", "a2", "a3", "b1")
    for name in ("a1", "a2", "b1", "a3"):
        shares.active(name, 9)
    for name in ("a1", "a2"):
        shares.give_up(name, shares.hosted[name].slots)
    slots = {name: hosted.slots for name, hosted in shares.hosted.items()}
    assert slots["b1"] == 2
    assert slots["a1"] + slots["a2"] + slots["a3"] == 2


def test_more_computations_than_slots_take_turns() -> None:
    shares = Shares(1, "a", "b", "c")
    for name in "abc":
        shares.active(name, 9)
    assert shares.hosted["a"].slots == 1
    served = ["a"]
    for _ in range(5):
        changes = shares.wait(TURN_S)
        loser = served[-1]
        assert changes == {loser: 0}
        (winner,) = shares.give_up(loser, 0)
        served.append(winner)
    assert served == ["a", "b", "c", "a", "b", "c"]


def test_a_turn_does_not_end_before_the_slot_has_come() -> None:
    shares = Shares(1, "a", "b")
    shares.active("a", 9)
    shares.active("b", 9)
    assert shares.wait(TURN_S) == {"a": 0}
    assert shares.wait(10 * TURN_S) == {}, "the job of a is long; b stays next"
    assert shares.give_up("a", 0) == {"b": 1}


def test_no_growth_before_an_earlier_request_is_confirmed() -> None:
    shares = Shares(2, "a", "b")
    shares.active("a", 2)
    shares.active("b", 1)
    assert shares.hosted["a"].slots == 1
    shares.slots.leave(shares.hosted.pop("b"))
    assert shares.share_if_due() == {}
    assert shares.give_up("a", 1) == {"a": 2}


def test_fewer_cpus_shrink_even_what_nobody_else_wants() -> None:
    shares = Shares(4, "a")
    shares.active("a", 4)
    assert shares.resize(1) == {"a": 1}
    assert shares.hosted["a"].held == 4
    assert shares.give_up("a", 1) == {}
    assert shares.resize(3) == {"a": 3}
    assert shares.resize(0) == {"a": 0}
    assert shares.give_up("a", 0) == {}
    assert shares.wait(100) == {}


def test_slots_of_an_ended_runner_are_free() -> None:
    shares = Shares(2, "a", "b")
    shares.active("a", 2)
    shares.active("b", 2)
    gone = shares.hosted.pop("a")
    shares.slots.leave(gone)
    assert shares.share_if_due() == {"b": 2}
    assert (gone.slots, gone.held) == (0, 0)
    shares.slots.leave(gone)
    assert not shares.slots.due


def test_a_closing_computation_keeps_what_it_holds() -> None:
    shares = Shares(2, "a", "b")
    shares.active("a", 1)
    shares.hosted["a"].state = ComputationState.CLOSING
    assert shares.active("b", 2) == {"b": 1}
    shares.slots.leave(shares.hosted.pop("a"))
    assert shares.share_if_due() == {"b": 2}


@given(st.data())
def test_any_sequence_keeps_the_invariants_and_lets_nobody_starve(data: st.DataObject) -> None:
    shares = Shares(data.draw(st.integers(1, 5)), "a1", "a2", "b1", "c1")
    names = list(shares.hosted)
    for _ in range(data.draw(st.integers(1, 30))):
        name = data.draw(st.sampled_from(names))
        match data.draw(st.sampled_from(["active", "confirm", "wait", "resize"])):
            case "active":
                shares.active(name, data.draw(st.integers(0, 8)))
            case "confirm":
                shares.give_up(name, shares.hosted[name].slots)
            case "wait":
                shares.wait(data.draw(st.sampled_from([0.1, 0.3, 1.0, 5.0])))
            case "resize":
                shares.resize(data.draw(st.integers(1, 5)))
    waiting = {name for name in names if shares.hosted[name].active}
    for _ in range(3 * len(names)):
        for name in names:
            shares.give_up(name, shares.hosted[name].slots)
        waiting -= {name for name in waiting if shares.hosted[name].slots}
        shares.wait(TURN_S)
    assert not waiting
