"""Which nodes a computation uses, and how it is sent there."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from dispy.engine.effects import CloseLink, Report, SendMessage, SendStream, TellNode
from dispy.engine.events import JobsGivenUp, NodesWidened
from dispy.engine.opening import RESTARTS_MAX
from dispy.engine.records import Node, PlacementState, SourceFile
from dispy.model import INLINE_BODY_BYTES, RESUMABLE_BYTES, FilePart, JobStatus, NodeStatus, PythonVersion
from dispy.wire.messages import (
    ComputationClosed,
    ComputationFailed,
    ComputationReady,
    FileOffer,
    FilesComing,
    FilesWanted,
    JobsRejected,
    LimitSlots,
    NodeChanged,
    OpenComputation,
)

if TYPE_CHECKING:
    from tests.unit.core.conftest import World


def test_a_computation_is_opened_at_nodes_that_come_later_and_that_are_there(world: World) -> None:
    world.add(1)
    assert [type(message).__name__ for message in world.messages(world.connect(1))] == [
        "Reconcile",
        "OpenComputation",
    ]
    second = world.add(2)
    assert world.placement(second).state is PlacementState.PREPARING


def test_a_node_that_is_not_accepted_is_left_alone(world: World) -> None:
    computation = world.add(accepts=lambda node: 0)
    assert len(world.messages(world.connect(1))) == 1
    assert computation.placements == {}


def test_nodes_are_asked_about_again_when_more_may_match(world: World) -> None:
    wanted = 0
    computation = world.add(accepts=lambda node: wanted)
    world.connect(1)
    wanted = 1
    effects = world.do(NodesWidened(computation.id))
    assert [type(message) for message in world.messages(effects)] == [OpenComputation]
    assert world.placement(computation).slots == 1
    wanted = 2
    assert world.messages(world.do(NodesWidened(computation.id))) == [LimitSlots(computation.id, 0)]
    assert world.placement(computation).slots == 2
    wanted = 0
    world.do(NodesWidened(computation.id))
    assert world.placement(computation).slots == 0


@pytest.mark.parametrize(("wanted", "slots", "told"), [(1, 1, 1), (2, 2, 0), (5, 2, 0)])
def test_slots_are_those_that_the_node_has(world: World, wanted: int, slots: int, told: int) -> None:
    computation = world.add(accepts=lambda node: wanted)
    *_, opened = world.messages(world.connect(1, cpus=2))
    assert isinstance(opened, OpenComputation)
    assert opened.cpus == told
    assert world.placement(computation).slots == slots


def test_a_negative_number_of_slots_is_none(world: World) -> None:
    computation = world.add(accepts=lambda node: -3)
    world.connect(1)
    assert computation.placements == {}


def test_a_choice_that_fails_is_told_once_and_refuses_the_node(world: World) -> None:
    def accepts(node: Node) -> int:
        raise KeyError(node.name)

    computation = world.add(accepts=accepts)
    text = "node node1 (10.0.0.1) is not used by compute1: choosing nodes failed: KeyError: 'node1'"
    assert world.connect(1)[1:] == [Report(text, computation.id)]
    assert world.do(NodesWidened(computation.id)) == []
    assert computation.placements == {}


def test_code_depends_on_the_python_of_the_node(world: World) -> None:
    asked = []

    def code_for(python: PythonVersion) -> bytes | str:
        asked.append(python)
        return b"" if python.minor == 12 else "made for Python 3.12, but the node has 3.11"

    computation = world.add()
    computation.code_for = code_for
    world.connect(1, python="3.12.1")
    effects = world.connect(2, python="3.11")
    reason = "made for Python 3.12, but the node has 3.11"
    assert effects[1:] == [
        Report(f"node node2 (10.0.0.2) cannot be used by compute1: {reason}", computation.id),
    ]
    assert world.placement(computation, 1).state is PlacementState.PREPARING
    assert world.placement(computation, 2).state is PlacementState.FAILED
    assert asked == [PythonVersion(3, 12, 1), PythonVersion(3, 11)]


def test_code_that_cannot_be_made_is_told(world: World) -> None:
    computation = world.add()

    def code_for(python: PythonVersion) -> bytes:
        raise OSError("gone")

    computation.code_for = code_for
    assert world.reports(world.connect(1)) == [
        "node node1 (10.0.0.1) cannot be used by compute1: OSError: gone"
    ]


def test_large_code_and_all_files_have_streams(world: World) -> None:
    code = b"x" * (INLINE_BODY_BYTES + 1)
    files = [SourceFile("/src/a", "a", 3, 0o644, 1.5), SourceFile("/src/b/c", "b/c", 0, 0o755, 2.5)]
    world.add(code=code, files=files)
    link = 1
    assert world.connect(1)[1:] == [
        SendMessage(
            link,
            OpenComputation(
                "c1",
                "compute1",
                "function",
                "process",
                b"",
                1,
                len(code),
                [FileOffer("a", 3, 0o644, 1.5, 2), FileOffer("b/c", 0, 0o755, 2.5, 3)],
            ),
        ),
        SendStream(link, 1, code, len(code)),
        SendStream(link, 2, FilePart("/src/a", 3, 1.5), 3),
        SendStream(link, 3, FilePart("/src/b/c", 0, 2.5), 0),
    ]


def test_equal_contents_share_a_stream(world: World) -> None:
    files = [
        SourceFile("/src/a", "a", 3, 0o644, 1.5, b"same"),
        SourceFile("/src/b", "b", 3, 0o644, 1.5),
        SourceFile("/src/c", "c", 3, 0o600, 2.5, b"same"),
    ]
    world.add(files=files)
    _, opened, *streams = world.connect(1)
    assert isinstance(opened, SendMessage)
    assert isinstance(opened.message, OpenComputation)
    assert [(offer.path, offer.stream, offer.digest) for offer in opened.message.files] == [
        ("a", 1, b"same"),
        ("b", 2, b""),
        ("c", 1, b"same"),
    ]
    assert streams == [SendStream(1, 1, files[0].content, 3), SendStream(1, 2, files[1].content, 3)]


def test_files_are_those_of_the_node(world: World) -> None:
    computation = world.add(files=[SourceFile("/src/a", "a", 3, 0o644, 1.5)])
    computation.files_for = lambda node: [SourceFile("/src/" + node.name, "own", 3, 0o644, 1.5)]
    for number in (1, 2):
        *_, stream = world.connect(number)
        assert isinstance(stream, SendStream)
        assert stream.source == FilePart(f"/src/node{number}", 3, 1.5)

    def fails(node: Node) -> list[SourceFile]:
        raise OSError("gone")

    computation.files_for = fails
    assert world.reports(world.connect(3)) == [
        "node node3 (10.0.0.3) cannot be used by compute1: OSError: gone"
    ]


SHARED = [
    SourceFile("/src/a", "a", 3, 0o644, 1.5, b"A"),
    SourceFile("/src/b", "b", 4, 0o644, 1.5, b"B"),
    SourceFile("/src/c", "c", 3, 0o644, 1.5, b"A"),
    SourceFile("/src/d", "d", 5, 0o644, 1.5),
]


def open_shared(world: World) -> None:
    computation = world.add(files=SHARED)
    computation.dest_path = "there"
    computation.keep_files = True
    _, opened, stream = world.connect(1)
    assert isinstance(opened, SendMessage)
    assert isinstance(opened.message, OpenComputation)
    assert (opened.message.dest_path, opened.message.keep_files) == ("there", True)
    offered = {offer.path: offer.stream for offer in opened.message.files}
    assert offered == {"a": 0, "b": 0, "c": 0, "d": 1}, "what has no hash cannot be there already"
    assert stream == SendStream(1, 1, SHARED[3].content, 5)


def test_for_a_shared_folder_only_those_are_sent_that_the_node_wants(world: World) -> None:
    open_shared(world)
    coming = [FileOffer("b", 4, 0o644, 1.5, 2, b"B"), FileOffer("a", 3, 0o644, 1.5, 3, b"A")]
    assert world.say(FilesWanted("c1", ["b", "a"])) == [
        SendMessage(1, FilesComing("c1", coming)),
        SendStream(1, 2, SHARED[1].content, 4),
        SendStream(1, 3, SHARED[0].content, 3),
    ]
    world.say(ComputationReady("c1"))
    assert world.say(FilesWanted("c1", ["c"])) == [], "it is too late"
    assert world.say(FilesWanted("nothing", ["b"])) == []


@pytest.mark.parametrize("paths", [["x"], ["a", "/etc/passwd"], ["a", "a"]])
def test_a_node_gets_no_other_files_than_those_offered(world: World, paths: list[str]) -> None:
    open_shared(world)
    effects = world.say(FilesWanted("c1", paths))
    assert CloseLink(1, "node node1 (10.0.0.1) wants files that were not offered, or again") in effects
    assert not any(isinstance(effect, SendStream) for effect in effects)


def test_a_node_gets_each_file_once(world: World) -> None:
    open_shared(world)
    world.say(FilesWanted("c1", ["b"]))
    effects = world.say(FilesWanted("c1", ["a", "b"]))
    assert any(isinstance(effect, CloseLink) and "or again" in effect.reason for effect in effects)


LARGE = SourceFile("/src/large", "large", RESUMABLE_BYTES, 0o644, 1.5, b"L")


def test_large_files_are_only_offered_and_go_on_where_a_link_broke(world: World) -> None:
    small = replace(LARGE, path="small", size=RESUMABLE_BYTES - 1, digest=b"S")
    world.add(files=[LARGE, small, replace(LARGE, path="unknown", digest=b"")])
    opened, *streams = world.connect(1)[1:]
    assert isinstance(opened, SendMessage)
    assert isinstance(opened.message, OpenComputation)
    offered = {offer.path: offer.stream for offer in opened.message.files}
    assert offered == {"large": 0, "small": 1, "unknown": 2}
    assert len(streams) == 2
    rest = RESUMABLE_BYTES - 1000
    assert world.say(FilesWanted("c1", ["large"], [1000])) == [
        SendMessage(1, FilesComing("c1", [FileOffer("large", LARGE.size, 0o644, 1.5, 3, b"L", 1000)])),
        SendStream(1, 3, FilePart("/src/large", LARGE.size, 1.5, 1000), rest),
    ]


@pytest.mark.parametrize("have", [[-1], [RESUMABLE_BYTES + 1], [0, 0]])
def test_a_node_cannot_have_more_of_a_file_than_there_is(world: World, have: list[int]) -> None:
    world.add(files=[LARGE])
    world.connect(1)
    effects = world.say(FilesWanted("c1", ["large"], have))
    reason = f"node node1 (10.0.0.1) has other parts of files than there can be: {have}"
    assert CloseLink(1, reason) in effects
    assert not any(isinstance(effect, SendStream) for effect in effects)


def test_a_node_may_have_all_of_a_file_already(world: World) -> None:
    world.add(files=[LARGE])
    world.connect(1)
    *_, stream = world.say(FilesWanted("c1", ["large"], [LARGE.size]))
    assert stream == SendStream(1, 1, FilePart("/src/large", LARGE.size, 1.5, LARGE.size), 0)


def test_arguments_of_setup_are_those_of_the_node(world: World) -> None:
    computation = world.add()
    computation.setup_timeout_s = 5.0
    computation.arguments_for = lambda node: node.name.encode()
    for number in (1, 2):
        message = world.messages(world.connect(number))[-1]
        assert isinstance(message, OpenComputation)
        assert (message.setup_timeout_s, message.setup_args) == (5.0, f"node{number}".encode())
        assert (message.setup_stream, message.setup_size) == (0, 0)


def test_large_arguments_of_setup_have_a_stream(world: World) -> None:
    computation = world.add(code=b"x" * (INLINE_BODY_BYTES + 1))
    data = bytes(INLINE_BODY_BYTES + 1)
    computation.arguments_for = lambda node: data
    effects = world.connect(1)
    message = world.messages(effects)[-1]
    assert isinstance(message, OpenComputation)
    assert (message.setup_args, message.setup_stream, message.setup_size) == (b"", 2, len(data))
    assert effects[-1] == SendStream(1, 2, data, len(data))


def test_arguments_that_cannot_be_made_are_told(world: World) -> None:
    computation = world.add()

    def fail(node: Node) -> bytes:
        raise KeyError(node.id)

    computation.arguments_for = fail
    (report,) = world.reports(world.connect(1))
    assert "cannot be used by compute1: KeyError" in report


def test_streams_are_numbered_for_each_link(world: World) -> None:
    world.add(code=b"x" * (INLINE_BODY_BYTES + 1))
    world.connect(1)
    assert world.node().next_stream == 2
    world.disconnect(1)
    world.connect(1, epoch=2)
    assert world.node().next_stream == 2


def test_a_failure_is_told_and_final(world: World) -> None:
    computation = world.add()
    world.connect(1)
    assert world.say(ComputationFailed("c1", "ModuleNotFoundError: numpy")) == [
        Report(
            "node node1 (10.0.0.1) cannot be used by compute1: ModuleNotFoundError: numpy", computation.id
        ),
    ]
    assert world.do(NodesWidened(computation.id)) == []
    world.say(ComputationFailed("c1", "again"))
    assert world.engine.counters.stray_messages == 1
    world.submit(computation)
    assert computation.pending == 1


def test_a_runner_that_dies_is_started_again_and_what_it_had_not_started_waits(world: World) -> None:
    computation = world.add()
    world.use(computation, 1, cpus=3)
    jobs = world.submit(computation, 4)
    world.start(jobs[0])
    effects = world.say(ComputationFailed("c1", "the runner has died"), 1)
    assert effects[0] == Report(
        "node node1 (10.0.0.1): the runner has died; compute1 is prepared there again", computation.id
    )
    assert effects[1] == TellNode(world.node(1), NodeStatus.CLOSED, computation.id)
    assert [type(message).__name__ for message in world.messages(effects)] == ["OpenComputation"]
    assert list(world.placement(computation, 1).inflight) == [jobs[0].id]
    assert [job.id for job in computation.queue] == [2, 3, 4]
    # The node says itself how those ended that it had started, and that it does not have the others.
    world.say(JobsRejected("c1", [(2, 1), (3, 1)], "the runner has died"), 1)
    assert world.engine.counters.late_rejections == 2
    assert world.told(world.finish(jobs[0], outcome=3)) == [(1, "TERMINATED")]
    assert computation.pending == 3


def test_a_runner_that_keeps_dying_makes_the_node_unusable(world: World) -> None:
    computation = world.add()
    world.use(computation, 1, cpus=1)
    bound = world.submit(computation, 2, pinned=world.ident(1))
    for _ in range(RESTARTS_MAX):
        world.say(ComputationFailed("c1", "the runner has died"), 1)
        assert world.placement(computation).state is PlacementState.PREPARING
        world.say(ComputationReady("c1"), 1)
    changes = world.changes(world.say(ComputationFailed("c1", "the runner has died"), 1))
    assert world.placement(computation).state is PlacementState.FAILED
    assert [(change.job.id, change.status) for change in changes] == [
        (job.id, JobStatus.CANCELLED) for job in bound
    ]
    reason = "it is bound to node node1 (10.0.0.1), which cannot be used: the runner has died"
    assert {change.reason for change in changes} == {reason}
    assert computation.pending == 0


def test_jobs_that_no_node_will_run_end_with_the_reason(world: World) -> None:
    computation = world.add()
    world.connect(1)
    world.say(ComputationFailed("c1", "no module numpy"))
    world.submit(computation, 2)
    changes = world.changes(world.do(JobsGivenUp(computation.id, "no node can run it: no module numpy")))
    assert [(change.job.id, change.status) for change in changes] == [
        (1, JobStatus.TERMINATED),
        (2, JobStatus.TERMINATED),
    ]
    assert changes[0].reason == "no node can run it: no module numpy"
    assert computation.pending == 0
    world.submit(computation)
    assert computation.pending == 1


def test_a_new_epoch_of_the_node_is_a_new_chance(world: World) -> None:
    computation = world.add()
    world.connect(1)
    world.say(ComputationFailed("c1", "no disk"))
    world.disconnect(1)
    effects = world.connect(1, epoch=2)
    assert [type(message).__name__ for message in world.messages(effects)] == ["Reconcile", "OpenComputation"]
    assert world.placement(computation).state is PlacementState.PREPARING


def test_a_node_that_closes_it_without_being_asked_has_failed(world: World) -> None:
    computation = world.add()
    world.use(computation, 1)
    (text,) = world.reports(world.say(ComputationClosed("c1")))
    assert text.endswith("cannot be used by compute1: the node has closed it without being asked to")
    assert world.placement(computation).state is PlacementState.FAILED
    assert world.say(ComputationClosed("c1")) == []
    assert world.engine.counters.stray_messages == 1


def test_a_placement_without_slots_keeps_its_jobs(world: World) -> None:
    computation = world.add()
    world.use(computation, 1)
    (job,) = world.submit(computation, 1)
    waiting = world.submit(computation, 1, pinned=world.ident(1))
    world.say(NodeChanged(0))
    world.finish(job)
    world.submit(computation, 1)
    assert list(world.placement(computation).inflight) == [waiting[0].id]
    world.finish(waiting[0])
    assert world.placement(computation).inflight == {}
    assert world.assigned(world.say(NodeChanged(1))) == [(1, [(3, 1)])]
