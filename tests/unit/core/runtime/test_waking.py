"""Nothing that is told is missed, and trio is asked only when it has to be."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest
import trio

from dispy.runtime.waking import Waker


class Token:
    """Stands for a trio run: keeps what it is to call."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], None]] = []
        self.trouble: BaseException | None = None
        self.takes_it_first = False

    def run_sync_soon(self, function: Callable[[], None]) -> None:
        if self.trouble is None or self.takes_it_first:
            self.calls.append(function)
        if self.trouble is not None:
            trouble, self.trouble = self.trouble, None
            raise trouble

    def run(self) -> None:
        while self.calls:
            self.calls.pop(0)()


def make(token: Any, function: Callable[[], None]) -> Waker:
    return Waker(token, function)


def test_one_call_for_many() -> None:
    token, seen = Token(), []
    waker = make(token, lambda: seen.append(1))
    for _ in range(100):
        waker.wake()
    assert len(token.calls) == 1
    token.run()
    waker.wake()
    token.run()
    assert seen == [1, 1]


def test_what_is_told_while_the_function_runs_leads_to_another_call() -> None:
    token, seen = Token(), []

    def function() -> None:
        seen.append(1)
        if len(seen) < 3:
            waker.wake()

    waker = make(token, function)
    waker.wake()
    token.run()
    assert seen == [1, 1, 1]


@pytest.mark.parametrize("takes_it_first", [False, True])
@pytest.mark.parametrize("trouble", [KeyboardInterrupt(), trio.RunFinishedError()])
def test_call_that_may_not_have_been_asked_for_is_asked_for_again(
    trouble: BaseException, takes_it_first: bool
) -> None:
    token, seen = Token(), []
    waker = make(token, lambda: seen.append(1))
    token.trouble, token.takes_it_first = trouble, takes_it_first
    with pytest.raises(type(trouble)):
        waker.wake()
    waker.wake()
    token.run()
    assert seen


def test_threads_miss_nothing_and_hear_of_the_end() -> None:
    """Each thread tells until the run has ended; all that was told without an error has been heard by then."""
    queue: deque[tuple[int, int]] = deque()
    heard: list[tuple[int, int]] = []
    last_told = [0] * 4
    ready: list[Waker] = []
    began, enough = threading.Event(), 5_000

    def hear() -> None:
        heard.extend(queue.popleft() for _ in range(len(queue)))

    def tell(thread: int) -> None:
        began.wait(10)
        number = 0
        while True:
            number += 1
            queue.append((thread, number))
            try:
                ready[0].wake()
            except trio.RunFinishedError:
                return
            last_told[thread] = number
            if number > 1000:  # else four of them leave the run no time
                time.sleep(0.001)

    async def main() -> None:
        ready.append(Waker(trio.lowlevel.current_trio_token(), hear))
        began.set()
        with trio.fail_after(60):
            while len(heard) < enough:
                await trio.sleep(0.001)

    threads = [threading.Thread(target=tell, args=(thread,)) for thread in range(4)]
    for thread in threads:
        thread.start()
    trio.run(main)
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    for number, last in enumerate(last_told):
        of_thread = [told for thread, told in heard if thread == number]
        assert of_thread[:last] == list(range(1, last + 1))
