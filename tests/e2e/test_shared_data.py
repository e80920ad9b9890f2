"""Data that jobs share, with real nodes."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import dispy
from dispy.errors import UsageError

LARGE = bytes(range(256)) * 8192  # 2 MiB


@pytest.fixture
def cluster_of(node: Any) -> Iterator[Callable[..., dispy.JobCluster]]:
    """Make clusters on one node; they are closed with the test."""
    clusters: list[dispy.JobCluster] = []

    def make(computation: Any, **options: Any) -> dispy.JobCluster:
        clusters.append(dispy.JobCluster(computation, nodes=[node.address], **options))
        return clusters[-1]

    yield make
    for cluster in clusters:
        cluster.close(timeout=0, terminate=True)


class Array:
    """An array as far as pickling goes."""

    def __init__(self, buffer: Any) -> None:
        self.view = memoryview(buffer)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return Array, (pickle.PickleBuffer(self.view),)


def look(array: Any, others: Any = (), write: bool = False) -> Any:
    if write:
        array.view[0] = 9
    return len(array.view), array.view[0], array.view.readonly, all(other is array for other in others)


def sent_bytes(cluster: dispy.JobCluster) -> int:
    (node,) = cluster.status().nodes
    return node.tx


def prepare() -> int:
    global prepared
    prepared = 1
    return 0


@pytest.mark.parametrize("isolation", ["process", "worker"])
@pytest.mark.parametrize("results", ["any", "safe"])
def test_object_is_sent_once_and_read_by_all(
    cluster_of: Callable[..., Any], isolation: str, results: str
) -> None:
    cluster = cluster_of(look, isolation=isolation, results=results, setup=prepare)
    ref = cluster.put(Array(bytearray(LARGE)))
    jobs = [cluster.submit(ref, [ref]) for _ in range(10)]
    jobs += [cluster.submit_node(cluster.status().nodes[0], ref, others=[ref])] if jobs[0]() else []
    for job in jobs:
        assert job() == (len(LARGE), 0, True, True), job.exception
    assert len(LARGE) < sent_bytes(cluster) < 1.5 * len(LARGE)
    failed = cluster.submit(ref, write=True)
    failed()
    assert isinstance(failed.error, TypeError), "it cannot be written to"


@pytest.mark.parametrize("isolation", ["process", "worker"])
def test_argument_that_is_passed_again_is_sent_once(cluster_of: Callable[..., Any], isolation: str) -> None:
    cluster = cluster_of(look, isolation=isolation)
    data = bytearray(LARGE)
    for _ in range(3):
        jobs = [cluster.submit(Array(data), write=write) for write in (True, False)]
        assert [job() for job in jobs] == [(len(LARGE), 9, False, True), (len(LARGE), 0, False, True)]
    assert sent_bytes(cluster) < 1.5 * len(LARGE)
    data[0] = 5
    assert cluster.submit(Array(data))() == (len(LARGE), 5, False, True)


def folder_of(value: Any) -> str:
    return os.getcwd()


def files_below(folder: Path) -> list[Path]:
    return list(folder.rglob("shared-*"))


def test_files_at_the_node_go_with_the_data(cluster_of: Callable[..., Any], node: Any) -> None:
    cluster = cluster_of(folder_of)
    ref, other = cluster.put(LARGE), cluster.put([1])
    state = Path(cluster.submit([ref, other])()).parent.parent
    assert len(files_below(state)) == 2
    ref.release()
    assert cluster.submit(other)()  # behind the release on the link
    assert len(files_below(state)) == 1
    with pytest.raises(UsageError, match="released"):
        cluster.submit(ref)
    cluster.close()
    assert files_below(state) == []


def kill_runner(value: Any) -> None:
    os.kill(os.getppid(), 9)


def kill_or_read(value: Any, kill: bool) -> Any:
    if kill:
        kill_runner(value)
    return value


def test_runner_that_died_gets_the_data_again(cluster_of: Callable[..., Any]) -> None:
    cluster = cluster_of(kill_or_read, depends=[kill_runner])
    ref = cluster.put({"a": 1})
    assert cluster.submit(ref, False)() == {"a": 1}
    cluster.submit(ref, True)()
    assert cluster.submit(ref, False)() == {"a": 1}


def test_programs_say_that_they_cannot(cluster_of: Callable[..., Any]) -> None:
    with pytest.raises(UsageError, match="cannot read shared data"):
        cluster_of("/bin/true").put(1)


def read_both(path: str, value: Any, again: Any, ref: Any) -> Any:
    with open(path) as file:
        return file.read(), len(value), value is again, ref


@pytest.mark.parametrize("isolation", ["process", "worker"])
@pytest.mark.parametrize("padding", [0, len(LARGE)], ids=["in the message", "on a stream"])
def test_jobs_bring_files_and_need_shared_data(
    cluster_of: Callable[..., Any],
    isolation: str,
    padding: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    cluster = cluster_of(read_both, isolation=isolation)
    ref = cluster.put({"a": 1})
    contents = [str(number) + " " * padding for number in range(4)]
    for number, content in enumerate(contents):
        (tmp_path / f"{number}.txt").write_text(content)
    jobs = [
        cluster.submit(f"{number}.txt", LARGE, LARGE, ref, dispy_job_depends=[f"{number}.txt"])
        for number in range(4)
    ]
    for job, content in zip(jobs, contents, strict=True):
        assert job() == (content, len(LARGE), True, {"a": 1}), job.exception
    assert sent_bytes(cluster) < 1.5 * len(LARGE) + 4 * padding
    (node,) = cluster.status().nodes
    assert cluster.submit_node(node, "0.txt", LARGE, LARGE, ref)() is None, "the file is gone with its job"
