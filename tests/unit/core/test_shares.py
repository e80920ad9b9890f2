"""Memory is shared so that nobody can have all of it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dispy.wire.shares import Shares


def fill(shares: Shares, own: int) -> int:
    """Take all that may be taken; return how much one party then has."""
    room = max(0, shares.room(own))
    shares.held += room
    return own + room


def test_one_alone_gets_half() -> None:
    shares = Shares(1000)
    assert fill(shares, 0) == 500
    assert shares.room(500) == 0


def test_who_comes_later_still_finds_something() -> None:
    shares = Shares(1 << 20)
    for _ in range(10):
        assert fill(shares, 0) > 0
    assert shares.held < shares.total


@given(st.integers(1, 10**6), st.lists(st.tuples(st.integers(0, 5), st.integers(0, 10**6)), max_size=50))
def test_never_more_than_there_is(total: int, asked: list[tuple[int, int]]) -> None:
    shares, own = Shares(total), [0] * 6
    for party, size in asked:
        if size <= shares.room(own[party]):
            own[party] += size
            shares.held += size
        assert sum(own) == shares.held <= total
        assert max(own) <= total / 2


def test_who_has_too_much_is_told() -> None:
    shares = Shares(100)
    shares.held = 90
    assert shares.room(80) == -35
