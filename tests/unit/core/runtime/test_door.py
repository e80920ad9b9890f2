"""What strangers cost, in virtual time."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from dispy.runtime.door import (
    ADMITTED_EACH,
    ADMITTED_MAX,
    STRANGER_S,
    STRANGERS_MAX,
    Door,
    Visit,
)
from dispy.runtime.sparing import LOG_LINES, LOG_S

log = logging.getLogger("test.door")


class Scene:
    """A door, and those who have come."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.door = Door(log)
        self.nursery = nursery
        self.visits: list[Visit] = []
        self.gone: dict[int, float] = {}
        """Number of a visit -> when it was over."""
        self.in_time: dict[int, bool] = {}
        self.may_go = trio.Event()

    async def come(self, *, admitted: bool = False) -> int:
        """Have a visitor come who stays until `may_go`; return its number."""
        number = len(self.visits)

        async def serve(visit: Visit) -> None:
            self.visits.append(visit)
            if admitted:
                visit.admit()
            try:
                await self.may_go.wait()
            finally:
                self.gone[number] = trio.current_time()

        async def receive() -> None:
            self.in_time[number] = await self.door.receive(serve)

        self.nursery.start_soon(receive)
        await wait_all_tasks_blocked()
        return number


def play(script: Callable[[Scene], Awaitable[None]]) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            await script(Scene(nursery))
            nursery.cancel_scope.cancel()

    trio.run(main, clock=MockClock(autojump_threshold=0), strict_exception_groups=True)


def test_oldest_stranger_makes_room() -> None:
    async def script(scene: Scene) -> None:
        for _ in range(STRANGERS_MAX):
            await scene.come()
        assert scene.gone == {}
        assert scene.door.strangers == STRANGERS_MAX
        await scene.come()
        await scene.come()
        assert set(scene.gone) == {0, 1}
        assert scene.in_time == {0: False, 1: False}
        assert scene.door.strangers == STRANGERS_MAX

    play(script)


def test_those_who_are_admitted_are_never_shown_out() -> None:
    async def script(scene: Scene) -> None:
        first = await scene.come(admitted=True)
        late = await scene.come()
        for _ in range(STRANGERS_MAX - 1):
            await scene.come()
        assert scene.gone == {}
        scene.visits[late].admit()
        assert scene.door.strangers == STRANGERS_MAX - 1
        for _ in range(STRANGERS_MAX + 1):
            await scene.come()
        assert len(scene.gone) == STRANGERS_MAX
        await trio.sleep(STRANGER_S * 10)
        assert {first, late}.isdisjoint(scene.gone)
        assert scene.visits[first].is_admitted
        assert scene.visits[late].is_admitted
        scene.may_go.set()
        await wait_all_tasks_blocked()
        assert scene.in_time[first]
        assert scene.in_time[late]

    play(script)


def test_many_may_be_inside_when_they_are_admitted() -> None:
    async def script(scene: Scene) -> None:
        for _ in range(3 * STRANGERS_MAX):
            await scene.come(admitted=True)
        assert (scene.gone, scene.door.strangers) == ({}, 0)

    play(script)


def test_stranger_has_only_so_much_time() -> None:
    async def script(scene: Scene) -> None:
        began = trio.current_time()
        number = await scene.come()
        await trio.sleep(STRANGER_S * 0.9)
        assert scene.gone == {}
        await trio.sleep(STRANGER_S)
        assert scene.gone == {number: pytest.approx(began + STRANGER_S)}
        assert scene.in_time == {number: False}
        assert not scene.visits[number].is_admitted
        assert scene.door.strangers == 0

    play(script)


def test_stranger_who_leaves_makes_room() -> None:
    async def script(scene: Scene) -> None:
        for _ in range(STRANGERS_MAX):
            await scene.come()
        scene.may_go.set()
        await wait_all_tasks_blocked()
        assert scene.door.strangers == 0
        assert set(scene.in_time.values()) == {True}

    play(script)


def test_bug_in_serving_is_the_callers_and_makes_room() -> None:
    async def script(scene: Scene) -> None:
        async def serve(visit: Visit) -> None:
            await trio.lowlevel.checkpoint()
            raise RuntimeError("a bug")

        with pytest.raises(RuntimeError, match="a bug"):
            await scene.door.receive(serve)
        assert scene.door.strangers == 0

    play(script)


def test_refusals_fill_no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, log.name)

    async def script(scene: Scene) -> None:
        for number in range(LOG_LINES + 90):
            scene.door.tell_refusal(logging.INFO, "refused %d", number)
        assert caplog.messages == [f"refused {number}" for number in range(LOG_LINES)]
        caplog.clear()
        await trio.sleep(LOG_S * 0.9)
        scene.door.tell_refusal(logging.INFO, "refused again")
        assert caplog.messages == []
        await trio.sleep(LOG_S * 0.2)
        scene.door.tell_refusal(logging.ERROR, "refused later")
        first, second = caplog.records
        assert first.levelno == logging.WARNING
        assert first.getMessage().startswith("91 more connections were refused")
        assert (second.levelno, second.getMessage()) == (logging.ERROR, "refused later")
        caplog.clear()
        await trio.sleep(LOG_S * 2)
        scene.door.tell_refusal(logging.INFO, "refused %s", "once more")
        assert caplog.messages == ["refused once more"]

    play(script)


def test_same_refusal_is_logged_once_in_a_while(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, log.name)

    async def script(scene: Scene) -> None:
        for _ in range(3):
            scene.door.tell_refusal(logging.INFO, "%s refused", "10.0.0.9")
        scene.door.tell_refusal(logging.INFO, "%s refused", "10.0.0.8 100%s")
        assert caplog.messages == ["10.0.0.9 refused", "10.0.0.8 100%s refused"]
        caplog.clear()
        await trio.sleep(LOG_S)
        scene.door.tell_refusal(logging.INFO, "%s refused", "10.0.0.9")
        assert caplog.messages[0].startswith("2 more connections")
        assert caplog.messages[1:] == ["10.0.0.9 refused"]

    play(script)


def test_admitted_are_counted_by_identity_and_together() -> None:
    async def script(scene: Scene) -> None:
        async def admit(who: str) -> str:
            return scene.visits[await scene.come()].admit(who)

        for _ in range(ADMITTED_EACH):
            assert await admit("mary") == ""
        assert "256 clients with mary are connected" in await admit("mary")
        assert scene.door.strangers == 1  # who is not taken stays one
        for _ in range(ADMITTED_MAX - ADMITTED_EACH):
            assert await admit("bob") == ""
        assert "512 clients are connected" in await admit("ann")
        scene.visits[0].leave()
        await wait_all_tasks_blocked()
        assert await admit("ann") == ""

    play(script)
