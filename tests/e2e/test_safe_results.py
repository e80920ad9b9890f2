"""Clusters that take no pickle from nodes."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import dispy
from dispy.errors import JobBroken, JobRaised


class Colour(enum.Enum):
    RED = 1


class OwnError(Exception):
    pass


def give(what: str) -> Any:
    match what:
        case "dict":
            return {"number": 1, "large": 10**30, 2.5: None}
        case "tuple":
            return 1, (2, "three"), [b"four"]
        case "large":
            return b"x" * 1_000_000
        case "own":
            return {"found": [0, Colour.RED]}
        case "raises own":
            raise OwnError("x")
        case _:
            raise ValueError("x")


def square(numbers: Any) -> Any:
    return numbers**2


Make = Callable[..., dispy.JobCluster]


@pytest.fixture(params=["process", "worker"])
def cluster_of(request: pytest.FixtureRequest) -> Iterator[Make]:
    """Make clusters with safe results on this machine; they are closed with the test."""
    clusters: list[dispy.JobCluster] = []

    def make(computation: Any, **options: Any) -> dispy.JobCluster:
        cluster = dispy.JobCluster(
            computation, nodes=["local"], results="safe", isolation=request.param, **options
        )
        clusters.append(cluster)
        return cluster

    yield make
    for cluster in clusters:
        cluster.close(timeout=0, terminate=True)


def test_results_and_exceptions(cluster_of: Make) -> None:
    cluster = cluster_of(give, depends=[Colour, OwnError])
    whats = ("dict", "tuple", "large", "own", "raises", "raises own")
    jobs = {what: cluster.submit(what) for what in whats}
    assert jobs["dict"]() == {"number": 1, "large": 10**30, 2.5: None}, jobs["dict"].exception
    assert jobs["tuple"]() == (1, (2, "three"), [b"four"])
    assert jobs["large"]() == b"x" * 1_000_000

    assert jobs["own"]() is None
    assert isinstance(jobs["own"].error, JobBroken)
    said = jobs["own"].exception
    assert said.startswith(
        f"result['found'][1] is of type {Colour.__module__}.Colour, which does not fit results='safe'"
    )
    assert said.endswith("return numbers, text, bytes, lists, tuples, dicts or NumPy arrays")

    assert jobs["raises"]() is None
    assert (type(jobs["raises"].error), jobs["raises"].error.args) == (ValueError, ("x",))
    assert "in give" in jobs["raises"].exception
    assert "in give" in str(jobs["raises"].error.__cause__)

    assert jobs["raises own"]() is None
    assert isinstance(jobs["raises own"].error, JobRaised)
    assert "OwnError: x" in jobs["raises own"].exception


def test_arrays(cluster_of: Make) -> None:
    np = pytest.importorskip("numpy")
    job = cluster_of(square).submit(np.arange(6.0).reshape(2, 3))
    assert np.array_equal(job(), np.arange(6.0).reshape(2, 3) ** 2), job.exception


def test_programs(cluster_of: Make) -> None:
    job = cluster_of("sh").submit("-c", "echo said; exit 3")
    assert (job(), job.stdout) == (3, b"said\n")
