"""What the owner has said, parsed, and the clock of service hours."""

from __future__ import annotations

import math
import time

import pytest
import trio
from trio.testing import MockClock

from dispy.errors import UsageError
from dispy_node.engine.events import HoursChanged
from dispy_node.engine.hours import Phase, ServiceHours
from dispy_node.rules import FREELY, OwnerRules, keep_hours, local_time_s, make_rules
from dispy_node.settings import NodeSettings

HOUR_S = 3600.0


def test_nothing_said_is_as_a_node_without_rules() -> None:
    assert make_rules(NodeSettings(), 0.0) == FREELY


def test_rules_of_settings() -> None:
    settings = NodeSettings(
        service_start="20:00", service_end="06:00", serve=3, client_shutdown=True, zombie_interval=2.5
    )
    hours = ServiceHours(20 * 3600, 6 * 3600, 6 * 3600)
    assert make_rules(settings, 0.0) == OwnerRules(hours, 3, True, 150.0)
    assert make_rules(NodeSettings(zombie_interval=0), 0.0).keep_results_s == math.inf


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (NodeSettings(zombie_interval=0.5), "--zombie_interval 0.5 is no number of minutes from 1 on"),
        (NodeSettings(zombie_interval=math.nan), "--zombie_interval nan"),
        (NodeSettings(serve=-2), "--serve -2 is no number of computations"),
        (NodeSettings(service_stop="24:00"), "--service_stop '24:00' is no time of day"),
    ],
)
def test_rules_that_make_no_sense(settings: NodeSettings, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_rules(settings, 0.0)


def test_time_of_day_is_that_of_the_wall_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 1_700_000_000.25)
    local = time.localtime(1_700_000_000)
    assert local_time_s() == local.tm_hour * 3600 + local.tm_min * 60 + local.tm_sec + 0.25


def listen(
    hours: ServiceHours, start_s: float, lasts_s: float, jump_s: float = 0.0
) -> list[tuple[float, Phase]]:
    """Keep hours from *start_s* of a day on; give what was told, with the time of day in hours."""
    told: list[tuple[float, Phase]] = []
    set_by = 0.0

    def clock() -> float:
        return (start_s + trio.current_time() + set_by) % (24 * HOUR_S)

    def tell(event: HoursChanged) -> None:
        assert event.text == str(hours)
        told.append((round(clock() / HOUR_S, 2), event.phase))

    async def main() -> None:
        nonlocal set_by
        async with trio.open_nursery() as nursery:
            await nursery.start(
                lambda task_status: keep_hours(hours, tell, clock=clock, task_status=task_status)
            )
            first = len(told)
            await trio.sleep(1)
            assert len(told) == first, "the present part of the day is told before all else"
            set_by = jump_s
            await trio.sleep(lasts_s)
            nursery.cancel_scope.cancel()

    trio.run(main, clock=MockClock(autojump_threshold=0))
    return [(at, phase) for at, phase in told]


NIGHT = ServiceHours(20 * 3600, 6 * 3600, 7 * 3600)


def test_changes_are_told_when_they_come() -> None:
    assert listen(NIGHT, 21 * HOUR_S, 24 * HOUR_S) == [
        (6.0, Phase.CLOSING),
        (7.0, Phase.SHUT),
        (20.0, Phase.OPEN),
    ]


def test_a_node_that_starts_outside_its_hours_is_told_so_at_once() -> None:
    assert listen(NIGHT, 6.5 * HOUR_S, 60) == [(6.5, Phase.CLOSING)]


def test_a_clock_that_is_set_is_noticed_soon() -> None:
    assert listen(NIGHT, 21 * HOUR_S, 60, jump_s=11 * HOUR_S) == [(8.01, Phase.SHUT)]
