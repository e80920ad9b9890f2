"""The thread of the user's callbacks."""

from __future__ import annotations

import threading

import pytest

from dispy.runtime.callbacks import CallbackThread


def test_calls_run_in_order_and_an_exception_stops_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    callbacks = CallbackThread()
    called: list[int] = []

    def fail() -> None:
        raise ValueError("of the user")

    callbacks.call_soon(lambda: called.append(1))
    callbacks.call_soon(fail)
    callbacks.call_soon(lambda: called.append(2))
    callbacks.close(5)
    assert called == [1, 2]
    assert "of the user" in capsys.readouterr().out


def test_it_knows_its_own_thread_and_can_be_closed_from_it() -> None:
    callbacks = CallbackThread()
    inside: list[bool] = []
    done = threading.Event()

    def look() -> None:
        inside.append(callbacks.is_current())
        callbacks.close(5)
        done.set()

    callbacks.call_soon(look)
    assert done.wait(5)
    assert inside == [True]
    assert not callbacks.is_current()


def test_exit_in_a_callback_ends_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    callbacks = CallbackThread()
    called: list[int] = []

    def leave() -> None:
        raise SystemExit(3)

    callbacks.call_soon(leave)
    callbacks.call_soon(lambda: called.append(1))
    callbacks.close(5)
    assert called == [1]
