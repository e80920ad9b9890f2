from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispy import live
from dispy.engine import events as ev
from dispy.engine.effects import TellOutput
from dispy.engine.watching import OUTPUT_WINDOW_BYTES
from dispy.job import DispyJob
from dispy.live import AGAIN, Feed, OutputCalls, Tail, describe_gap, rest_of
from dispy.model import Outcome
from dispy.packing.results import ResultBody
from dispy.wire.messages import STDERR, STDOUT, JobResult
from dispy_node.runner.output import Output

TEXT = "aé€😀\n" * 5


def piece(
    data: bytes, *, missed: int = 0, attempt: int = 1, number: int = 1, stream: int = STDOUT
) -> TellOutput:
    return TellOutput(None, number, stream, attempt, missed, data)


def result(stdout: bytes = b"", stderr: bytes = b"", attempt: int = 1) -> JobResult:
    body = ResultBody(b"", b"", stdout, stderr).pack()
    return JobResult(7, attempt, int(Outcome.RETURNED), 0, "", 1.0, 2.0, body)


@given(st.lists(st.integers(0, len(TEXT.encode())), max_size=9), st.integers(0, 5))
def test_text_is_the_same_however_it_is_cut(cuts: list[int], live_pieces: int) -> None:
    data = TEXT.encode()
    edges = [0, *sorted(cuts), len(data)]
    pieces = [data[start:end] for start, end in itertools.pairwise(edges)]
    feed = Feed()
    text = "".join(feed.take(piece(part)) for part in pieces[:live_pieces])
    assert text + feed.finish(result(data), STDOUT) == TEXT


def test_what_is_missing_and_another_attempt_are_marked() -> None:
    feed = Feed()
    assert feed.take(piece(b"ab\xc3")) == "ab"
    assert feed.take(piece(b"cd", missed=5)) == "\ufffd" + describe_gap(5) + "cd"
    assert feed.at == 10
    assert feed.take(piece(b"xy", attempt=2)) == AGAIN + "xy"
    assert feed.finish(result(b"xyz", attempt=2), STDOUT) == "z"
    assert Feed().finish(result(b"xyz", b"err"), STDERR) == "err"
    assert feed.finish(JobResult(7, 2, 0, 0, "", 1.0, 2.0, b"rubbish"), STDOUT) == ""


def test_the_rest_of_a_result_of_another_attempt_is_all_of_it() -> None:
    feed = Feed()
    feed.take(piece(b"ab"))
    assert feed.finish(result(b"xyz", attempt=2), STDOUT) == AGAIN + "xyz"


@given(st.integers(0, 60), st.integers(0, 60))
def test_the_rest_is_what_follows_also_where_the_middle_was_dropped(size: int, at: int) -> None:
    limit, whole = 20, bytes(range(size))
    output = Output(limit)
    output.add(whole)
    at = min(at, size)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(live, "OUTPUT_BYTES", limit)
        rest = rest_of(output.render(), at)
    if size <= limit:
        assert rest == whole[at:]
    else:
        head, tail = (whole[at:10], size - 10)
        missed = max(0, tail - max(at, 10))
        gap = describe_gap(missed).encode() if missed else b""
        assert rest == head + gap + whole[max(at, tail) :]


@pytest.fixture
def told() -> list[ev.Event]:
    return []


def test_tail_gives_pieces_and_then_the_rest(told: list[ev.Event]) -> None:
    job = DispyJob(7)
    tail = Tail(job, (STDOUT, STDERR), told.append)
    tail.begin()
    first, second = told
    assert isinstance(first, ev.WatchWanted)
    assert isinstance(second, ev.WatchWanted)
    assert (first.job, first.handle, first.stream, first.viewer) == (7, job, STDOUT, tail)
    seen: list[str] = []
    reader = threading.Thread(target=lambda: seen.extend(tail.read(20)))
    reader.start()
    tail.take(piece(b"ab", number=first.number))
    tail.take(piece(b"err", number=second.number, stream=STDERR))
    tail.end(result(b"abc", b"error"))
    tail.end(None)
    reader.join(20)
    assert seen == ["ab", "err", "c", "or"]
    tail.close()
    assert told == [first, second]


def test_tail_asks_for_more_and_says_when_it_looks_no_longer(told: list[ev.Event]) -> None:
    tail = Tail(DispyJob(7), (STDOUT,), told.append)
    tail.begin()
    number = told.pop().number  # type: ignore[union-attr]
    reading: Iterator[str] = tail.read(0)
    half = OUTPUT_WINDOW_BYTES // 2
    for size in (half - 1, 1, 5):
        tail.take(piece(b"x" * size, number=number))
    assert [len(next(reading)) for _ in range(3)] == [half - 1, 1, 5]
    assert told == [ev.OutputUsed(number, 1, half)]
    with pytest.raises(TimeoutError, match="within 0 s"):
        next(reading)
    tail.close()
    assert told[1:] == [ev.WatchDropped(number)]


class Calls:
    """An `OutputCalls` whose calls are made at once."""

    def __init__(self) -> None:
        self.events: list[ev.Event] = []
        self.seen: list[tuple[Any, str, str]] = []
        self.calls = OutputCalls(self.note, lambda function, *args: function(*args), self.events.append)

    def note(self, job: Any, stream: str, text: str) -> None:
        self.seen.append((job, stream, text))


def test_jobs_of_a_cluster_are_watched_when_they_run() -> None:
    scene, job = Calls(), DispyJob(7)
    scene.calls.started(job)
    scene.calls.started(job)
    first, second = scene.events
    assert isinstance(first, ev.WatchWanted)
    assert (first.stream, second.stream) == (STDOUT, STDERR)  # type: ignore[union-attr]
    first.viewer.take(piece(b"a" * OUTPUT_WINDOW_BYTES, number=first.number))
    assert scene.events[2:] == [ev.OutputUsed(first.number, 1, OUTPUT_WINDOW_BYTES)]
    scene.calls.ended(job, result(b"a" * OUTPUT_WINDOW_BYTES + b"b", b"e"))
    assert scene.seen == [
        (job, "stdout", "a" * OUTPUT_WINDOW_BYTES),
        (job, "stdout", "b"),
        (job, "stderr", "e"),
    ]


def test_short_jobs_are_told_by_their_result_and_others_not_at_all() -> None:
    scene, job = Calls(), DispyJob(7)
    scene.calls.ended(job, result(b"out"))
    scene.calls.ended(DispyJob(8), None)
    assert scene.seen == [(job, "stdout", "out")]
    assert scene.events == []
