from __future__ import annotations

from dispy_testing.simulation import LinkKind, Size, World
from dispy_testing.simulation.truth import KEY_BYTES, make_body, make_result


def test_all_jobs_are_submitted_in_time_whatever_the_faults() -> None:
    world = World(2, Size(nodes=2, jobs=60, kind=LinkKind.MESSAGES, horizon_s=20.0, calm=True))
    waiting = world._workload.waiting
    assert waiting > 0
    world.timeline.run_until(20.0)
    assert world._workload.waiting == 0
    assert len(world.truth.jobs) == 60


def test_bodies_name_their_job_and_have_their_size() -> None:
    body = make_body(3, 14, 100_000)
    assert len(body) == 100_000
    assert body[:KEY_BYTES] == make_body(3, 14, 0)
    assert make_body(3, 15, 0) != make_body(3, 14, 0)
    assert len(make_result(body, 70_000)) == 70_000
    assert make_result(body, 0).startswith(body[:KEY_BYTES])
