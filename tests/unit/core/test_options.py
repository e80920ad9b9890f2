"""A view of a cluster submits to the cluster, with limits of its own."""

from __future__ import annotations

from typing import Any

import pytest

from dispy.demands import PLAIN, Demands
from dispy.errors import UsageError
from dispy.options import ClusterView, Submitting
from dispy.wire.messages import JobLimits


class Cluster(Submitting):
    """Takes note of what is submitted."""

    def __init__(self, limits: JobLimits | None = None) -> None:
        self._limits = limits
        self.calls: list[tuple[Any, ...]] = []

    def _submit(self, *given: Any) -> Any:
        self.calls.append(given)
        return "job"

    def _submit_pinned(self, *given: Any) -> Any:
        self.calls.append(given)
        return "pinned"


FIVE = JobLimits(timeout_s=5.0)


def test_every_way_to_submit_has_the_limits_of_the_view() -> None:
    cluster = Cluster()
    view = cluster.options(timeout=5)
    assert isinstance(view, ClusterView)
    assert view.submit(1, timeout=2) == "job"
    assert view.submit_job_id("a", 2) == "job"
    assert view.submit_node("there", 3) == "pinned"
    assert view.submit_job_id_node("b", "there", memory=4) == "pinned"
    assert cluster.calls == [
        (None, None, (1,), {"timeout": 2}, FIVE, PLAIN),
        ("a", None, (2,), {}, FIVE, PLAIN),
        (None, "there", (3,), {}, FIVE, PLAIN),
        ("b", "there", (), {"memory": 4}, FIVE, PLAIN),
    ]


def test_the_cluster_itself_keeps_its_own() -> None:
    cluster = Cluster(FIVE)
    cluster.options(timeout=None).submit()
    cluster.options(memory="1kB").submit()
    cluster.submit()
    assert [call[-2] for call in cluster.calls] == [None, JobLimits(5.0, 0.0, 1000), FIVE]


def test_a_view_of_a_view_adds_to_it() -> None:
    cluster = Cluster()
    cluster.options(timeout=5).options(cpu_time=2, processes=9).submit()
    assert cluster.calls == [(None, None, (), {}, JobLimits(5.0, 2.0, 0, 9), PLAIN)]


def test_a_view_adds_to_demands_as_well() -> None:
    cluster = Cluster()
    urgent = cluster.options(priority=5)
    urgent.options(timeout=5).submit()
    urgent.options(priority=-1).submit()
    cluster.submit()
    assert [call[-2:] for call in cluster.calls] == [
        (FIVE, Demands(5)),
        (None, Demands(-1)),
        (None, PLAIN),
    ]


def test_what_is_no_option_is_refused() -> None:
    with pytest.raises(UsageError, match="timeout=0"):
        Cluster().options(timeout=0)
    with pytest.raises(TypeError, match="time_out"):
        Cluster().options(time_out=5)  # type: ignore[call-arg]


def test_who_does_not_say_how_cannot_submit() -> None:
    with pytest.raises(NotImplementedError):
        Submitting().submit()
    with pytest.raises(NotImplementedError):
        Submitting().submit_node("there")
