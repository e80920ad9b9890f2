from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispy_node.runner import frames
from dispy_node.runner.replies import (
    DETAIL_BYTES,
    HEAD,
    MAGIC,
    GarbledReplies,
    cut_replies,
    is_whole,
    make_result,
    reply,
    split_result,
)

KEY = frames.KEY.pack(7, 2)
RESULTS = st.builds(
    make_result,
    st.just(KEY),
    st.integers(0, 5),
    st.integers(-64, 255),
    st.tuples(st.floats(0, 1e10), st.floats(0, 1e10)),
    st.binary(max_size=20),
    st.booleans(),
    st.binary(max_size=50),
)


@given(st.lists(st.tuples(st.integers(0, 7), RESULTS)), st.integers(1, 9))
def test_replies_come_through_any_chunking(replies: list[tuple[int, bytes]], size: int) -> None:
    data = b"".join(reply(flags, record) for flags, record in replies)
    found, rest = [], b""
    for start in range(0, len(data), size):
        more, rest, garbage = cut_replies(rest + data[start : start + size], 100)
        found += more
        assert not garbage
    assert found == replies
    assert rest == b""


@given(st.lists(st.tuples(st.integers(0, 7), RESULTS), max_size=3), st.binary(max_size=200))
def test_foreign_bytes_are_garbage_or_wait_for_more(replies: list[tuple[int, bytes]], data: bytes) -> None:
    whole = b"".join(reply(flags, record) for flags, record in replies) + data
    found, rest, garbage = cut_replies(whole, 100)
    assert found[: len(replies)] == replies, "what comes before counts"
    assert b"".join(reply(*one) for one in found) + rest == whole
    assert garbage or not rest or rest[0] == MAGIC


@pytest.mark.parametrize(
    ("data", "kind"),
    [(HEAD.pack(MAGIC, 1 << 30, 0), "of kind 209 with 1073741824 bytes"), (b"x", "of kind 120")],
)
def test_garbage_is_told_and_keeps_nothing_back(data: bytes, kind: str) -> None:
    well = make_result(KEY, 0, 0, (1.0, 2.0), b"", False, b"")
    assert cut_replies(reply(1, well) + data, 100) == ([(1, well)], data, f"a reply {kind}")


@given(RESULTS)
def test_result_is_as_the_daemon_reads_it(record: bytes) -> None:
    assert is_whole(record)
    ((job, attempt, _, code, started_at, ended_at, detail, is_path, body),) = frames.unpack_results(record)
    assert (job, attempt) == (7, 2)
    split = split_result(record)
    assert split[:3] == (code, started_at, ended_at)
    assert (split[3].decode("utf-8", "replace"), *split[4:]) == (detail, is_path, body)


@given(RESULTS, st.integers(0, 200))
def test_result_that_is_cut_off(record: bytes, size: int) -> None:
    if size < len(record):
        assert not is_whole(record[:size])
        with pytest.raises(GarbledReplies):
            split_result(record[:size])
    assert not is_whole(record + b"x")


def test_details_are_bounded() -> None:
    record = make_result(KEY, 4, 0, (0.0, 0.0), b"x" * (DETAIL_BYTES + 1), False, b"")
    assert len(split_result(record)[3]) == DETAIL_BYTES
