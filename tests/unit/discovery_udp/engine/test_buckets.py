from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dispy_discovery_udp.engine.buckets import SOURCES_MAX, Buckets


def test_burst_then_rate() -> None:
    buckets = Buckets(rate=2, burst=3, total=100)
    assert [buckets.take("a", 0.0) for _ in range(5)] == [True, True, True, False, False]
    assert buckets.take("b", 0.0)
    assert buckets.take("a", 0.5)
    assert not buckets.take("a", 0.5)


def test_all_together_are_bounded_too() -> None:
    buckets = Buckets(rate=10, burst=10, total=5)
    assert [buckets.take(str(number), 0.0) for number in range(7)] == [True] * 5 + [False] * 2
    assert buckets.take("a", 0.5)


def test_what_was_quiet_for_longest_is_forgotten() -> None:
    buckets = Buckets(rate=0, burst=1, total=1e9)
    assert buckets.take("first", 0.0)
    for number in range(SOURCES_MAX):
        assert buckets.take(str(number), 0.0)
    assert buckets.take("first", 0.0)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 1)), max_size=200))
def test_nobody_gets_more_than_promised(asked: list[tuple[str, float]]) -> None:
    buckets = Buckets(rate=5, burst=10, total=20)
    now = 0.0
    granted: list[str] = []
    for host, pause_s in asked:
        now += pause_s / 10
        if buckets.take(host, now):
            granted.append(host)
    for host in "abc":
        assert granted.count(host) <= 10 + 5 * now + 1e-6
    assert len(granted) <= 20 + 20 * now + 1e-6
