"""Several ways to the same end: each is tried a little after the one before, and the first that succeeds counts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import trio

from dispy.errors import DispyError

T = TypeVar("T")

STAGGER_S = 0.25
"""How long one way is tried alone: longer than any good one takes, as in RFC 8305."""


async def first_of(
    attempts: Sequence[Callable[[], Awaitable[T]]],
    close: Callable[[T], Awaitable[None]],
    *,
    stagger_s: float = STAGGER_S,
) -> T:
    """Return what the first attempt that succeeds gives; cancel the others, and close what they may give.

    The next attempt starts when the one before has failed, or after *stagger_s*. Cancellation leaves nothing open.

    Args:
        attempts: at least one, the most promising first.

    Raises:
        DispyError: all have failed; it is what the first of them said.
    """
    given: list[T] = []
    failures: dict[int, DispyError] = {}

    async def attempt(place: int, over: trio.Event) -> None:
        try:
            given.append(await attempts[place]())
        except DispyError as error:
            failures[place] = error
            over.set()
        else:
            nursery.cancel_scope.cancel()

    try:
        async with trio.open_nursery() as nursery:
            for place in range(len(attempts)):
                over = trio.Event()
                nursery.start_soon(attempt, place, over)
                with trio.move_on_after(stagger_s):
                    await over.wait()
    except BaseException:
        await _close_all(given, close)
        raise
    await _close_all(given[1:], close)  # two have succeeded in one moment
    if given:
        return given[0]
    raise failures[0]


async def _close_all(given: Sequence[T], close: Callable[[T], Awaitable[None]]) -> None:
    with trio.CancelScope(shield=True):  # else a cancellation would leave all but the first open
        for one in given:
            await close(one)
