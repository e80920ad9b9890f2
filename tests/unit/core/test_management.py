"""What a cluster's user says about its nodes, over a real engine; nothing is dialled."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest

from dispy.allotment import Allotments
from dispy.engine.events import Event
from dispy.engine.records import Computation, JobState, Node, PlacementState
from dispy.errors import InvalidNodes, UsageError
from dispy.job import DispyJob
from dispy.management import NodeManagement
from dispy.nodes import NodeAllocate, NodePattern, choose, parse_nodes
from dispy.packing.bundle import pack_function
from dispy.packing.preparation import make_preparation
from dispy.status import DispyNode
from dispy.wire.messages import CloseComputation, ComputationClosed, ComputationReady, OpenComputation

T = TypeVar("T")


class FakeRuntime:
    """Does at once what the engine's thread would do; notes what is looked for."""

    def __init__(self, world: Any) -> None:
        self.world = world
        self.driver = self
        self.looked: list[str] = []
        self.effects: list[Any] = []

    @property
    def engine(self) -> Any:
        return self.world.engine

    def handle(self, event: Event) -> None:
        self.effects += self.world.do(event)

    def call(self, function: Callable[[], T]) -> T:
        return function()

    def require_transports(self, patterns: Sequence[NodePattern]) -> None:
        pass

    def finder(self, computation: str) -> FakeRuntime:
        return self

    def look(self, patterns: Sequence[NodePattern]) -> None:
        self.looked += [pattern.text for pattern in patterns]


def prepare(*args: object) -> int:
    return 0


class Fleet(NodeManagement):
    """What there is of a cluster here."""

    def __init__(self, world: Any, nodes: Any) -> None:
        self._runtime: Any = FakeRuntime(world)
        self._node_port = 51348
        self._patterns = parse_nodes(nodes, self._node_port)
        packed = pack_function(prepare, preparation=make_preparation(prepare, True))
        self._allotments = Allotments(packed, self._patterns, max_file_bytes=0, is_shared=False)
        self._lock = threading.Condition()
        self._nodes = {}
        self.checked: list[NodePattern] = []
        self._computation: Computation = world.add(
            accepts=self._choose, arguments_for=self._allotments.arguments_for
        )
        self._computation.files_for = self._allotments.files_for

    def _choose(self, node: Node) -> int:
        pattern, cpus = choose(self._patterns, self, node)
        if pattern is not None:
            self._allotments.take(node, pattern)
        return cpus

    def _check_open(self) -> None:
        pass

    def _check_trust(self, patterns: Sequence[NodePattern]) -> None:
        self.checked += patterns


@pytest.fixture
def fleet(world: Any) -> Fleet:
    """Give a cluster that may use 10.0.0.1, where its computation is ready; 10.0.0.2 is there too."""
    fleet = Fleet(world, ["10.0.0.1"])
    world.connect(1)
    world.connect(2)
    world.say(ComputationReady(fleet._computation.id))
    return fleet


def state(fleet: Fleet, number: int = 1) -> PlacementState:
    placement: Any = fleet._runtime.world.placement(fleet._computation, number)
    return placement.state  # type: ignore[no-any-return]


def test_another_node_is_taken_and_looked_for(world: Any, fleet: Fleet, tmp_path: Path) -> None:
    (tmp_path / "own").write_text("data")
    assert fleet._computation.placements.keys() == {world.ident(1)}
    allocation = NodeAllocate("10.0.0.2", cpus=1, depends=[tmp_path / "own"], setup_args=(5,))
    assert fleet.allocate_node(allocation) == 0
    assert state(fleet, 2) is PlacementState.PREPARING
    assert world.placement(fleet._computation, 2).slots == 1
    assert fleet._runtime.looked == ["10.0.0.2"]
    assert [pattern.text for pattern in fleet.checked] == ["10.0.0.2"]
    (opened,) = [one for one in world.messages(fleet._runtime.effects) if isinstance(one, OpenComputation)]
    assert [offer.path for offer in opened.files] == ["own"]
    assert pickle.loads(opened.setup_args)[0] == (5,)


def test_what_a_node_is_to_get_is_checked_before_it_is_taken(fleet: Fleet, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no such file"):
        fleet.allocate_node(NodeAllocate("10.0.0.2", depends=[tmp_path / "missing"]))
    assert [pattern.text for pattern in fleet._patterns] == ["10.0.0.1"]


def test_what_is_said_last_about_a_node_decides(world: Any, fleet: Fleet) -> None:
    fleet.allocate_node(("10.0.0.1", None, 1))
    assert world.placement(fleet._computation).slots == 1
    fleet.allocate_node("*")
    assert world.placement(fleet._computation).slots == 2


@pytest.mark.parametrize(
    "nothing", [5, [], None, "///", [object()]], ids=lambda nothing: type(nothing).__name__
)
def test_nothing_to_allocate(fleet: Fleet, nothing: Any) -> None:
    assert fleet.allocate_node(nothing) == -1


@pytest.mark.parametrize("name", ["node1", "10.0.0.1", DispyNode("10.0.0.1")], ids=str)
def test_a_node_rests_and_is_taken_again(world: Any, fleet: Fleet, name: Any) -> None:
    assert fleet.deallocate_node(name) == 0
    (job,) = world.submit(fleet._computation)
    assert job.state is JobState.QUEUED
    assert fleet.allocate_node("10.0.0.1") == 0
    assert job.state is JobState.ASSIGNED


def test_a_node_is_closed_and_set_up_again_when_it_is_taken(world: Any, fleet: Fleet) -> None:
    assert fleet.close_node("node1", terminate_pending=True) == 0
    assert world.messages(fleet._runtime.effects) == [CloseComputation(fleet._computation.id, True)]
    world.say(ComputationClosed(fleet._computation.id))
    assert state(fleet) is PlacementState.CLOSED
    fleet._runtime.effects.clear()
    assert fleet.allocate_node("10.0.0.1") == 0
    assert [type(message) for message in world.messages(fleet._runtime.effects)] == [OpenComputation]


def test_a_node_is_set_up_again(world: Any, fleet: Fleet) -> None:
    assert fleet.resetup_node("node1") == 0
    effects = world.say(ComputationClosed(fleet._computation.id))
    assert [type(message) for message in world.messages(effects)] == [OpenComputation]


@pytest.mark.parametrize(
    ("cpus", "answer", "slots"),
    [(1, 1, 1), (0, 0, 0), (9, 2, 2), (-1, 1, 1), (-2, 2, 2), (-9, 2, 2), ("2", -1, 2)],
)
def test_cpus_of_a_node(world: Any, fleet: Fleet, cpus: Any, answer: int, slots: int) -> None:
    assert fleet.set_node_cpus("node1", cpus) == answer
    assert world.placement(fleet._computation).slots == slots


def test_all_cpus_are_all_also_when_there_are_more(world: Any, fleet: Fleet) -> None:
    from dispy.wire.messages import NodeChanged

    fleet.set_node_cpus("node1", 1)
    fleet.set_node_cpus("node1", 2)
    world.say(NodeChanged(6))
    assert world.placement(fleet._computation).slots == 6


@pytest.mark.parametrize("from_node", [False, True])
def test_jobs_of_a_node_are_those_that_run(world: Any, fleet: Fleet, from_node: bool) -> None:
    jobs = world.jobs(fleet._computation, 4)
    for job in jobs:
        job.handle = DispyJob(job.id, job.id, text_output=True)
    from dispy.engine.events import JobsSubmitted

    world.do(JobsSubmitted(jobs))
    world.start(jobs[1])
    assert fleet.node_jobs("node1", from_node) == [jobs[1].handle]
    assert fleet.node_jobs("node2") == []


def test_unknown_nodes(fleet: Fleet, capsys: pytest.CaptureFixture[str]) -> None:
    for act in (fleet.deallocate_node, fleet.close_node, fleet.resetup_node, fleet.node_jobs):
        assert act("nowhere") == -1
        assert "node nowhere is not known to this cluster" in capsys.readouterr().out
    assert fleet.set_node_cpus("nowhere", 1) == -1
    assert fleet.close_node("node2") == -1, "it is there, but not used by this cluster"


def test_looking_now(fleet: Fleet) -> None:
    assert fleet.discover_nodes() == 0
    assert fleet.discover_nodes("node7") == 0
    assert fleet._runtime.looked == ["10.0.0.1", "node7"]
    with pytest.raises(InvalidNodes):
        fleet.discover_nodes(5)


def test_waiting_for_nodes(fleet: Fleet) -> None:
    assert fleet.wait_for_nodes(0) is True
    assert fleet.wait_for_nodes(1, timeout=0) is False

    def come() -> None:
        with fleet._lock:
            fleet._nodes["1"] = DispyNode("10.0.0.1")
            fleet._lock.notify_all()

    thread = threading.Timer(0, come)
    thread.start()
    assert fleet.wait_for_nodes(timeout=30) is True
    thread.join()
