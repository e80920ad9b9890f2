from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from dispy.model import ComputationId, LinkId, Outcome
from dispy.wire.messages import (
    CancelJobs,
    CloseComputation,
    ComputationClosed,
    FileOffer,
    Hello,
    JobResults,
    JobsRejected,
    NodeChanged,
    Reconcile,
)
from dispy.wire.owner import UNKNOWN, Owner
from dispy_node.engine import effects as fx
from dispy_node.engine import events as ev
from dispy_node.engine.records import Spooled

if TYPE_CHECKING:
    from conftest import NodeScript

OUT = Spooled("out", 9)


def test_only_clients_are_served(make_node: type[NodeScript]) -> None:
    node = make_node()
    reason = "a node serves clients only, not a 'node'"
    assert node.connect(role="node") == [fx.CloseLink(LinkId(1), reason)]
    assert not node.engine.clients


def test_a_client_that_was_greeted_with_another_number_of_slots_is_told(node: NodeScript) -> None:
    hello = Hello(1, 1, "client", "c2", 1, "host-c2", "1.0", "3.11.1", "linux", 4 << 20, 5.0)
    assert node.do(ev.LinkOpened(LinkId(2), hello, told_cpus=2)) == []
    node.lose(2)
    assert node.do(ev.LinkOpened(LinkId(3), hello, told_cpus=1)) == [node.said(NodeChanged(2), link=3)]


def test_a_second_link_waits_until_it_is_used(node: NodeScript) -> None:
    """The client may have reached this node under two addresses at once; which link it keeps is its choice."""
    node.ready()
    assert node.connect(2) == []
    assert node.lose(2) == []
    assert node.engine.clients["c1"].link == 1
    assert node.assign(1)


def test_what_a_second_link_says_before_it_is_used_counts_for_nothing(node: NodeScript) -> None:
    node.ready()
    node.connect(2)
    assert node.assign(1, link=2) == []
    assert node.engine.counters.stale == 1


def test_a_second_link_takes_over_when_the_first_is_gone(node: NodeScript) -> None:
    node.ready()
    node.connect(2)
    assert node.lose(1) == []
    assert node.engine.clients["c1"].link == 2
    assert "a" in node.engine.computations


def test_a_second_link_stays_when_the_client_ends_on_the_first(node: NodeScript) -> None:
    node.ready()
    node.connect(2)
    node.lose(1, final=True)
    assert node.engine.clients["c1"].link == 2


def test_a_newer_link_replaces_the_old_one(node: NodeScript) -> None:
    node.ready()
    assert node.connect(2) == []
    assert node.reconcile(2, a=[])[0] == fx.CloseLink(LinkId(1), "replaced by a newer link")
    assert node.lose(1) == []
    assert node.engine.clients["c1"].link == 2
    assert "a" in node.engine.computations


def test_what_was_arriving_is_forgotten_with_the_link(node: NodeScript) -> None:
    node.ready("a")
    node.assign_stream(1, stream=1)
    node.send(node.offer("b", files=[FileOffer("x", 9, 0o644, 0.0, 2), FileOffer("y", 9, 0o644, 0.0, 3)]))
    node.store(2, "in-2")
    node.assign(2, name="b")
    assert node.lose() == [fx.RemoveSpooled([Spooled("in-2", 9)])]
    node.connect(2)
    (reconciled,) = node.reconcile(2, a=[1], b=[2])
    assert [(item.state, item.missing) for item in reconciled.message.findings] == [
        ("ready", [(1, 1)]),
        ("unknown", [(2, 1)]),
    ]


def test_streams_are_numbered_anew_on_each_link(node: NodeScript) -> None:
    node.ready()
    node.assign_stream(1, stream=7)
    node.store(7)
    node.end(1, spooled=OUT, body=b"")
    node.lose()
    node.connect(2)
    _reconciled, _results, stream = node.reconcile(2, a=[1])
    assert stream == fx.SendStream(LinkId(2), 1, OUT)
    assert node.assign_stream(2, stream=1, link=2) == []


def test_a_client_back_within_the_lease_finds_all_as_it_was(node: NodeScript) -> None:
    node.ready()
    node.assign(1, 2)
    node.lose()
    assert node.wait(14.0) == []
    node.connect(2)
    node.reconcile(2, a=[1, 2])
    assert node.wait(100.0) == []
    assert node.end(1, 2) == [node.said(JobResults("a", [node.result(1), node.result(2)]), link=2)]


def test_an_idle_computation_is_closed_when_the_lease_ends(node: NodeScript) -> None:
    node.ready()
    node.lose()
    effects = node.wait(15.0)
    assert effects[0] == fx.Report(
        "client 'host-c1' has been away for 15 s; its running jobs go on, nothing new is started for it"
    )
    assert effects[1:] == [fx.CloseRunner("a", terminate=False)]
    assert node.do(ev.RunnerEnded("a")) == [fx.RemoveFolder("a")]
    assert not node.engine.clients
    assert node.engine.next_deadline() is None


def test_running_jobs_run_to_their_end_without_the_client(node: NodeScript) -> None:
    node.ready()
    node.assign(1, 2, 3)
    node.start(1)
    node.send(CancelJobs("a", [(3, 1)]))
    node.lose()
    effects = node.wait(15.0)
    assert effects[1:] == [fx.CancelAttempts("a", [(2, 1)])]
    assert node.end(2, 3, outcome=Outcome.CANCELLED, started_at=0.0) == []
    assert node.wait(10_000.0) == []
    assert node.end(1, spooled=OUT, body=b"") == [fx.CloseRunner("a", terminate=False)]
    node.do(ev.RunnerEnded("a"))
    assert node.wait(3599.0) == []
    node.connect(2)
    reconciled, results, _stream = node.reconcile(2, a=[1, 2, 3])
    assert reconciled.message.findings[0].missing == [(2, 1)], "it never started"
    assert [result.job for result in results.message.results] == [1, 3]


def test_results_are_dropped_in_the_end(node: NodeScript) -> None:
    node.ready()
    node.assign(1)
    node.end(1, spooled=OUT, body=b"")
    node.lose()
    node.wait(15.0)
    node.do(ev.RunnerEnded("a"))
    assert node.wait(3600.0) == [fx.RemoveSpooled([OUT])]
    assert not node.engine.clients
    assert node.engine.next_deadline() is None


def test_jobs_that_wait_for_the_runner_are_forgotten_when_the_lease_ends(node: NodeScript) -> None:
    node.send(node.offer())
    node.assign(1)
    node.lose()
    assert node.wait(15.0)[1:] == [fx.CloseRunner("a", terminate=True)]
    node.do(ev.RunnerFailed("a", "told to end"))
    assert not node.engine.clients


def test_withdrawn_jobs_of_a_client_that_returns_at_the_last_moment(node: NodeScript) -> None:
    """They were told to end as the client was away: never started ones are rejected, others have died."""
    node.ready()
    node.assign(1, 2, 3, 4)
    node.lose()
    assert node.wait(15.0)[-1] == fx.CancelAttempts("a", [(1, 1), (2, 1), (3, 1), (4, 1)])
    node.connect(2)
    node.reconcile(2, a=[1, 2, 3, 4])
    node.start(2)
    rejected, results = node.do(
        ev.AttemptsEnded(
            "a",
            [
                ev.AttemptResult(node.result(1, Outcome.CANCELLED, started_at=0.0)),
                ev.AttemptResult(node.result(2, Outcome.CANCELLED)),
                ev.AttemptResult(node.result(3)),
            ],
        )
    )
    assert rejected.message == JobsRejected("a", [(1, 1)], "its client was away for longer than the lease")
    ends = {result.job: (result.outcome, result.detail) for result in results.message.results}
    died = "the node ended it: its client was away for longer than the lease"
    assert ends == {3: (Outcome.RETURNED, ""), 2: (Outcome.DIED, died)}
    assert node.send(CancelJobs("a", [(4, 1)]), link=2) == [], "the runner has been asked already"
    (results,) = node.end(4, outcome=Outcome.CANCELLED, started_at=0.0)
    assert results.message.results[0].outcome == Outcome.CANCELLED


def test_a_client_that_lapsed_twice(node: NodeScript) -> None:
    node.ready()
    node.assign(1)
    for link in (1, 2):
        node.lose(link)
        effects = node.wait(15.0)
        assert (fx.CancelAttempts("a", [(1, 1)]) in effects) == (link == 1)
        node.connect(link + 1)
        node.reconcile(link + 1, a=[1])


def test_a_client_that_ends_takes_all_along(node: NodeScript) -> None:
    node.ready("a")
    node.ready("b")
    node.assign(1, 2)
    node.end(1, spooled=OUT, body=b"")
    node.send(node.offer("d", code_stream=1))
    assert node.lose(final=True) == [
        fx.RemoveSpooled([OUT]),
        fx.CloseRunner("a", terminate=True),
        fx.CloseRunner("b", terminate=True),
        fx.ForgetParts("c1", UNKNOWN),
    ]
    assert node.end(2, spooled=OUT, body=b"") == [fx.RemoveSpooled([OUT])]
    node.do(ev.RunnerEnded("a"))
    assert node.engine.clients
    node.do(ev.RunnerEnded("b"))
    assert not node.engine.clients
    assert not node.engine.computations


def test_a_client_with_nothing_is_forgotten_quietly(node: NodeScript) -> None:
    node.lose()
    assert node.wait(15.0) == []
    assert not node.engine.clients
    node.connect(2)
    assert node.lose(2, final=True) == [fx.ForgetParts("c1", UNKNOWN)]
    assert not node.engine.clients


def test_clients_do_not_wait_for_each_other(node: NodeScript) -> None:
    node.connect(2, "c2")
    node.lose(1)
    node.now += 5.0
    node.lose(2)
    node.wait(10.0)
    assert set(node.engine.clients) == {"c2"}
    node.wait(5.0)
    assert not node.engine.clients


def test_a_computation_closed_by_the_lease_is_told_to_a_client_that_returns(node: NodeScript) -> None:
    node.ready()
    node.lose()
    node.wait(15.0)
    node.connect(2)
    (reconciled,) = node.reconcile(2, a=[])
    assert reconciled.message.findings[0].state == "closing"
    assert node.do(ev.RunnerEnded("a"))[-1] == node.said(ComputationClosed("a"), link=2)


MARY = Owner("mary", b"m" * 32)


def greeting_of(ident: str) -> Hello:
    return Hello(1, 1, "client", ident, 1, "somewhere", "1.0", "3.11.1", "linux", 4 << 20, 5.0)


IMPOSTORS = [
    Owner("fred", b"m" * 32),
    Owner("", b"m" * 32),
    Owner("mary", b"f" * 32),
    Owner("mary"),
    replace(MARY, may_act=False),
]


@pytest.fixture
def marys(make_node: Callable[..., NodeScript]) -> NodeScript:
    """A job of Mary's client runs on link 1."""
    node = make_node()
    node.do(ev.LinkOpened(LinkId(1), greeting_of("c1"), owner=MARY))
    node.ready()
    node.assign(1)
    node.start(1)
    return node


@pytest.mark.parametrize("impostor", IMPOSTORS)
@pytest.mark.parametrize("away", [False, True])
def test_nobody_takes_over_the_work_of_another(marys: NodeScript, impostor: Owner, away: bool) -> None:
    if away:
        marys.lose()
    (effect,) = marys.do(ev.LinkOpened(LinkId(2), greeting_of("c1"), owner=impostor))
    assert isinstance(effect, fx.CloseLink)
    assert effect.link == 2
    assert "is that of another client" in effect.reason
    assert marys.send(Reconcile([]), link=2) == []
    assert marys.lose(2, final=True) == []
    assert ComputationId("a") in marys.engine.computations
    if not away:
        assert marys.end(1) != []


def test_its_owner_comes_back(marys: NodeScript) -> None:
    marys.lose()
    assert marys.do(ev.LinkOpened(LinkId(2), greeting_of("c1"), owner=replace(MARY))) == []
    assert marys.reconcile(2, a=[1])


def test_second_link_of_the_owner_waits_and_then_takes_over(marys: NodeScript) -> None:
    marys.do(ev.LinkOpened(LinkId(2), greeting_of("c1"), owner=MARY))
    assert fx.CloseLink(LinkId(1), "replaced by a newer link") in marys.reconcile(2, a=[1])
    marys.do(ev.LinkOpened(LinkId(3), greeting_of("c1"), owner=MARY))
    marys.lose(2)
    assert marys.reconcile(3, a=[1])


def test_ident_is_free_when_nothing_of_its_owner_is_here(make_node: Callable[..., NodeScript]) -> None:
    node = make_node()
    node.do(ev.LinkOpened(LinkId(1), greeting_of("c1"), owner=MARY))
    node.lose()
    node.wait(16)
    assert node.do(ev.LinkOpened(LinkId(2), greeting_of("c1"), owner=IMPOSTORS[0])) == []


def test_clients_whose_results_wait_cost_other_events_nothing(node: NodeScript) -> None:
    for number in range(2, 12):
        node.connect(number, f"c{number}")
        node.ready(f"b{number}", number)
        node.assign(1, name=f"b{number}", link=number)
        node.start(1, name=f"b{number}")
        node.end(1, name=f"b{number}")
        node.send(CloseComputation(f"b{number}"), number)
        node.do(ev.RunnerEnded(ComputationId(f"b{number}")))
        node.lose(number)
    assert len(node.engine._ledger.unsettled) == 10
    node.wait(20.0)
    assert not node.engine._ledger.unsettled
    assert len(node.engine.clients) == 11
    node.connect(12, "c2")
    node.wait(4000.0)
    assert set(node.engine.clients) == {"c1", "c2"}
