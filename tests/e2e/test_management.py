"""Single nodes are taken, left, set up again and limited while a cluster works."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from real_nodes import NodeProcess

import dispy

DEADLINE_S = 30.0


def compute(seconds: float) -> tuple[str, int]:
    import time

    time.sleep(seconds)
    return dispy_node_name, token  # type: ignore[name-defined]  # noqa: F821


def setup() -> int:
    import random

    global token
    token = random.getrandbits(60)
    return 0


def until(condition: Callable[[], Any]) -> None:
    ends_at = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < ends_at, "it did not come about"
        time.sleep(0.02)


def test_nodes_of_a_cluster_that_works(tmp_path: Path) -> None:
    told: list[tuple[int, str]] = []

    def note(status: int, node: dispy.DispyNode | None, job: object) -> None:
        if node is not None and job is None:
            told.append((status, node.name))

    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first = NodeProcess(tmp_path / "a", "--name", "first", cpus=2)
    second = NodeProcess(tmp_path / "b", "--name", "second", cpus=2)
    try:
        with dispy.JobCluster(compute, nodes=[first.address], setup=setup, cluster_status=note) as cluster:
            assert cluster.wait_for_nodes(timeout=DEADLINE_S)
            before = cluster.submit(0)()
            assert before[0] == "first"

            assert cluster.allocate_node(second.address) == 0
            assert cluster.wait_for_nodes(2, timeout=DEADLINE_S)
            pinned = cluster.submit_node("second", 0)
            assert pinned is not None
            assert pinned()[0] == "second"

            # deallocated: what runs goes on, nothing more comes
            long = cluster.submit_node("first", 1.0)
            until(lambda: cluster.node_jobs("first") == [long])
            assert "it runs at node first" in cluster.explain(long)
            assert cluster.deallocate_node("first") == 0
            assert {job()[0] for job in [cluster.submit(0) for _ in range(6)]} == {"second"}
            assert long is not None
            assert long()[0] == "first"
            assert cluster.allocate_node(first.address) == 0

            # set up again: a fresh runner, so another token
            assert cluster.resetup_node("first") == 0
            until(lambda: told.count((dispy.DispyNode.Initialized, "first")) == 2)
            again = cluster.submit_node("first", 0)
            assert again is not None
            assert again()[1] != before[1]

            # left: its bound jobs end with a status, and others go elsewhere
            assert cluster.set_node_cpus("second", 1) == 1
            running = [cluster.submit_node("second", 60) for _ in range(2)]
            until(lambda: cluster.node_jobs("second") == running[:1])
            assert cluster.close_node("second", terminate_pending=True) == 0
            for job in running:
                assert job is not None
                job()
                assert job.status in (dispy.DispyJob.Cancelled, dispy.DispyJob.Terminated)
            assert {job()[0] for job in [cluster.submit(0) for _ in range(4)]} == {"first"}
            assert cluster.submit_node("second", 0) is None
            assert "closed it for this cluster" in cluster.explain()
    finally:
        first.end()
        second.end()


def test_waiting_for_nodes_that_do_not_come() -> None:
    with (
        dispy.JobCluster(compute, nodes=["127.0.0.1:9"]) as cluster,
    ):
        assert cluster.wait_for_nodes(timeout=0.2) is False
        job = cluster.submit(0)
        told = cluster.explain(job)
        assert "behind 0 others; no node takes jobs" in told
        assert "127.0.0.1:9" in told
        assert cluster.cancel(job) == 0
        job.wait()
        assert cluster.explain(job) == f"job {job.id}: it has ended as cancelled: {job.error}"


def wait_briefly(seconds: float) -> float:
    import time

    time.sleep(seconds)
    return seconds


def test_the_cluster_that_was_created_first_has_slots_first_if_that_is_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispy.config, "ClusterOrder", "early")
    node = NodeProcess(tmp_path, cpus=1)
    try:
        with (
            dispy.JobCluster(wait_briefly, nodes=[node.address]) as early,
            dispy.JobCluster(wait_briefly, nodes=[node.address]) as late,
        ):
            assert early.wait_for_nodes(timeout=DEADLINE_S)
            assert late.wait_for_nodes(timeout=DEADLINE_S)
            held = early.submit(1.0)  # the others gather behind it
            jobs = [(name, cluster.submit(0.01)) for name, cluster in [("late", late), ("early", early)] * 3]
            assert held() == 1.0
            assert [job() for _, job in jobs] == [0.01] * 6
        names = [name for name, job in sorted(jobs, key=lambda item: item[1].start_time)]
        assert names == ["early"] * 3 + ["late"] * 3
    finally:
        node.end()
