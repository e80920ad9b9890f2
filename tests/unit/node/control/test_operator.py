"""What the owner can ask of a node."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import trio

from dispy.model import ComputationId, LinkId
from dispy.wire.messages import AssignJobs, Hello, JobAssignment, JobStart, OpenComputation
from dispy_node.avail import count_cpus
from dispy_node.engine import events as ev

if TYPE_CHECKING:
    from conftest import Owned


def ask(owned: Owned, request: object) -> dict[str, Any]:
    """Ask within an event loop, whose clock the daemon reads."""

    async def main() -> dict[str, Any]:
        answer, then = owned.operator.answer(request)
        json.dumps(answer)
        if then is not None:
            then()
        return answer

    return trio.run(main)


def test_status_of_an_idle_node(owned: Owned) -> None:
    told = ask(owned, {"do": "status"})
    assert (told["node"], told["state"], told["reason"], told["slots"]) == ("worker", "open", None, 1)
    assert told["addresses"] == ["tcp:0.0.0.0:51348"]
    assert told["started_at"] == 7.0
    assert told["clients"] == told["computations"] == []


def test_status_tells_of_clients_and_jobs(owned: Owned) -> None:
    hello = Hello(1, 1, "client", "c1", 1, "laptop", "1.0", "3.11.1", "linux", 4 << 20, 5.0)
    handle = owned.daemon.engine.handle
    handle(ev.LinkOpened(LinkId(1), hello), 1.0)
    handle(ev.MessageReceived(LinkId(1), OpenComputation("a", "compute", "function", "process", b"P")), 1.0)
    handle(ev.RunnerReady(ComputationId("a")), 1.0)
    jobs = [JobAssignment(number, 1, b"") for number in (1, 2)]
    handle(ev.MessageReceived(LinkId(1), AssignJobs("a", jobs)), 1.0)
    handle(ev.AttemptsStarted(ComputationId("a"), [JobStart(1, 1, 5.0)]), 1.0)
    told = ask(owned, {"do": "status"})
    (client,) = told["clients"]
    assert (client["name"], client["connected"], client["computations"]) == ("laptop", True, 1)
    (computation,) = told["computations"]
    assert computation == {
        "name": "compute",
        "id": "a",
        "client": "laptop",
        "state": "ready",
        "slots": 1,
        "running": 1,
        "waiting": 1,
        "results_kept": 0,
    }
    assert told["jobs"] == {"taken": 2, "ended": 0, "rejected": 0}


@pytest.mark.parametrize(("cpus", "slots"), [(0, 0), (1, 1), ("all", count_cpus())])
def test_cpus(owned: Owned, cpus: object, slots: int) -> None:
    assert ask(owned, {"do": "cpus", "cpus": cpus})["slots"] == slots
    assert owned.daemon.engine.cpus == slots


@pytest.mark.parametrize("cpus", [True, "many", None, 1.5, 10**6])
def test_cpus_that_there_cannot_be(owned: Owned, cpus: object) -> None:
    assert "cpus" in ask(owned, {"do": "cpus", "cpus": cpus})["error"]
    assert owned.daemon.engine.cpus == 1


def test_drain(owned: Owned) -> None:
    told = ask(owned, {"do": "drain"})
    assert (told["state"], told["reason"]) == ("draining", "it is about to end")
    assert owned.daemon.drained.is_set()
    assert not owned.ended


def test_stop_comes_behind_its_answer(owned: Owned) -> None:
    answer, then = owned.operator.answer({"do": "stop"})
    assert (answer["state"], owned.ended) == ("ending", 0)
    assert then is not None
    then()
    assert owned.ended == 1


@pytest.mark.parametrize("request_", [None, [], {}, {"do": "dance"}, {"do": ["stop"]}, "stop"])
def test_unknown_requests(owned: Owned, request_: object) -> None:
    assert "it knows status, cpus, drain, stop" in ask(owned, request_)["error"]
    assert not owned.ended
