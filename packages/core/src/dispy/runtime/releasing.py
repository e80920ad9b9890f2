"""Shared data that nobody refers to any more is released in the engine's thread, wherever that is noticed."""

from __future__ import annotations

import os
from functools import partial

from dispy.engine.events import DataReleased
from dispy.model import ComputationId
from dispy.packing.sharing import Sharer
from dispy.runtime.thread import Runtime


def make_sharer(runtime: Runtime, computation: ComputationId) -> Sharer:
    """Make what keeps the shared data of a computation.

    The garbage collector may release data, in any thread and at any moment: so that waits for nothing.
    """

    def release(number: int) -> None:
        if runtime.pid == os.getpid():  # else this is a copy in a child that was forked
            runtime.post(partial(runtime.driver.handle, DataReleased(computation, number)))

    return Sharer(release)
