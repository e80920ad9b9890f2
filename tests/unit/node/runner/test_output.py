"""What is kept of a job's output."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispy_node.runner import output
from dispy_node.runner.output import BLOCK_BYTES, Output

GAP = re.compile(rb"\n\[\.\.\. (\d+) bytes of output dropped \.\.\.\]\n")


def fill(limit_bytes: int, pieces: list[bytes]) -> Output:
    made = Output(limit_bytes)
    for piece in pieces:
        made.add(piece)
    return made


def expected(limit_bytes: int, data: bytes) -> bytes:
    if len(data) <= limit_bytes:
        return data
    head = limit_bytes // 2
    gap = b"\n[... %d bytes of output dropped ...]\n" % (len(data) - limit_bytes)
    return data[:head] + gap + data[len(data) - (limit_bytes - head) :]


@given(st.integers(0, 40), st.lists(st.binary(max_size=12)))
def test_first_and_last_part_are_kept(limit_bytes: int, pieces: list[bytes]) -> None:
    assert fill(limit_bytes, pieces).render() == expected(limit_bytes, b"".join(pieces))


@given(st.integers(0, 40), st.lists(st.binary(max_size=12)), st.integers(1, 9))
def test_it_does_not_matter_how_large_blocks_are(limit_bytes: int, pieces: list[bytes], block: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(output, "BLOCK_BYTES", block)
        assert fill(limit_bytes, pieces).render() == expected(limit_bytes, b"".join(pieces))


def test_nothing_printed_is_nothing() -> None:
    assert Output(100).render() == b""


def test_the_gap_tells_how_much_is_missing() -> None:
    made = fill(10, [b"0123456789", b"abc"])
    assert made.render() == b"01234\n[... 3 bytes of output dropped ...]\n89abc"


def test_rendering_twice_gives_the_same() -> None:
    made = fill(10, [b"0123456789" * 3])
    assert made.render() == made.render()


def test_the_limit_itself_is_not_too_much() -> None:
    assert GAP.search(fill(10, [b"x" * 10]).render()) is None
    assert GAP.search(fill(10, [b"x" * 11]).render()) is not None


def test_memory_is_bounded() -> None:
    limit_bytes, piece = 4 * BLOCK_BYTES, b"x" * BLOCK_BYTES
    made = Output(limit_bytes)
    for _ in range(100):
        made.add(piece)
        assert len(made._head) + sum(map(len, made._tail)) <= limit_bytes + BLOCK_BYTES + len(piece)
    (found,) = GAP.finditer(made.render())
    assert int(found[1]) == 96 * BLOCK_BYTES


def test_single_bytes_are_gathered() -> None:
    made = Output(2 * BLOCK_BYTES)
    for _ in range(BLOCK_BYTES + 5000):
        made.add(b"x")
    assert len(made._tail) == 1
