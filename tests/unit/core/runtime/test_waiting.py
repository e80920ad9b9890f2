from __future__ import annotations

import threading

import pytest

from dispy.errors import UsageError
from dispy.runtime.waiting import EngineThread, check_may_wait


@pytest.mark.parametrize(("kind", "may"), [(threading.Thread, True), (EngineThread, False)])
def test_all_threads_may_wait_but_those_that_are_waited_for(kind: type[threading.Thread], may: bool) -> None:
    errors: list[UsageError] = []

    def act() -> None:
        try:
            check_may_wait("job.wait()")
        except UsageError as error:
            errors.append(error)

    thread = kind(target=act)
    thread.start()
    thread.join()
    assert [str(error).startswith("job.wait() would wait for ever") for error in errors] == [True] * (not may)
