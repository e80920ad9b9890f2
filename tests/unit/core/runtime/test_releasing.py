"""Shared data is released in the engine's thread."""

from __future__ import annotations

import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from dispy.engine.events import DataReleased
from dispy.model import ComputationId, Pieces
from dispy.runtime.releasing import make_sharer
from dispy.runtime.thread import Runtime


@pytest.mark.parametrize("is_copy", [False, True])
def test_release_waits_for_the_engine_s_thread(is_copy: bool) -> None:
    posted: list[Callable[[], None]] = []
    handled: list[Any] = []
    driver = SimpleNamespace(handle=handled.append)
    pid = os.getpid() + is_copy  # a child that was forked has the parent's
    runtime = cast(Runtime, SimpleNamespace(pid=pid, driver=driver, post=posted.append))
    ref = make_sharer(runtime, ComputationId("c")).put(Pieces((b"N.",)), [])
    ref.release()
    assert handled == []
    for function in posted:
        function()
    assert handled == ([] if is_copy else [DataReleased(ComputationId("c"), 1)])
