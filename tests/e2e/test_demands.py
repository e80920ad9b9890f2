"""Jobs that have CPUs and items of resources for themselves, at a real node."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

import dispy

PATIENCE_S = 30


def look(seconds: float = 0.0) -> tuple[float, float, dict[str, str | None]]:
    import os
    import time

    began = time.time()
    names = ("DISPY_CPUS", "DISPY_RESOURCES", "CUDA_VISIBLE_DEVICES")
    seen = {name: os.environ.get(name) for name in names}
    time.sleep(seconds)
    return began, time.time(), seen


@pytest.fixture
def equipped(start_node: Callable[..., Any]) -> Any:
    """A node with two CPUs and two GPUs."""
    return start_node("--cpus", "2", "--resource", "gpu=0,3")


@pytest.mark.parametrize("isolation", ["process", "worker"])
def test_jobs_that_run_at_once_see_other_gpus_and_others_see_none(equipped: Any, isolation: str) -> None:
    with dispy.JobCluster(look, nodes=[equipped.address], isolation=isolation) as cluster:
        jobs = [cluster.options(resources={"gpu": 1}).submit(0.3) for _ in range(4)]
        results = [job() for job in jobs]
        plain = cluster.submit()()
    assert {seen["CUDA_VISIBLE_DEVICES"] for _, _, seen in results} == {"0", "3"}
    for began, ended, seen in results:
        assert seen["DISPY_RESOURCES"] == f"gpu={seen['CUDA_VISIBLE_DEVICES']}"
        others = [one for one in results if one[2] == seen and one[:2] != (began, ended)]
        assert all(one[1] <= began or one[0] >= ended for one in others), "a GPU was in two jobs at once"
    assert plain[2] == {"DISPY_CPUS": "1", "DISPY_RESOURCES": "", "CUDA_VISIBLE_DEVICES": ""}


@pytest.mark.parametrize("options", [{"cpus": 2}, {"exclusive": True}])
@pytest.mark.parametrize("isolation", ["process", "worker"])
def test_job_with_all_cpus_runs_alone(equipped: Any, options: dict[str, Any], isolation: str) -> None:
    with dispy.JobCluster(look, nodes=[equipped.address], isolation=isolation) as cluster:
        before = [cluster.submit(0.2) for _ in range(3)]
        big = cluster.options(**options).submit(0.2)
        after = [cluster.submit(0.05) for _ in range(12)]
        began, ended, seen = big()
        others = [job() for job in (*before, *after)]
    assert seen["DISPY_CPUS"] == "2"
    assert all(one[1] <= began or one[0] >= ended for one in others), "another job ran beside it"
    assert all(one[2]["DISPY_CPUS"] == "1" for one in others)
    assert any(one[0] >= ended for one in others), "jobs that were submitted later have all run before it"


def test_program_and_fresh_interpreter_see_it_too(equipped: Any) -> None:
    with dispy.JobCluster("/bin/sh", nodes=[equipped.address], resources={"gpu": 2}) as cluster:
        job = cluster.submit("-c", "echo $DISPY_CPUS $DISPY_RESOURCES $CUDA_VISIBLE_DEVICES")
        job()
    assert job.stdout.split() == [b"1", b"gpu=0,3", b"0,3"]
    for isolation in ("process", "worker"):
        options = {"cpus": 2, "start_method": "spawn", "isolation": isolation}
        with dispy.JobCluster(look, nodes=[equipped.address], **options) as cluster:
            assert cluster.submit()()[2]["DISPY_CPUS"] == "2"
            assert cluster.options(resources={"gpu": 1}).submit()()[2]["DISPY_RESOURCES"] == "gpu=0"


def test_what_no_node_has_is_waited_for_and_told(equipped: Any) -> None:
    with dispy.JobCluster(look, nodes=[equipped.address]) as cluster:
        cluster.submit()()
        job = cluster.options(cpus=4).submit()
        deadline = time.monotonic() + PATIENCE_S
        while "needs 4 CPUs" not in (told := cluster.explain(job)) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert "needs 4 CPUs: the largest node that is used has 2" in told
        assert cluster.submit()(), "it keeps others from running"
        assert cluster.cancel(job) == 0
