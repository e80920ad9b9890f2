"""What a child says to the runner."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispy_node.runner import frames
from dispy_node.runner.frames import KEY, RESULT
from dispy_node.runner.replies import (
    DETAIL_BYTES,
    GO_ON,
    GO_ON_RECORD,
    HEAD,
    KEY_BYTES,
    MAGIC,
    OUTCOME_AT,
    SKIPPED,
    GarbledReplies,
    cut_replies,
    is_whole,
    make_result,
    reply,
    split_result,
)

INLINE_BYTES = 1000
keys = st.builds(KEY.pack, st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1))
times = st.tuples(st.floats(0, 1e10), st.floats(0, 1e10))
results = st.builds(
    make_result,
    keys,
    st.integers(0, 5),
    st.integers(-64, 255),
    times,
    st.binary(max_size=50),
    st.booleans(),
    st.binary(max_size=200),
)
replies = st.lists(st.tuples(st.integers(0, 7), results | keys), max_size=6)


@given(replies, st.data())
def test_replies_come_out_as_they_went_in(
    given_replies: list[tuple[int, bytes]], data: st.DataObject
) -> None:
    stream = b"".join(reply(*one) for one in given_replies)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    rest, found = b"", []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        more, rest = cut_replies(rest + stream[start:end], INLINE_BYTES)
        found += more
    assert found == given_replies
    assert rest == b""


def test_an_incomplete_reply_is_kept() -> None:
    one = reply(SKIPPED, KEY.pack(7, 1))
    for length in range(len(one)):
        assert cut_replies(one[:length], INLINE_BYTES) == ([], one[:length])
        assert cut_replies(one + one[:length], INLINE_BYTES) == ([(SKIPPED, KEY.pack(7, 1))], one[:length])


@pytest.mark.parametrize(
    "data",
    [
        b"words that a job has written",
        HEAD.pack(MAGIC, KEY_BYTES - 1, 0),
        HEAD.pack(MAGIC, RESULT.size + DETAIL_BYTES + INLINE_BYTES + 1, 0),
        HEAD.pack(MAGIC ^ 1, KEY_BYTES, 0),
    ],
)
def test_foreign_bytes_are_noticed_at_once(data: bytes) -> None:
    with pytest.raises(GarbledReplies, match="a reply of kind"):
        cut_replies(data, INLINE_BYTES)


def test_the_largest_reply_is_no_garbage() -> None:
    result = make_result(KEY.pack(1, 1), 0, 0, (0.0, 0.0), b"d" * DETAIL_BYTES, False, b"b" * INLINE_BYTES)
    assert cut_replies(reply(0, result), INLINE_BYTES) == ([(0, result)], b"")


@given(
    keys,
    st.integers(0, 5),
    st.integers(-64, 255),
    times,
    st.binary(max_size=30),
    st.booleans(),
    st.binary(max_size=30),
)
def test_results_come_out_as_they_went_in(
    key: bytes,
    outcome: int,
    code: int,
    told_times: tuple[float, float],
    detail: bytes,
    is_path: bool,
    body: bytes,
) -> None:
    record = make_result(key, outcome, code, told_times, detail, is_path, body)
    assert split_result(record) == (code, *told_times, detail, is_path, body)
    assert record[:KEY_BYTES] == key
    assert record[OUTCOME_AT] == outcome


@given(st.text(max_size=20), st.binary(max_size=20), st.booleans())
def test_results_are_what_the_daemon_reads(detail: str, body: bytes, is_path: bool) -> None:
    record = make_result(KEY.pack(7, 2), 3, -9, (1.0, 2.0), detail.encode(), is_path, body)
    result = (7, 2, 3, -9, 1.0, 2.0, detail, is_path, body)
    assert list(frames.unpack_results(record)) == [result]
    assert record == frames.pack_result(result)


def test_long_details_are_cut() -> None:
    record = make_result(KEY.pack(1, 1), 4, 0, (0.0, 0.0), b"x" * (DETAIL_BYTES + 1), False, b"")
    assert len(split_result(record)[3]) == DETAIL_BYTES


@given(results, st.integers(1, 300))
def test_cut_results_are_noticed(record: bytes, missing: int) -> None:
    assert is_whole(record)
    cut = record[:-missing]
    for wrong in (cut, record + b"x"):
        assert not is_whole(wrong)
        with pytest.raises(GarbledReplies):
            split_result(wrong)


def test_the_record_to_go_on_is_no_job() -> None:
    assert list(frames.unpack_jobs(GO_ON_RECORD)) == [(0, 0, True, b"")]
    assert frames.JOB.unpack(GO_ON_RECORD) == (0, 0, GO_ON, 0)
    assert GO_ON not in (False, True), "jobs of the daemon say 0 or 1 there"
