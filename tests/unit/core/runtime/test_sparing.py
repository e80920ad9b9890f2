"""How much of what others bring about gets into the log, in virtual time."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock

from dispy.runtime import sparing
from dispy.runtime.sparing import LOG_S, SparingLog, SparingLogs

log = logging.getLogger("test.sparing")


def play(script: Callable[[], Awaitable[None]]) -> None:
    trio.run(script, clock=MockClock(autojump_threshold=0))


def test_lines_beyond_the_bound_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def script() -> None:
        some = SparingLog(log, "%d more", lines=2)
        for name in ("a", "a", "b", "c"):
            some.tell(logging.INFO, "it is %s", name)
        assert caplog.messages == ["it is a", "it is b"]
        await trio.sleep(LOG_S)
        some.tell(logging.INFO, "it is %s", "a")
        assert caplog.messages[2:] == ["2 more", "it is a"]

    play(script)


def test_lines_that_may_be_repeated_are_bounded_too(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def script() -> None:
        some = SparingLog(log, "%d more", lines=3, repeats=True)
        for _ in range(5):
            some.tell(logging.INFO, "hello")
        assert caplog.messages == ["hello"] * 3

    play(script)


def test_nobody_keeps_what_concerns_others_out_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def script() -> None:
        logs = SparingLogs(log, "%d more of %s", lines=1)
        for number in range(3):
            logs.tell("100%s", logging.INFO, "no %d", number)
        logs.tell("another", logging.INFO, "hello")
        assert caplog.messages == ["no 0", "hello"]
        await trio.sleep(LOG_S)
        logs.tell("100%s", logging.INFO, "no 4")
        assert caplog.messages[2:] == ["2 more of 100%s", "no 4"]

    play(script)


def test_parties_are_bounded(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(sparing, "KEYS_MAX", 2)

    async def script() -> None:
        logs = SparingLogs(log, "%d more of %s", lines=1)
        for party in ("a", "b", "a", "c", "a", "b"):
            logs.tell(party, logging.INFO, "of %s", party)
        assert caplog.messages == ["of a", "of b", "of c", "of b"]

    play(script)
