"""Times of day at which a node takes jobs, over midnight too."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dispy.errors import UsageError
from dispy_node.engine.hours import DAY_S, Phase, ServiceHours, parse_hours, show_time

MINUTES = st.integers(0, 24 * 60 - 1).map(lambda minute: minute * 60)
TIMES = st.integers(0, DAY_S * 1000 - 1).map(lambda time_ms: time_ms / 1000)
"""To the millisecond: so close to midnight that the day's length rounds away, no time is ever read."""


@st.composite
def hours(draw: st.DrawFn) -> ServiceHours:
    start, stop, end = draw(MINUTES), draw(MINUTES), draw(st.none() | MINUTES)
    assume(stop != start and end != start)
    if end is not None and (end - start) % DAY_S < (stop - start) % DAY_S:
        stop, end = end, stop
    return ServiceHours(start, stop, end)


def at(text: str) -> int:
    return int(text[:2]) * 3600 + int(text[3:]) * 60


@pytest.mark.parametrize(
    ("start", "stop", "end", "phases"),
    [
        ("08:00", "17:00", "18:00", {"07:59": "SHUT", "08:00": "OPEN", "16:59": "OPEN", "17:00": "CLOSING"}),
        ("08:00", "17:00", "18:00", {"17:59": "CLOSING", "18:00": "SHUT", "23:59": "SHUT", "00:00": "SHUT"}),
        ("20:00", "06:00", "07:00", {"19:59": "SHUT", "20:00": "OPEN", "00:00": "OPEN", "05:59": "OPEN"}),
        ("20:00", "06:00", "07:00", {"06:00": "CLOSING", "06:59": "CLOSING", "07:00": "SHUT"}),
        (
            "20:00",
            "23:00",
            "01:00",
            {"22:59": "OPEN", "23:59": "CLOSING", "00:59": "CLOSING", "01:00": "SHUT"},
        ),
        ("08:00", "17:00", "", {"16:59": "OPEN", "17:00": "CLOSING", "07:59": "CLOSING"}),
        ("08:00", "", "17:00", {"16:59": "OPEN", "17:00": "SHUT"}),
        ("", "17:00", "", {"12:00": "OPEN", "16:59": "OPEN", "17:00": "CLOSING", "11:59": "CLOSING"}),
    ],
)
def test_parts_of_the_day(start: str, stop: str, end: str, phases: dict[str, str]) -> None:
    made = parse_hours(start, stop, end, at("12:00") + 31.5)
    assert made is not None
    assert {time: made.phase_at(at(time)).name for time in phases} == phases


@given(hours(), TIMES)
def test_nothing_changes_before_the_next_change(some: ServiceHours, now_s: float) -> None:
    left = some.until_change_s(now_s)
    assert 0 < left <= DAY_S
    assert some.phase_at((now_s + left * 0.999) % DAY_S) is some.phase_at(now_s)


@given(hours())
def test_phases_follow_each_other(some: ServiceHours) -> None:
    time_s, seen = float(some.start), []
    for _ in range(3):
        seen.append(some.phase_at(time_s))
        time_s = (time_s + some.until_change_s(time_s)) % DAY_S
        if time_s == some.start:
            break
    wanted = {Phase.OPEN: 0, Phase.CLOSING: 1, Phase.SHUT: 2}
    assert seen[0] is Phase.OPEN
    assert [wanted[phase] for phase in seen] == sorted({wanted[phase] for phase in seen})
    assert time_s == some.start
    assert (Phase.SHUT in seen) == (some.end is not None)


@given(hours(), st.integers(0, DAY_S - 1), st.integers(0, DAY_S // 60 - 1))
def test_hours_mean_the_same_on_every_clock(some: ServiceHours, now_s: int, minutes: int) -> None:
    """Turning the clock and the hours alike changes nothing, so midnight is like any other time."""
    by = minutes * 60
    end = None if some.end is None else (some.end + by) % DAY_S
    turned = ServiceHours((some.start + by) % DAY_S, (some.stop + by) % DAY_S, end)
    assert turned.phase_at((now_s + by) % DAY_S) is some.phase_at(now_s)


@given(hours())
def test_what_is_written_is_read_again(some: ServiceHours) -> None:
    end = "" if some.end is None else show_time(some.end)
    assert parse_hours(show_time(some.start), show_time(some.stop), end, 0.0) == some


@pytest.mark.parametrize(
    ("times", "message"),
    [
        (("25:00", "", ""), "--service_start '25:00' is no time of day"),
        (("", "8", ""), "--service_stop '8' is no time of day; write HH:MM"),
        (("08:00", "", ""), "add --service_stop or --service_end"),
        (("08:00", "08:00", ""), "start and stop at 08:00"),
        (("08:00", "17:00", "08:00"), "start and end at 08:00"),
        (("08:00", "18:00", "17:00"), "end at 17:00, before they stop at 18:00"),
    ],
)
def test_hours_that_make_no_sense(times: tuple[str, str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_hours(*times, 0.0)


def test_no_hours_and_how_they_are_written() -> None:
    assert parse_hours("", "", "", 0.0) is None
    assert str(parse_hours("8:00", "17:30", "18:00", 0.0)) == "08:00 to 17:30, end 18:00"
    assert str(parse_hours("20:00", "", "06:00", 0.0)) == "20:00 to 06:00"
