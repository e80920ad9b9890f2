"""Deadlines come in order, and those that are moved or cleared do not come."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dispy.engine.timers import TimerKey, Timers


def test_nothing_is_due_at_first() -> None:
    timers = Timers()
    assert timers.next_due() is None
    assert timers.take_due(1e9) == []


def test_keys_come_when_they_are_due_the_earliest_first() -> None:
    timers = Timers()
    timers.set(("late",), 3.0)
    timers.set(("early",), 1.0)
    timers.set(("middle", "x"), 2.0)
    assert timers.next_due() == 1.0
    assert timers.take_due(0.5) == []
    assert timers.take_due(2.0) == [("early",), ("middle", "x")]
    assert timers.due(("early",)) is None
    assert timers.due(("late",)) == 3.0
    assert timers.next_due() == 3.0


def test_a_deadline_that_is_moved_comes_once() -> None:
    timers = Timers()
    timers.set(("a",), 1.0)
    timers.set(("a",), 5.0)
    timers.set(("a",), 5.0)
    assert timers.next_due() == 5.0
    assert timers.take_due(9.0) == [("a",)]


def test_a_cleared_deadline_does_not_come() -> None:
    timers = Timers()
    timers.set(("a",), 1.0)
    timers.clear(("a",))
    timers.clear(("b",))
    assert timers.next_due() is None
    timers.set(("a",), 1.0)
    assert timers.take_due(1.0) == [("a",)]
    assert timers.take_due(1.0) == []


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.one_of(st.none(), st.integers(0, 9))), max_size=40),
    st.integers(0, 9),
)
def test_timers_agree_with_a_dictionary(steps: list[tuple[str, int | None]], now: int) -> None:
    timers = Timers()
    model: dict[TimerKey, float] = {}
    for name, due in steps:
        if due is None:
            timers.clear((name,))
            model.pop((name,), None)
        else:
            timers.set((name,), float(due))
            model[(name,)] = float(due)
        assert timers.next_due() == min(model.values(), default=None)
    taken = timers.take_due(now)
    assert sorted(taken) == sorted(key for key, due in model.items() if due <= now)
    assert [model[key] for key in taken] == sorted(model[key] for key in taken)
    assert timers.next_due() == min((due for due in model.values() if due > now), default=None)
