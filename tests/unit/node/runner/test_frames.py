"""What daemon and runner say to each other survives any way of being cut."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dispy_node.runner import frames
from dispy_node.runner.frames import FrameReader, frame

jobs = st.integers(0, 2**64 - 1)
attempts = st.integers(0, 2**32 - 1)
times = st.floats(allow_nan=False)
codes = st.integers(-(2**31), 2**31 - 1)
starts = st.tuples(jobs, attempts, times)
results = st.tuples(
    jobs, attempts, st.integers(0, 5), codes, times, times, st.text(max_size=50), st.booleans(), st.binary()
)
said = st.lists(st.tuples(st.integers(1, 255), st.binary(max_size=40)))


@given(said, st.data())
def test_frames_come_out_as_they_went_in(frames_in: list[tuple[int, bytes]], data: st.DataObject) -> None:
    stream = b"".join(frame(kind, payload) for kind, payload in frames_in)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    reader, found = FrameReader(), []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += reader.feed(stream[start:end])
    assert found == frames_in


def test_a_frame_is_given_only_when_it_is_complete() -> None:
    reader, stream = FrameReader(), frame(frames.LOG, b"words")
    assert [reader.feed(stream[at : at + 1]) for at in range(len(stream) - 1)] == [[]] * (len(stream) - 1)
    assert reader.feed(stream[-1:]) == [(frames.LOG, b"words")]


def test_frames_may_come_in_any_kind_of_buffer() -> None:
    reader, stream = FrameReader(), bytearray(frame(frames.LOG, b"words"))
    found = reader.feed(memoryview(stream))
    stream[:] = bytes(len(stream))
    assert found == [(frames.LOG, b"words")], "what was found must not change with the buffer"
    assert isinstance(found[0][1], bytes)


def test_kinds_are_told_apart() -> None:
    kinds = [
        *(frames.CONFIGURE, frames.LOAD, frames.RUN, frames.SLOTS, frames.CANCEL, frames.CLOSE),
        *(frames.READY, frames.FAILED, frames.STARTED, frames.ENDED, frames.LOG),
        *(frames.NEWS, frames.SAID, frames.TAKEN, frames.SETUP, frames.CLEANUP, frames.WATCH, frames.OUTPUT),
    ]
    assert len(set(kinds)) == len(kinds)


@given(st.lists(st.tuples(jobs, attempts, st.booleans(), st.binary(max_size=40))))
def test_jobs_come_out_as_they_went_in(given_jobs: list[tuple[int, int, bool, bytes]]) -> None:
    assert list(frames.unpack_jobs(frames.pack_jobs(given_jobs))) == given_jobs


@given(st.lists(results))
def test_results_come_out_as_they_went_in(given_results: list[frames.Result]) -> None:
    payload = b"".join(map(frames.pack_result, given_results))
    assert list(frames.unpack_results(payload)) == given_results


def test_detail_that_is_no_unicode_is_still_sent() -> None:
    result = (1, 1, 4, 0, 0.0, 0.0, "file \udcff", False, b"body")
    ((*_, detail, is_path, body),) = frames.unpack_results(frames.pack_result(result))
    assert (detail, is_path, body) == ("file ?", False, b"body")


@given(st.lists(starts))
def test_starts_come_out_as_they_went_in(given_starts: list[frames.Start]) -> None:
    assert frames.unpack_starts(frames.pack_starts(given_starts)) == given_starts


@given(st.lists(st.tuples(jobs, attempts)))
def test_keys_come_out_as_they_went_in(keys: list[tuple[int, int]]) -> None:
    assert frames.unpack_keys(frames.pack_keys(keys)) == keys


@given(jobs, attempts, st.binary(max_size=9))
def test_jobs_and_results_begin_with_their_key(job: int, attempt: int, body: bytes) -> None:
    key = frames.pack_keys([(job, attempt)])
    assert frames.pack_jobs([(job, attempt, False, body)]).startswith(key)
    assert frames.pack_result((job, attempt, 0, 0, 0.0, 0.0, "", False, body)).startswith(key)


@given(
    st.lists(
        st.tuples(
            jobs,
            attempts,
            st.floats(0, 1e9),
            st.floats(0, 1e9),
            st.integers(0, 2**63 - 1),
            st.integers(0, 2**31 - 1),
        )
    )
)
def test_limits_come_out_as_they_went_in(limits: list[frames.Limit]) -> None:
    assert frames.unpack_limits(frames.pack_limits(limits)) == limits
