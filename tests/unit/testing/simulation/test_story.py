from __future__ import annotations

from dispy_testing.simulation.story import LINE_CHARS, Outcome, SimulationFailure, Story


def test_story_remembers_the_last_entries() -> None:
    story = Story(lines=2)
    for number in range(4):
        story.tell(number, "n1", f"step {number}")
    lines = story.lines()
    assert [line.split()[-1] for line in lines] == ["2", "3"]
    assert all("n1" in line for line in lines)


def test_long_entries_are_cut() -> None:
    story = Story()
    story.tell(0.0, "n1", "x" * 10_000)
    assert len(story.lines()[0]) < LINE_CHARS + 60


def test_failure_tells_how_to_replay_it() -> None:
    failure = SimulationFailure(17, "a job has no end", "python -m it --seed 17", ["  1.0 n1 starts"])
    assert "seed 17: a job has no end" in str(failure)
    assert "replay: python -m it --seed 17" in str(failure)
    assert str(failure).endswith("1.0 n1 starts")


def test_speed_is_virtual_by_real_time() -> None:
    outcome = Outcome(0, "messages", 1, 1, 1, 1, virtual_s=500.0, real_s=0.25, mark="")
    assert outcome.speed == 2000.0
