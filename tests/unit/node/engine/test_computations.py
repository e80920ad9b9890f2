from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from dispy.model import ComputationId, LinkId, Outcome
from dispy.wire.messages import (
    CloseComputation,
    ComputationClosed,
    ComputationFailed,
    ComputationReady,
    FileOffer,
    FilesComing,
    FilesWanted,
    JobResults,
    JobsRejected,
    LimitSlots,
)
from dispy.wire.owner import UNKNOWN
from dispy_node.engine import effects as fx
from dispy_node.engine import events as ev
from dispy_node.engine.computations import COMPUTATIONS_MAX
from dispy_node.engine.records import ComputationState, PartKey, Spooled
from dispy_node.engine.slots import LIMIT_S, SlotShares

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import NodeScript

LINK = LinkId(1)


def file_offer(path: str, stream: int, size: int = 9, digest: bytes = b"") -> FileOffer:
    return FileOffer(path, size, 0o644, 0.0, stream, digest)


def test_small_computation_is_prepared_at_once(node: NodeScript) -> None:
    (start,) = node.send(node.offer())
    assert isinstance(start, fx.StartRunner)
    assert (start.computation.id, start.computation.code) == ("a", b"P")
    assert node.do(ev.RunnerReady("a")) == [node.said(ComputationReady("a"))]


def test_computation_waits_for_its_streams(node: NodeScript) -> None:
    files = [file_offer("x", 2), file_offer("d/y", 1)]
    assert node.send(node.offer(files=files, code_stream=3, code_size=9)) == []
    assert node.store(1, "in-1") == []
    assert node.store(3, "in-3") == []
    (start,) = node.store(2, "in-2")
    assert start.computation.code == Spooled("in-3", 9)
    assert start.computation.files == {"d/y": Spooled("in-1", 9), "x": Spooled("in-2", 9)}


def test_computation_fails_with_a_file(node: NodeScript) -> None:
    node.send(node.offer(files=[file_offer("x", 1), file_offer("y", 2)], code_stream=3))
    node.store(1, "in-1")
    node.store(3, "in-3")
    node.assign(1)
    assert node.do(ev.StreamFailed(LINK, 2, "the disk is full")) == [
        node.said(JobsRejected("a", [(1, 1)], "y: the disk is full")),
        fx.RemoveSpooled([Spooled("in-1", 9), Spooled("in-3", 9)]),
        node.said(ComputationFailed("a", "y: the disk is full")),
    ]
    assert not node.engine.computations


def test_computation_fails_with_its_code(node: NodeScript) -> None:
    node.send(node.offer(files=[file_offer("x", 1)], code_stream=2))
    assert node.do(ev.StreamFailed(LINK, 2, "broken off")) == [
        fx.DropStream(LINK, 1),
        node.said(ComputationFailed("a", "the code: broken off")),
    ]


def test_spool_files_go_when_they_are_loaded(node: NodeScript) -> None:
    node.send(node.offer(files=[file_offer("x", 1)], code_stream=2))
    node.store(1, "in-1")
    node.store(2, "in-2")
    removed, ready = node.do(ev.RunnerReady("a"))
    assert removed == fx.RemoveSpooled([Spooled("in-2", 9)]), "the file has been moved to its place"
    assert ready == node.said(ComputationReady("a"))
    assert fx.RemoveFolder("a") in node.do(ev.RunnerEnded("a", "killed"))


def test_spool_files_go_when_they_cannot_be_loaded(node: NodeScript) -> None:
    node.send(node.offer(files=[file_offer("x", 1)], code_stream=2))
    node.store(1, "in-1")
    node.store(2, "in-2")
    removed = fx.RemoveSpooled([Spooled("in-1", 9), Spooled("in-2", 9)])
    assert removed in node.do(ev.RunnerFailed("a", "the disk is full"))


def test_runner_that_cannot_load_is_reported(node: NodeScript) -> None:
    node.send(node.offer())
    report, remove, failed = node.do(ev.RunnerFailed("a", "no module named 'numpy'"))
    assert report == fx.Report("computation 'compute' of 'host-c1': no module named 'numpy'", warning=True)
    assert remove == fx.RemoveFolder("a")
    assert failed == node.said(ComputationFailed("a", "no module named 'numpy'"))
    assert not node.engine.computations
    assert node.send(node.offer()), "it may be tried again"


def test_runner_that_ends_by_itself(node: NodeScript) -> None:
    node.ready()
    _report, remove, failed = node.do(ev.RunnerEnded("a"))
    assert remove == fx.RemoveFolder("a")
    assert failed == node.said(ComputationFailed("a", "its runner has ended"))


@pytest.mark.parametrize("name", ["", "../x", "a/b", "ü", "x" * 65])
def test_ids_that_are_no_names_of_folders(node: NodeScript, name: str) -> None:
    assert fx.CloseLink(LINK, f"{name[:64]!r} is not the id of a computation") in node.send(node.offer(name))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"files": [file_offer("x", 1), file_offer("x", 2)]}, "file name 'x' is empty or offered twice"),
        ({"files": [file_offer("", 1)]}, "file name '' is empty or offered twice"),
        ({"files": [file_offer("x", 1), file_offer("y", 1)]}, "stream 1 is announced twice"),
        ({"files": [file_offer("x", 1)], "code_stream": 1}, "stream 1 is announced twice"),
        ({"files": [file_offer("x", 0)]}, "file 'x' is offered without a stream or a hash"),
        (
            {"files": [file_offer("x", 0)], "dest_path": "there"},
            "file 'x' is offered without a stream or a hash",
        ),
        ({"files": [file_offer("x", -1)]}, "stream -1 is announced after stream 0"),
        (
            {"files": [file_offer("x", 1, digest=b"X"), file_offer("y", 1, digest=b"Y")]},
            "stream 1 is announced twice",
        ),
        (
            {"files": [file_offer("x", 1, digest=b"X"), file_offer("y", 1, size=1, digest=b"X")]},
            "stream 1 is announced twice",
        ),
        ({"code_stream": -4}, "stream -4 is announced after stream 0"),
    ],
)
def test_offers_that_contradict_themselves(node: NodeScript, options: dict, reason: str) -> None:
    assert fx.CloseLink(LINK, reason) in node.send(node.offer(**options))
    assert not node.engine.computations


def test_files_with_one_content_share_a_stream(node: NodeScript) -> None:
    files = [file_offer("x", 1, digest=b"X"), file_offer("y", 1, digest=b"X")]
    assert node.send(node.offer(files=files)) == []
    (start,) = node.store(1)
    assert isinstance(start, fx.StartRunner)
    assert start.computation.files == {"x": Spooled("in", 9)}


@pytest.mark.parametrize("leaves", [False, True])
def test_files_for_a_shared_folder_are_looked_for_and_only_missing_ones_wanted(
    node: NodeScript, leaves: bool
) -> None:
    files = [file_offer(name, 0, digest=name[:1].encode()) for name in ("a1", "a2", "b1", "b2", "c1")]
    find = node.send(node.offer(files=[*files, file_offer("d", 1)], dest_path="there"))
    computation = node.engine.computations[ComputationId("a")]
    assert find == [fx.FindFiles(computation)]
    assert node.store(1, "d") == []
    found = ev.FilesFound(computation, {"b2": "b2", "c1": "old"})
    assert node.do(found) == [node.said(FilesWanted("a", ["a1"]))], "of equal contents one is enough"
    assert node.do(found) == [], "it was not asked twice"
    if leaves:
        node.lose()
        assert node.engine.counters.stale == 1
        assert not node.engine.computations
        return
    key = PartKey(computation.client, UNKNOWN, b"a", 9)
    assert node.send(FilesComing("a", [file_offer("a1", 2, digest=b"a")])) == [fx.ReceiveFile(LINK, 2, key)]
    (start,) = node.store(2, "a1")
    assert isinstance(start, fx.StartRunner)
    assert start.computation.files == {"d": Spooled("d", 9), "a1": Spooled("a1", 9)}
    assert start.computation.found == {"b2": "b2", "c1": "old"}
    node.do(ev.RunnerReady("a"))
    assert node.send(FilesComing("a", [file_offer("a1", 3, digest=b"a")])) == [fx.DropStream(LINK, 3)]


def test_nothing_is_wanted_if_all_is_there(node: NodeScript) -> None:
    node.send(node.offer(files=[file_offer("x", 0, digest=b"X")], dest_path="there"))
    computation = node.engine.computations[ComputationId("a")]
    (start,) = node.do(ev.FilesFound(computation, {"x": "x"}))
    assert isinstance(start, fx.StartRunner)


@pytest.mark.parametrize("reason", ["", "the disk is broken"])
def test_an_offer_counts_as_long_as_its_files_are_looked_for(node: NodeScript, reason: str) -> None:
    offer = node.offer(files=[file_offer("x" * 5000, 0, digest=b"X")], dest_path="there")
    gone = []
    for _ in range(3):
        node.send(offer)
        gone.append(node.engine.computations[ComputationId("a")])
        node.send(CloseComputation("a", terminate=True))
    client = node.engine.clients[gone[0].client]
    assert client.held == 3 * gone[0].cost > 15_000
    node.lose(final=True)
    for left, computation in zip((2, 1, 0), gone, strict=True):
        assert client.id in node.engine.clients
        assert node.do(ev.FilesFound(computation, {}, reason)) == []
        assert client.held == left * computation.cost
    assert not node.engine.clients


def test_a_folder_that_cannot_be_read_is_told(node: NodeScript) -> None:
    node.send(node.offer(files=[file_offer("x", 0, digest=b"X")], dest_path="there"))
    computation = node.engine.computations[ComputationId("a")]
    told = node.do(ev.FilesFound(computation, {}, "the disk is broken"))
    assert node.said(ComputationFailed("a", "the disk is broken")) in told
    assert not node.engine.computations


@pytest.mark.parametrize("change", [{"path": "y"}, {"size": 10}, {"digest": b"Y"}])
def test_no_other_files_come_than_those_that_were_wanted(node: NodeScript, change: dict) -> None:
    node.send(node.offer(files=[file_offer("x", 0, digest=b"X")], dest_path="there"))
    node.do(ev.FilesFound(node.engine.computations[ComputationId("a")], {}))
    coming = file_offer(**({"path": "x", "stream": 1, "digest": b"X"} | change))
    reason = f"file {coming.path!r} comes, which was not asked for"
    assert fx.CloseLink(LINK, reason) in node.send(FilesComing("a", [coming]))


# ---- files that go on where a link broke

OFFERS = [file_offer("x", 0, 100, b"X"), file_offer("y", 0, 50, b"Y"), file_offer("z", 0, 10, b"Z")]
KEYS = {offer.path: PartKey("c1", UNKNOWN, offer.digest, offer.size) for offer in OFFERS}
PART = Spooled("part", 60)


def receiving(node: NodeScript, parts: dict[str, Spooled]) -> list[fx.Effect]:
    """Offer the files, of which the beginnings *parts* are there."""
    (find,) = node.send(node.offer(files=OFFERS))
    return node.do(ev.FilesFound(find.computation, {"z": "z"}, "", parts))


def test_the_rest_of_a_file_is_asked_for_and_comes_behind_its_part(node: NodeScript) -> None:
    assert receiving(node, {"x": PART}) == [node.said(FilesWanted("a", ["x", "y"], [60, 0]))]
    coming = [
        msgspec.structs.replace(OFFERS[0], stream=1, skip=60),
        msgspec.structs.replace(OFFERS[1], stream=2),
    ]
    assert node.send(FilesComing("a", coming)) == [
        fx.ReceiveFile(LINK, 1, KEYS["x"], PART),
        fx.ReceiveFile(LINK, 2, KEYS["y"]),
    ]
    node.store(1)
    (start,) = node.store(2)
    assert isinstance(start, fx.StartRunner)


def test_a_client_may_begin_anew(node: NodeScript) -> None:
    receiving(node, {"x": PART})
    coming = [msgspec.structs.replace(OFFERS[0], stream=1)]
    assert node.send(FilesComing("a", coming)) == [
        fx.RemoveSpooled([PART]),
        fx.ReceiveFile(LINK, 1, KEYS["x"]),
    ]


@pytest.mark.parametrize("skip", [-1, 1, 59, 61, 100, 101])
def test_a_file_that_begins_elsewhere_is_refused_and_its_part_kept(node: NodeScript, skip: int) -> None:
    receiving(node, {"x": PART})
    effects = node.send(FilesComing("a", [msgspec.structs.replace(OFFERS[0], stream=1, skip=skip)]))
    assert fx.CloseLink(LINK, f"file 'x' comes from byte {skip} on, but 60 are there") in effects
    assert fx.KeepParts([(KEYS["x"], PART)]) in effects


def test_what_has_come_is_kept_when_the_link_breaks(node: NodeScript) -> None:
    receiving(node, {"x": PART})
    node.send(FilesComing("a", [msgspec.structs.replace(OFFERS[1], stream=1)]))
    node.store(1, "whole")
    kept = fx.KeepParts([(KEYS["y"], Spooled("whole", 9)), (KEYS["x"], PART)])
    assert node.lose() == [kept]
    assert not node.engine.computations


def test_what_has_come_is_removed_with_its_computation(node: NodeScript) -> None:
    receiving(node, {"x": PART})
    assert fx.RemoveSpooled([PART]) in node.send(CloseComputation("a"))


def test_parts_of_what_is_not_asked_for_stay(node: NodeScript) -> None:
    unused = fx.KeepParts([(KEYS["z"], Spooled("other", 5))])
    assert unused in receiving(node, {"x": PART, "z": Spooled("other", 5)})


@pytest.mark.parametrize("how", ["closed", "lost", "lapsed", "ended"])
def test_parts_that_are_found_too_late(node: NodeScript, how: str) -> None:
    (find,) = node.send(node.offer(files=OFFERS))
    if how == "closed":
        node.send(CloseComputation("a"))
    else:
        node.lose(final=how == "ended")
    if how == "lapsed":
        node.wait(20.0)
    stays = how in ("closed", "lost")
    expected = fx.KeepParts([(KEYS["x"], PART)]) if stays else fx.RemoveSpooled([PART])
    assert node.do(ev.FilesFound(find.computation, {}, "", {"x": PART})) == [expected]


def test_a_file_that_is_too_large_is_refused(make_node: Callable[..., NodeScript]) -> None:
    node = make_node(max_file_bytes=8)
    node.connect()
    reason = (
        "file 'x' has 9 bytes, more than the 8 of the node's --max-file-size; "
        "use another node, or have its owner raise that"
    )
    for dest_path in ("", "there"):
        offers = [file_offer("x", 0 if dest_path else 1, digest=b"X")]
        told = node.send(node.offer(files=offers, dest_path=dest_path))
        assert told[-1] == node.said(ComputationFailed("a", reason))
    assert not node.engine.computations


def test_opening_what_is_here_already(node: NodeScript) -> None:
    node.send(node.offer())
    assert node.send(node.offer()) == [], "the answer comes when the runner is ready"
    node.do(ev.RunnerReady("a"))
    again = node.offer(files=[file_offer("x", 1)])
    assert node.send(again) == [fx.DropStream(LINK, 1), node.said(ComputationReady("a"))]


def test_opening_what_is_another_clients(node: NodeScript) -> None:
    node.ready()
    node.connect(2, "c2")
    reason = "computation 'a' belongs to another client"
    assert fx.CloseLink(LinkId(2), reason) in node.send(node.offer(), link=2)
    node.send(CloseComputation("a", terminate=True))
    node.send(node.offer())
    node.lose()
    node.connect(3, "c2")
    assert fx.CloseLink(LinkId(3), reason) in node.send(node.offer(), link=3)


def test_close_waits_for_jobs(node: NodeScript) -> None:
    node.ready()
    node.assign(1, 2)
    node.assign_stream(3, stream=1)
    assert node.send(CloseComputation("a")) == []
    node.end(1, 2)
    node.store(1)
    assert node.end(3)[1:] == [fx.CloseRunner("a", terminate=False)]
    assert node.do(ev.RunnerEnded("a")) == [fx.RemoveFolder("a"), node.said(ComputationClosed("a"))]


def test_close_of_an_idle_computation(node: NodeScript) -> None:
    node.ready()
    assert node.send(CloseComputation("a")) == [fx.CloseRunner("a", terminate=False)]
    assert node.send(CloseComputation("a", terminate=True)) == [fx.CloseRunner("a", terminate=True)]
    assert node.send(CloseComputation("a", terminate=True)) == []
    assert node.do(ev.RunnerEnded("a")) == [fx.RemoveFolder("a"), node.said(ComputationClosed("a"))]


def test_close_of_an_unknown_computation(node: NodeScript) -> None:
    assert node.send(CloseComputation("a")) == [node.said(ComputationClosed("a"))]


def test_terminate_ends_all(node: NodeScript) -> None:
    node.ready()
    node.assign(1, 2)
    node.start(1)
    node.assign_stream(3, stream=1)
    drop, results, close = node.send(CloseComputation("a", terminate=True))
    assert drop == fx.DropStream(LINK, 1)
    assert [(result.job, result.outcome) for result in results.message.results] == [(3, Outcome.CANCELLED)]
    assert close == fx.CloseRunner("a", terminate=True)
    assert node.end(1, outcome=Outcome.CANCELLED)
    results, _remove, closed = node.do(ev.RunnerEnded("a"))
    assert [(result.job, result.outcome) for result in results.message.results] == [(2, Outcome.CANCELLED)]
    assert closed == node.said(ComputationClosed("a"))


def test_close_while_streams_arrive(node: NodeScript) -> None:
    node.send(node.offer(files=[file_offer("x", 1), file_offer("y", 2)]))
    node.store(1)
    assert node.send(CloseComputation("a")) == [
        fx.DropStream(LINK, 2),
        fx.RemoveSpooled([Spooled("in", 9)]),
        node.said(ComputationClosed("a")),
    ]
    assert not node.engine.computations


def test_terminate_while_streams_arrive(node: NodeScript) -> None:
    node.send(node.offer(code_stream=1))
    node.assign(1)
    results, drop, closed = node.send(CloseComputation("a", terminate=True))
    assert isinstance(results.message, JobResults)
    assert (drop, closed) == (fx.DropStream(LINK, 1), node.said(ComputationClosed("a")))
    assert set(node.engine.clients["c1"].leftovers["a"]) == {(1, 1)}


def test_close_while_the_runner_starts(node: NodeScript) -> None:
    node.send(node.offer())
    close = fx.CloseRunner("a", terminate=True)
    assert node.send(CloseComputation("a")) == [close]
    assert node.do(ev.RunnerReady("a")) == [close], "it may not have heard before it was up"
    assert node.do(ev.RunnerEnded("a"))[-1] == node.said(ComputationClosed("a"))


def test_a_runner_that_fails_while_it_is_closed(node: NodeScript) -> None:
    node.send(node.offer())
    node.send(CloseComputation("a"))
    assert node.do(ev.RunnerFailed("a", "told to end"))[-1] == node.said(ComputationClosed("a"))


def test_close_while_jobs_wait_for_the_runner(node: NodeScript) -> None:
    node.send(node.offer())
    node.assign(1)
    assert node.send(CloseComputation("a")) == []
    assert fx.RunJobs("a", [((1, 1), b"args")]) in node.do(ev.RunnerReady("a"))
    assert fx.CloseRunner("a", terminate=False) in node.end(1)


def test_a_runner_that_dies_when_its_computation_is_to_be_closed(node: NodeScript) -> None:
    node.ready()
    node.assign(1)
    node.start(1)
    node.send(CloseComputation("a"))
    assert node.do(ev.RunnerEnded("a", "killed"))[-1] == node.said(ComputationClosed("a"))


def test_opening_again_takes_back_a_close_that_waits(node: NodeScript) -> None:
    node.ready()
    node.assign(1)
    node.send(CloseComputation("a"))
    assert node.send(node.offer()) == [node.said(ComputationReady("a"))]
    assert node.end(1)[1:] == []
    assert node.assign(2)


class TestOpenedAgainWhileTheRunnerEnds:
    @pytest.fixture
    def twice(self, node: NodeScript) -> NodeScript:
        node.ready()
        node.assign(1, 2, 3)
        node.start(1, 2)
        node.end(3)
        node.send(CloseComputation("a", terminate=True))
        assert node.send(node.offer(code_stream=1)) == []
        return node

    def test_the_new_one_starts_when_the_old_one_is_gone(self, twice: NodeScript) -> None:
        assert twice.store(1) == []
        assert twice.assign(9) == []
        assert twice.end(1, outcome=Outcome.CANCELLED)
        results, remove, start = twice.do(ev.RunnerEnded("a"))
        assert [result.job for result in results.message.results] == [2]
        assert remove == fx.RemoveFolder("a")
        assert start == fx.StartRunner(twice.engine.computations["a"])
        assert set(twice.engine.clients["c1"].leftovers["a"]) == {(1, 1), (2, 1), (3, 1)}
        assert fx.RunJobs("a", [((9, 1), b"args")]) in twice.do(ev.RunnerReady("a"))

    def test_the_old_one_is_gone_before_the_new_one_is_complete(self, twice: NodeScript) -> None:
        twice.do(ev.RunnerEnded("a"))
        assert isinstance(twice.store(1)[0], fx.StartRunner)

    def test_attempts_of_the_old_one_are_not_taken_again(self, twice: NodeScript) -> None:
        assert twice.assign(1, 2, 3) == []
        assert twice.engine.counters.duplicates == 3

    def test_closing_the_new_one_waits_for_the_old(self, twice: NodeScript) -> None:
        assert twice.send(CloseComputation("a")) == [fx.DropStream(LINK, 1)]
        assert twice.engine.computations["a"].state is ComputationState.CLOSING
        assert twice.do(ev.RunnerEnded("a"))[-1] == twice.said(ComputationClosed("a"))

    def test_failure_of_the_new_one_is_told_at_once(self, twice: NodeScript) -> None:
        (failed,) = twice.do(ev.StreamFailed(LINK, 1, "broken off"))
        assert failed == twice.said(ComputationFailed("a", "the code: broken off"))
        assert twice.do(ev.RunnerEnded("a"))[1:] == [fx.RemoveFolder("a")]

    def test_the_client_ends(self, twice: NodeScript) -> None:
        twice.lose(final=True)
        assert twice.do(ev.RunnerEnded("a")) == [fx.RemoveFolder("a")]
        assert not twice.engine.clients

    def test_the_client_goes_and_comes_back(self, twice: NodeScript) -> None:
        twice.lose()
        twice.connect(2)
        reconciled, starts, results = twice.reconcile(2, a=[1, 3])
        (finding,) = reconciled.message.findings
        assert (finding.state, finding.missing) == ("closing", [])
        assert [start.job for start in starts.message.starts] == [1]
        assert [result.job for result in results.message.results] == [3]
        results, _remove, closed = twice.do(ev.RunnerEnded("a"))
        assert [result.job for result in results.message.results] == [1]
        assert closed == twice.said(ComputationClosed("a"), link=2)


def test_an_old_life_that_is_not_believed_in(node: NodeScript) -> None:
    node.ready()
    node.assign(1)
    node.send(CloseComputation("a", terminate=True))
    node.send(node.offer())
    node.reconcile()
    assert node.do(ev.RunnerEnded("a")) == [fx.RemoveFolder("a")]
    assert not node.engine.computations


def test_the_lease_ends_while_an_old_life_goes_on(make_node: type[NodeScript]) -> None:
    node = make_node(lease_s=15.0)
    node.connect()
    node.connect(2, "c2")
    node.ready("a")
    node.assign(1)
    node.send(CloseComputation("a", terminate=True))
    node.send(node.offer("a"))
    node.ready("b", link=2)
    node.assign(5, name="b", link=2)
    node.lose(2)
    node.wait(20.0)
    assert "c2" in node.engine.clients
    node.reconcile(1, a=[1])
    assert node.do(ev.RunnerEnded("a"))


def test_slots_are_given_back(node: NodeScript) -> None:
    node.ready("a")
    node.ready("b")
    node.assign(1, 2, name="a")
    assert fx.SetSlots("a", 1) in node.assign(3, name="b")
    node.end(1, name="a")
    assert node.do(ev.SlotsGivenUp("a", 1)) == [fx.SetSlots("b", 1)]


def test_events_of_runners_that_are_not_there(node: NodeScript) -> None:
    node.send(node.offer(code_stream=1))
    for name in ("a", "nope"):
        assert node.do(ev.RunnerReady(name)) == []
        assert node.do(ev.RunnerFailed(name, "failed")) == []
        assert node.do(ev.RunnerEnded(name)) == []
    assert node.do(ev.SlotsGivenUp("nope", 1)) == []
    node.store(1)
    node.do(ev.RunnerReady("a"))
    assert node.do(ev.RunnerReady("a")) == []
    assert node.engine.counters.stale == 8


def test_large_arguments_of_setup_come_on_a_stream(node: NodeScript) -> None:
    assert node.send(node.offer(code_stream=1, setup_timeout_s=5.0, setup_stream=2, setup_size=9)) == []
    node.store(1, "in-1")
    (start,) = node.store(2, "in-2")
    assert (start.computation.code, start.computation.setup_args) == (Spooled("in-1", 9), Spooled("in-2", 9))
    removed, _ready = node.do(ev.RunnerReady("a"))
    assert removed == fx.RemoveSpooled([Spooled("in-1", 9), Spooled("in-2", 9)])


def test_small_arguments_of_setup_come_with_the_offer(node: NodeScript) -> None:
    (start,) = node.send(node.offer(setup_timeout_s=5.0, setup_args=b"args"))
    assert start.computation.setup_args == b"args"


def test_computation_fails_with_the_arguments_of_setup(node: NodeScript) -> None:
    node.send(node.offer(setup_stream=1))
    assert node.do(ev.StreamFailed(LINK, 1, "broken off")) == [
        node.said(ComputationFailed("a", "the arguments of setup: broken off"))
    ]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"code_stream": 1, "setup_stream": 1}, "stream 1 is announced twice"),
        ({"files": [file_offer("x", 1)], "setup_stream": 1}, "stream 1 is announced twice"),
        ({"files": [file_offer("\0", 1)]}, r"file name '\x00' is empty or offered twice"),
        ({"setup_timeout_s": -1.0}, "setup cannot be given -1.0 seconds"),
        ({"setup_timeout_s": float("nan")}, "setup cannot be given nan seconds"),
    ],
)
def test_offers_of_setup_that_contradict_themselves(node: NodeScript, options: dict, reason: str) -> None:
    assert fx.CloseLink(LINK, reason) in node.send(node.offer(**options))
    assert not node.engine.computations


def test_trouble_of_cleanup_is_told(node: NodeScript) -> None:
    node.ready()
    node.send(CloseComputation("a"))
    report, _remove, closed = node.do(ev.RunnerEnded("a", trouble="cleanup has failed"))
    assert report == fx.Report("computation 'compute' of 'host-c1': cleanup has failed", warning=True)
    assert closed == node.said(ComputationClosed("a", "cleanup has failed"))


def test_another_number_of_slots_holds_from_now_on(node: NodeScript) -> None:
    node.ready()
    node.assign(1, 2, 3)
    assert node.engine.computations[ComputationId("a")].slots == 2
    assert node.send(LimitSlots("a", 1)) == [fx.SetSlots(ComputationId("a"), 1)]
    assert node.send(LimitSlots("a", 1)) == []
    assert node.send(LimitSlots("unknown", 1)) == []
    node.do(ev.SlotsGivenUp(ComputationId("a"), 1))
    assert node.send(LimitSlots("a", 0)) == []
    assert node.wait(LIMIT_S) == [fx.SetSlots(ComputationId("a"), 2)]


def test_slots_are_not_shared_anew_for_each_of_many_changes(
    node: NodeScript, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    share = SlotShares.share
    monkeypatch.setattr(SlotShares, "share", lambda self, now: calls.append(now) or share(self, now))
    node.ready()
    node.assign(1, 2, 3)
    calls.clear()
    for number in range(100):
        node.send(LimitSlots("a", number % 2))
    assert len(calls) == 1
    assert node.wait(LIMIT_S) == []
    assert len(calls) == 2
    node.do(ev.SlotsGivenUp(ComputationId("a"), 1))
    assert node.send(LimitSlots("a", 2)) == [fx.SetSlots(ComputationId("a"), 2)]


def test_a_number_of_slots_that_is_none_ends_the_link(node: NodeScript) -> None:
    node.ready()
    assert any(isinstance(effect, fx.CloseLink) for effect in node.send(LimitSlots("a", -1)))


def test_computations_are_shared_so_that_others_find_room(
    node: NodeScript, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dispy_node.engine.computations.COMPUTATIONS_MAX", 8)
    failed: list[ComputationFailed] = []

    def open_some(names: str, link: int = 1) -> int:
        told = [effect for name in names for effect in node.send(node.offer(name), link)]
        failed[:] = [
            effect.message
            for effect in told
            if isinstance(effect, fx.SendMessage) and isinstance(effect.message, ComputationFailed)
        ]
        return sum(isinstance(effect, fx.StartRunner) for effect in told)

    assert open_some("abcdef") == 4
    assert [one.computation for one in failed] == ["e", "f"]
    assert "4 computations of this client are open here already" in failed[0].reason
    assert open_some("a") == 0
    assert not failed, "it is there"
    node.connect(2, "c2")
    assert open_some("uvwxyz", 2) == 2
    node.connect(3, "c3")
    assert open_some("klm", 3) == 1
    node.send(CloseComputation("a", terminate=True))
    node.do(ev.RunnerEnded(ComputationId("a")))
    assert open_some("n", 3) == 1


def test_one_client_may_have_the_clusters_of_a_large_program() -> None:
    assert COMPUTATIONS_MAX // 2 > 500
