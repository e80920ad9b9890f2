from __future__ import annotations

import random

from dispy_testing.simulation.scenario import FAULTS, LinkKind, Size, draw_scenario


def test_seed_decides() -> None:
    drawn = [draw_scenario(random.Random(seed), Size()) for seed in range(100)]
    assert drawn == [draw_scenario(random.Random(seed), Size()) for seed in range(100)]
    assert {scenario.kind for scenario in drawn} == set(LinkKind)
    assert {fault for scenario in drawn for fault in scenario.faults} == set(FAULTS)


def test_size_fixes_what_it_names() -> None:
    size = Size(nodes=7, jobs=11, kind=LinkKind.WIRE, horizon_s=3.0, job_s=2.0, calm=True)
    scenario = draw_scenario(random.Random(1), size)
    assert (scenario.nodes, scenario.jobs, scenario.kind) == (7, 11, LinkKind.WIRE)
    assert (scenario.horizon_s, scenario.job_s) == (3.0, (0.2, 2.0))
    assert scenario.failing == 0.0
    assert scenario.reliable


def test_unreliable_links_make_no_reliable_run() -> None:
    assert not draw_scenario(random.Random(1), Size(kind=LinkKind.UNRELIABLE)).reliable
