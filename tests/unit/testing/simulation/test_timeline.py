from __future__ import annotations

from functools import partial

from dispy_testing.simulation.timeline import Alarm, Timeline


def test_actions_come_in_order_of_time_then_of_asking() -> None:
    timeline = Timeline()
    seen: list[tuple[str, float]] = []
    for name, when in (("late", 2.0), ("first", 1.0), ("second", 1.0)):
        timeline.at(when, lambda name=name: seen.append((name, timeline.now)))  # type: ignore[misc]
    timeline.run_until(10.0)
    assert seen == [("first", 1.0), ("second", 1.0), ("late", 2.0)]
    assert timeline.now == 10.0
    assert timeline.steps == 3


def test_what_is_past_happens_now() -> None:
    timeline = Timeline()
    timeline.run_until(5.0)
    seen: list[float] = []
    timeline.at(1.0, lambda: seen.append(timeline.now))
    timeline.run_until(5.0)
    assert seen == [5.0]


def test_run_ends_when_it_is_done_or_at_its_end() -> None:
    timeline = Timeline()
    seen: list[int] = []
    for number in range(3):
        timeline.at(number, partial(seen.append, number))
    assert timeline.run_until(10.0, lambda: len(seen) == 2)
    assert timeline.now == 1.0
    assert not timeline.run_until(10.0, lambda: len(seen) == 7)
    assert timeline.now == 10.0


def test_alarm_rings_at_the_deadline_as_it_is_by_then() -> None:
    timeline = Timeline()
    deadlines = [3.0]
    rung: list[float] = []

    def ring() -> None:
        rung.append(timeline.now)
        deadlines.clear()

    alarm = Alarm(timeline, lambda: deadlines[0] if deadlines else None, ring)
    alarm.renew()
    deadlines[0] = 4.0  # it has moved, and nobody has said so
    timeline.run_until(3.5)
    assert rung == []
    timeline.run_until(9.0)
    assert rung == [4.0]


def test_stopped_alarm_does_not_ring() -> None:
    timeline = Timeline()
    rung: list[float] = []
    alarm = Alarm(timeline, lambda: 1.0, lambda: rung.append(timeline.now))
    alarm.renew()
    alarm.stop()
    timeline.run_until(2.0)
    assert rung == []
