from __future__ import annotations

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from dispy_node.runner.output import BLOCK_BYTES, Output


def collect(limit_bytes: int, pieces: list[bytes]) -> bytes:
    output = Output(limit_bytes)
    for piece in pieces:
        output.add(piece)
    return output.render()


@given(st.integers(0, 40), st.lists(st.binary(max_size=15)))
def test_everything_or_head_marker_and_tail(limit_bytes: int, pieces: list[bytes]) -> None:
    data = b"".join(pieces)
    kept = collect(limit_bytes, pieces)
    if len(data) <= limit_bytes:
        assert kept == data
    else:
        head, tail = data[: limit_bytes // 2], data[len(data) - (limit_bytes - limit_bytes // 2) :]
        assert kept == head + b"\n[... %d bytes of output dropped ...]\n" % (len(data) - limit_bytes) + tail


@given(st.integers(1, 3), st.integers(1, 20))
def test_blocks_are_dropped_whole(blocks: int, pieces: int) -> None:
    data = [bytes([number]) * (BLOCK_BYTES - number) for number in range(pieces)]
    kept = collect(2 * blocks * BLOCK_BYTES, data)
    whole = b"".join(data)
    assert kept.startswith(whole[: blocks * BLOCK_BYTES])
    assert kept.endswith(whole[-blocks * BLOCK_BYTES :])


def test_single_bytes_take_no_more_memory_than_the_limit() -> None:
    output = Output(200_000)
    tracemalloc.start()
    try:
        for _ in range(400_000):
            output.add(b"x")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 200_000 + 4 * BLOCK_BYTES


@given(st.lists(st.integers(0, 300), max_size=8), st.integers(0, 900), st.integers(1, 50))
def test_what_is_kept_can_be_read_from_any_place(sizes: list[int], at: int, most: int) -> None:
    output, whole = Output(100), b""
    for size in sizes:
        data = bytes(range(len(whole) % 7, 200)) * 2
        output.add(data[:size])
        whole += data[:size]
    assert output.size == len(whole)
    seen = at
    while True:
        missed, data = output.read(seen, most)
        if not data:
            break
        seen += missed
        assert data == whole[seen : seen + len(data)]
        assert len(data) <= most
        seen += len(data)
    assert seen == max(at, len(whole))
