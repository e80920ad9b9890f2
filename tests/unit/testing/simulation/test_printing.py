from __future__ import annotations

import pytest

from dispy.engine.effects import TellOutput
from dispy.model import ComputationId, JobId
from dispy.wire.messages import WatchOutput
from dispy_node.engine import events as ev
from dispy_testing.simulation.printing import KEPT_BYTES, PRINT_BYTES, Onlooker, Printing, printed
from dispy_testing.simulation.story import Broken


def piece(start: int, end: int, *, attempt: int = 1, missed: int = 0) -> TellOutput:
    return TellOutput(None, 1, 1, attempt, missed, printed(attempt, start, end))


def test_what_was_printed_is_told_to_who_looks() -> None:
    told: list[ev.Event] = []
    printing = Printing(ComputationId("a"), told.append)
    printing.started((4, 2))
    printing.prints((4, 2))
    printing.watch(WatchOutput("a", 4, 2, 7, 1, 0, 100))
    (event,) = told
    assert isinstance(event, ev.OutputTold)
    assert (event.output.number, event.output.data) == (7, printed(2, 0, 100))
    printing.ended((4, 2))
    printing.prints((4, 2))
    printing.watch(WatchOutput("a", 4, 2, 7, 1, -1, 200))
    assert len(told) == 1


def test_jobs_print_more_than_is_kept() -> None:
    printing = Printing(ComputationId("a"), lambda event: None)
    printing.started((4, 1))
    for _ in range(9):
        printing.prints((4, 1))
    assert 9 * PRINT_BYTES > KEPT_BYTES


def test_an_onlooker_takes_what_comes_next() -> None:
    looker = Onlooker(JobId(4))
    looker.take(piece(0, 300))
    looker.take(piece(310, 320, missed=10))
    looker.take(piece(0, 5, attempt=2))
    assert (looker.attempt, looker.at) == (2, 5)


@pytest.mark.parametrize(
    "wrong",
    [piece(0, 5), piece(11, 15), piece(10, 10), piece(0, 10, attempt=0)],
    ids=["again", "gap", "none", "old"],
)
def test_an_onlooker_takes_nothing_else(wrong: TellOutput) -> None:
    looker = Onlooker(JobId(4))
    looker.take(piece(0, 10))
    with pytest.raises(Broken):
        looker.take(wrong)
