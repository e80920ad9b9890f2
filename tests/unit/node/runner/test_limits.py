"""When jobs with limits are looked at, and what is told of them; processes are invented here."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import pytest

from dispy.model import Limit
from dispy_node.runner import limits as module
from dispy_node.runner.escalation import MEMORY, NEVER
from dispy_node.runner.jobs import Job
from dispy_node.runner.limits import COST_SHARE, LONGEST_S, SHORTEST_S, Watch

LEADER = 100


class Scene:
    """A watch with a clock and a tree of processes that the test sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.told: list[tuple[int, str, bool]] = []
        self.tree_of: dict[int, Any] = {}
        self.shares: dict[int, int | None] = {}
        self.walks = 0
        self.set(LEADER)
        monkeypatch.setattr(module, "monotonic", lambda: self.now)
        monkeypatch.setattr(module, "measure_share", self.shares.get)
        monkeypatch.setattr(module.os, "cpu_count", lambda: 2)
        self.watch = Watch(self, "node there", self.exceed)  # type: ignore[arg-type]

    def set(
        self, pid: int, *, cpu_s: float = 0.0, memory: int = 0, share: int | None = 0, parent: int = 1
    ) -> None:
        self.tree_of[pid] = SimpleNamespace(cpu_s=cpu_s, resident_bytes=memory, parent=parent)
        self.shares[pid] = share

    def families(self) -> dict[int, set[int]]:
        self.walks += 1
        return {}

    def tree(self, leader: int, at_most: int = 100, families: object = None) -> dict[int, Any]:
        assert leader == LEADER
        return dict(list(self.tree_of.items())[: at_most + 1])

    def exceed(self, job: Job, limit: int, text: str, at_once: bool) -> None:
        self.told.append((limit, text, at_once))

    def begin(self, *, timeout: float = 0.0, cpu: float = 0.0, memory: int = 0, processes: int = 0) -> Job:
        job = Job(b"key", b"record")
        job.limits = (timeout, cpu, memory, processes)
        self.watch.begin(job, LEADER)
        return job

    def next(self) -> float:
        """Go on to when something is due; return how long that took."""
        pause_s = self.watch.due_at() - self.now
        self.now += pause_s
        self.watch.tick(self.now)
        return pause_s


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(monkeypatch)


def test_numbers_are_those_of_the_protocol() -> None:
    told = (module.TIMEOUT, module.CPU_TIME, MEMORY, module.PROCESSES)
    assert told == (Limit.TIMEOUT, Limit.CPU_TIME, Limit.MEMORY, Limit.PROCESSES)


def test_time_is_over_once_and_nothing_is_looked_at_before(scene: Scene) -> None:
    scene.begin(timeout=60.0)
    assert scene.next() == 60.0
    assert [(limit, at_once) for limit, _, at_once in scene.told] == [(Limit.TIMEOUT, False)]
    assert "longer than 60 s on node there" in scene.told[0][1]
    assert scene.watch.due_at() == NEVER


def test_a_job_that_has_ended_is_not_watched(scene: Scene) -> None:
    scene.watch.end(scene.begin(timeout=60.0, memory=5))
    assert scene.watch.due_at() == NEVER
    scene.watch.tick(scene.now + 100)
    assert scene.told == []


def test_looks_come_closer_with_the_limit(scene: Scene) -> None:
    scene.begin(memory=10**9)
    scene.set(LEADER, memory=10**7)
    assert scene.next() == pytest.approx(0.25), "it takes so long to fill it"
    scene.set(LEADER, memory=8 * 10**8)
    assert scene.next() == pytest.approx(0.2475)
    assert scene.next() == pytest.approx(0.05)
    scene.set(LEADER, memory=10**9)
    scene.next()
    assert scene.next() == pytest.approx(SHORTEST_S)
    assert scene.told == [], "it is no more than the limit"


def test_far_limits_are_looked_at_now_and_then(scene: Scene) -> None:
    scene.begin(memory=10**12, cpu=1e6, processes=10**6)
    assert scene.next() == pytest.approx(LONGEST_S)


def test_memory_is_that_of_the_tree(scene: Scene) -> None:
    scene.begin(memory=1000)
    scene.set(LEADER, memory=600, share=600)
    scene.set(101, memory=600, share=None)  # nobody tells: then all of it counts
    scene.next()
    assert [(limit, at_once) for limit, _, at_once in scene.told] == [(MEMORY, False)]
    assert "1 kB of memory on node there, it was found to use 1.2 kB" in scene.told[0][1]
    scene.set(101, memory=700, share=700)
    scene.next()
    assert scene.told[1][::2] == (MEMORY, True), "it goes on growing"


def test_what_is_shared_counts_by_share(scene: Scene) -> None:
    scene.begin(memory=1000)
    scene.set(LEADER, memory=5000, share=900)
    scene.next()
    assert scene.told == []


def test_too_many_processes_end_a_job_at_once(scene: Scene) -> None:
    scene.begin(processes=2)
    scene.set(101)
    scene.next()
    assert scene.told == []
    scene.set(102)
    scene.next()
    assert [(limit, at_once) for limit, _, at_once in scene.told] == [(Limit.PROCESSES, True)]


def test_time_of_processors_is_that_of_the_tree_and_of_what_has_left_it(scene: Scene) -> None:
    scene.set(LEADER, cpu_s=50.0)  # of earlier jobs of a worker
    scene.begin(cpu=10.0)
    scene.set(LEADER, cpu_s=54.0)
    scene.set(101, cpu_s=5.0, parent=os.getpid())
    scene.next()
    assert scene.told == []
    del scene.tree_of[101]  # the runner has waited for it
    scene.set(LEADER, cpu_s=54.9)
    scene.next()
    assert scene.told == []
    scene.set(102, cpu_s=0.2)
    scene.next()
    assert [(limit, at_once) for limit, _, at_once in scene.told] == [(Limit.CPU_TIME, False)]
    assert "10 s of processors' time on node there, it was found to use 10.1 s" in scene.told[0][1]
    scene.next()
    assert len(scene.told) == 1, "once is enough"


def test_looking_takes_a_small_part_of_the_time(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.begin(processes=1000)
    tree = scene.tree

    def slow(leader: int, at_most: int = 100, families: object = None) -> dict[int, Any]:
        scene.now += 0.1
        return tree(leader, at_most)

    monkeypatch.setattr(scene, "tree", slow)
    scene.next()
    assert scene.next() == pytest.approx(2.0)


def test_looking_at_many_jobs_takes_no_larger_part(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(1000):
        job = Job(b"%d" % number, b"record")
        job.limits = (60.0, 0.0, 1000, 0)
        scene.watch.begin(job, LEADER)
    tree, looks = scene.tree, 0

    def slow(leader: int, at_most: int = 100, families: object = None) -> dict[int, Any]:
        nonlocal looks
        looks += 1
        scene.now += 0.0001
        return tree(leader, at_most)

    monkeypatch.setattr(scene, "tree", slow)
    began = scene.now
    for _ in range(10):
        scene.next()
    assert looks == 10_000, "none is forgotten"
    assert scene.walks == 10, "one for all"
    assert scene.now - began >= 9 * COST_SHARE * 0.1


def test_time_is_over_also_while_nothing_is_looked_at(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.begin(timeout=5.0, processes=1000)
    tree = scene.tree

    def slow(leader: int, at_most: int = 100, families: object = None) -> dict[int, Any]:
        scene.now += 1.0
        return tree(leader, at_most)

    monkeypatch.setattr(scene, "tree", slow)
    scene.next()
    scene.next()
    assert [limit for limit, _, _ in scene.told] == [Limit.TIMEOUT]
    assert scene.now < 1000.0 + 6.0
