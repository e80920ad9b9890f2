from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import pytest
import trio
from trio.testing import MockClock

from dispy.errors import DispyError, TransportError
from dispy.runtime.racing import STAGGER_S, first_of


class Ways:
    """Ways that succeed or fail after some time; those that are closed are noted."""

    def __init__(self) -> None:
        self.begun: list[tuple[str, float]] = []
        self.closed: list[str] = []

    async def way(self, name: str, after_s: float, *, fails: bool = False) -> str:
        self.begun.append((name, trio.current_time()))
        await trio.sleep(after_s)
        if fails:
            raise TransportError(f"{name} failed")
        return name

    async def close(self, name: str) -> None:
        self.closed.append(name)
        await trio.lowlevel.checkpoint()

    async def race(self, *ways: Callable[[], Awaitable[str]]) -> str:
        return await first_of(ways, self.close)


@pytest.fixture
def ways() -> Ways:
    return Ways()


def run(ways: Ways, *made: Callable[[], Awaitable[str]]) -> str:
    return trio.run(ways.race, *made, clock=MockClock(autojump_threshold=0), strict_exception_groups=True)


def test_good_first_way_is_tried_alone(ways: Ways) -> None:
    assert run(ways, partial(ways.way, "one", STAGGER_S / 2), partial(ways.way, "two", 0)) == "one"
    assert [name for name, _ in ways.begun] == ["one"]


def test_next_is_tried_at_once_when_one_fails_and_soon_when_it_is_slow(ways: Ways) -> None:
    made = (
        partial(ways.way, "one", 0.01, fails=True),
        partial(ways.way, "two", 100),
        partial(ways.way, "three", 0.1),
    )
    assert run(ways, *made) == "three"
    (_, first), (_, second), (_, third) = ways.begun
    assert second - first == pytest.approx(0.01)
    assert third - second == pytest.approx(STAGGER_S)
    assert ways.closed == []


def test_slow_way_may_still_win(ways: Ways) -> None:
    made = partial(ways.way, "one", STAGGER_S * 2), partial(ways.way, "two", 0.01, fails=True)
    assert run(ways, *made) == "one"


def test_if_all_fail_it_is_the_first_that_tells_why(ways: Ways) -> None:
    made = partial(ways.way, "one", 2, fails=True), partial(ways.way, "two", 0, fails=True)
    with pytest.raises(DispyError, match="one failed"):
        run(ways, *made)


def test_two_that_succeed_in_one_moment(ways: Ways) -> None:
    async def main() -> str:
        async def quick(name: str) -> str:
            with trio.CancelScope(shield=True):
                return await ways.way(name, STAGGER_S + 0.01 if name == "one" else 0.01)

        return await first_of([partial(quick, "one"), partial(quick, "two")], ways.close)

    won = trio.run(main, clock=MockClock(autojump_threshold=0), strict_exception_groups=True)
    assert {won, *ways.closed} == {"one", "two"}


def test_cancellation_leaves_nothing_open(ways: Ways) -> None:
    async def main() -> bool:
        async def late(name: str) -> str:
            with trio.CancelScope(shield=True):
                return await ways.way(name, 1 if name == "one" else 1 - STAGGER_S)

        with trio.move_on_after(0.5) as scope:
            await first_of([partial(late, "one"), partial(late, "two")], ways.close)
        return scope.cancelled_caught

    assert trio.run(main, clock=MockClock(autojump_threshold=0), strict_exception_groups=True)
    assert set(ways.closed) == {"one", "two"}
