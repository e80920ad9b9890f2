"""Attempts that must have slots and items for themselves; that nothing is held twice is in `test_node_machine`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dispy.model import ComputationId, Outcome
from dispy.wire.messages import AssignJobs, CancelJobs, JobDemand, JobsRejected, LimitSlots, RecallJobs
from dispy_node.engine import effects as fx
from dispy_node.engine import events as ev
from dispy_node.engine.gathering import LINE_MAX, LINES_MAX, is_demand
from dispy_node.engine.records import Grant
from dispy_node.engine.slots import TURN_S

Make = Callable[..., Any]
GPU = JobDemand(resources=(("gpu", 1),))


@pytest.fixture
def node(make_node: Make) -> Any:
    """Four slots and two GPUs, computation "a" ready."""
    script = make_node(cpus=4, resources={"gpu": ("0", "3")})
    script.connect()
    script.ready()
    return script


def demand(node: Any, number: int, demanded: JobDemand, **options: Any) -> list[fx.Effect]:
    job = node.job(number, demand=demanded)
    effects: list[fx.Effect] = node.send(AssignJobs(options.get("name", "a"), [job]), options.get("link", 1))
    return effects


def grants(effects: list[fx.Effect]) -> dict[int, Grant]:
    found = [effect.granted for effect in effects if isinstance(effect, fx.RunJobs)]
    return {key[0]: grant for granted in found for key, grant in granted.items()}


def rejected(effects: list[fx.Effect]) -> list[tuple[list[tuple[int, int]], str]]:
    messages = [effect.message for effect in effects if isinstance(effect, fx.SendMessage)]
    return [(one.attempts, one.reason) for one in messages if isinstance(one, JobsRejected)]


def give_up(node: Any, slots: int, name: str = "a") -> list[fx.Effect]:
    effects: list[fx.Effect] = node.do(ev.SlotsGivenUp(ComputationId(name), slots))
    return effects


def test_what_is_free_is_given_at_once(node: Any) -> None:
    assert grants(demand(node, 1, JobDemand(3))) == {1: Grant(3)}
    assert grants(demand(node, 2, GPU)) == {2: Grant(1, items=(("gpu", ("0",)),))}
    assert node.engine.resources_used == {"gpu": ["0"]}


def test_items_come_back_and_go_to_the_next(node: Any) -> None:
    demand(node, 1, GPU)
    demand(node, 2, GPU)
    assert grants(demand(node, 3, GPU)) == {}
    assert grants(node.end(2)) == {3: Grant(1, items=(("gpu", ("3",)),))}


def test_who_lacks_items_keeps_them_from_those_behind_but_gathers_no_slots(node: Any) -> None:
    demand(node, 1, GPU)
    assert grants(demand(node, 2, JobDemand(1, resources=(("gpu", 2),)))) == {}
    assert grants(demand(node, 3, GPU)) == {}
    assert grants(demand(node, 4, JobDemand(2))) == {4: Grant(2)}
    assert list(grants(node.end(1))) == [2]


def test_slots_are_gathered_as_they_become_free_and_nobody_passes_by(node: Any) -> None:
    node.assign(1, 2, 3, 4)
    effects = demand(node, 5, JobDemand(3))
    assert fx.SetSlots(ComputationId("a"), 1) in effects
    node.assign(6, 7, 8)
    node.end(1)
    assert grants(give_up(node, 3)) == {}
    node.end(2, 3)
    assert grants(give_up(node, 1)) == {5: Grant(3)}
    assert fx.SetSlots(ComputationId("a"), 4) in node.end(5)


def test_exclusive_waits_for_all_and_keeps_all_out(node: Any) -> None:
    node.assign(1)
    assert grants(demand(node, 2, JobDemand(exclusive=True))) == {}
    node.end(1)
    assert grants(give_up(node, 0)) == {2: Grant(4, alone=True)}
    assert grants(demand(node, 3, GPU)) == {}
    assert not any(isinstance(effect, fx.SetSlots) for effect in node.assign(4))
    node.do(ev.CpusChanged(8))
    assert list(grants(node.end(2))) == [3]  # there is room for everybody now


def test_others_have_a_turn_before_slots_are_gathered_again(node: Any) -> None:
    node.connect(2, "c2")
    demand(node, 1, JobDemand(4))
    node.ready("b", 2)
    node.assign(11, 12, name="b", link=2)
    demand(node, 2, JobDemand(4))
    assert fx.SetSlots(ComputationId("b"), 2) in node.end(1)
    node.wait(TURN_S * 1.1)
    node.end(11, 12, name="b")
    assert list(grants(give_up(node, 0, "b"))) == [2]


@pytest.mark.parametrize(
    ("demanded", "why"),
    [
        (JobDemand(5), "it needs 5 CPUs, and may use 4 at the node"),
        (JobDemand(resources=(("gpu", 3),)), "it needs 3 of the resource 'gpu', of which the node has 2"),
        (JobDemand(resources=(("fpga", 1),)), "it needs 1 of the resource 'fpga', of which the node has 0"),
    ],
)
def test_what_can_never_be_is_rejected(node: Any, demanded: JobDemand, why: str) -> None:
    assert rejected(demand(node, 1, demanded)) == [([(1, 1)], why)]


def test_what_cannot_be_any_more_is_given_back(node: Any) -> None:
    node.assign(1, 2, 3, 4)
    demand(node, 5, JobDemand(4))
    assert rejected(node.do(ev.CpusChanged(2)))[0][0] == [(5, 1)]
    demand(node, 6, JobDemand(2))
    assert rejected(node.send(LimitSlots("a", 1)))[0][0] == [(6, 1)]


@pytest.mark.parametrize("message", [CancelJobs("a", [(5, 1)]), RecallJobs("a", [(5, 1)])])
def test_cancelled_or_recalled_in_line_it_lets_others_go_on(node: Any, message: Any) -> None:
    node.assign(1, 2, 3, 4)
    assert fx.SetSlots(ComputationId("a"), 0) in demand(node, 5, JobDemand(4))
    node.assign(6, 7)
    node.send(message)
    assert not node.engine._ledger.gathering.line
    node.end(1, 2, 3, 4)
    assert fx.SetSlots(ComputationId("a"), 2) in give_up(node, 0)


def test_runner_that_dies_may_have_started_it_and_all_is_free_again(node: Any) -> None:
    demand(node, 1, JobDemand(2, resources=(("gpu", 2),)))
    effects = node.do(ev.RunnerEnded(ComputationId("a"), "killed"))
    assert rejected(effects) == []
    (attempt,) = node.engine.clients["c1"].leftovers["a"].values()
    assert attempt.result.outcome == Outcome.DIED
    assert node.engine.resources_used == {"gpu": []}


def test_a_client_has_only_so_many_in_line(node: Any) -> None:
    node.assign(1, 2, 3, 4)
    for number in range(5, LINE_MAX + 5):
        assert rejected(demand(node, number, JobDemand(4))) == []
    assert "jobs of this client wait" in rejected(demand(node, LINE_MAX + 5, JobDemand(4)))[0][1]


def test_all_clients_have_only_so_many_in_line(node: Any) -> None:
    node.assign(1, 2, 3, 4)
    for link in range(2, 2 + LINES_MAX // LINE_MAX):
        node.connect(link, f"c{link}")
        node.ready(f"b{link}", link=link)
        for number in range(1, LINE_MAX + 1):
            assert rejected(demand(node, number, JobDemand(4), name=f"b{link}", link=link)) == []
    assert rejected(demand(node, 5, JobDemand(4)))[0][1].startswith(f"{LINES_MAX} jobs wait at the node")


@pytest.mark.parametrize(
    "wrong",
    [
        JobDemand(0),
        JobDemand(2**40),
        JobDemand(1, resources=(("gpu", 0),)),
        JobDemand(1, resources=(("gpu", 1), ("gpu", 1))),
        JobDemand(1, resources=(("x" * 65, 1),)),
        JobDemand(1, resources=tuple((f"r{number}", 1) for number in range(17))),
    ],
)
def test_what_no_scheduler_sends_closes_the_link(node: Any, wrong: JobDemand) -> None:
    assert not is_demand(wrong)
    assert any(isinstance(effect, fx.CloseLink) for effect in demand(node, 1, wrong))
