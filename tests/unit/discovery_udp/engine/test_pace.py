from __future__ import annotations

import itertools
import math
import random

from hypothesis import given
from hypothesis import strategies as st

from dispy_discovery_udp.engine.pace import JITTER, Pace


def moments(pace: Pace, count: int) -> list[float]:
    found = []
    for _ in range(count):
        found.append(pace.deadline)
        assert pace.take(pace.deadline)
    return found


def test_it_begins_at_once_and_slows_down() -> None:
    pace = Pace(lambda: 0.5, first_s=1, factor=2, last_s=5)
    assert pace.deadline == math.inf
    assert not pace.take(1e9)
    pace.restart(10.0)
    assert moments(pace, 6) == [10, 11, 13, 17, 22, 27]
    pace.stop()
    assert pace.deadline == math.inf


def test_after_the_last_round_it_may_end() -> None:
    pace = Pace(lambda: 0.5, first_s=1, factor=2, last_s=math.inf, rounds=3)
    pace.restart(0.0)
    assert moments(pace, 3) == [0, 1, 3]
    assert pace.deadline == math.inf


def test_too_early_nothing_comes() -> None:
    pace = Pace(lambda: 0.5, first_s=1, factor=2, last_s=5)
    pace.restart(1.0)
    assert not pace.take(0.9)
    assert pace.take(1.0)
    assert not pace.take(1.9)


@given(st.integers(0, 2**32))
def test_jitter_is_bounded_and_pauses_are_for_ever(seed: int) -> None:
    pace = Pace(random.Random(seed).random, first_s=0.1, factor=1.6, last_s=60)
    pace.restart(0.0)
    found = moments(pace, 200)
    pauses = [later - earlier for earlier, later in itertools.pairwise(found)]
    assert all(0.1 * (1 - JITTER) <= pause <= 60 * (1 + JITTER) + 1e-6 for pause in pauses)
    assert pauses[-1] >= 60 * (1 - JITTER) - 1e-6
