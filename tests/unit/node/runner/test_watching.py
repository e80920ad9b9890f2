from __future__ import annotations

from typing import Any

import pytest

from dispy_node.runner.frames import KEY, OUTPUT_HEAD, WATCH_HEAD
from dispy_node.runner.jobs import Job
from dispy_node.runner.offspring import Offspring
from dispy_node.runner.output import Output
from dispy_node.runner.watching import CHUNK_BYTES, WATCHES, Watching


class Scene:
    """A job that a child runs, and who looks at it."""

    def __init__(self, limit_bytes: int = 1 << 20) -> None:
        self.told: list[tuple[int, int, int, bytes]] = []
        self.shown: list[Offspring] = []
        self.limit_bytes = limit_bytes
        family: Any = self
        self.watching = Watching(self, family)
        self.child = Offspring(-1, -1, -1, None)
        self.job = Job(KEY.pack(5, 2), b"")
        self.job.child = self.child
        self.child.jobs.append(self.job)

    def output(self, record: bytes) -> None:
        job, attempt, number, offset, missed = OUTPUT_HEAD.unpack_from(record)
        assert (job, attempt) == (5, 2)
        self.told.append((number, offset, missed, record[OUTPUT_HEAD.size :]))

    def show(self, child: Offspring) -> None:
        self.shown.append(child)

    def prints(self, data: bytes, *, stderr: bool = False) -> None:
        name = "err" if stderr else "out"
        output = getattr(self.child, name) or Output(self.limit_bytes)
        setattr(self.child, name, output)
        output.add(data)
        self.watching.pump(self.child)

    def watch(self, start: int, limit: int, *, number: int = 1, stream: int = 1) -> None:
        self.watching.watch(self.job, WATCH_HEAD.pack(5, 2, number, stream, start, limit)[KEY.size :])

    def take(self) -> list[tuple[int, int, int, bytes]]:
        told, self.told = self.told, []
        return told


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_what_was_printed_before_comes_too_and_the_child_is_told_once(scene: Scene) -> None:
    scene.prints(b"before")
    assert scene.take() == []
    scene.watch(0, 100)
    assert scene.take() == [(1, 0, 0, b"before")]
    scene.prints(b"after")
    assert scene.take() == [(1, 6, 0, b"after")]
    scene.watch(2, 100, number=2)
    assert scene.take() == [(2, 2, 0, b"foreafter")]
    scene.prints(b"error", stderr=True)
    assert scene.take() == []
    scene.watch(0, 100, number=3, stream=2)
    assert scene.take() == [(3, 0, 0, b"error")]
    assert scene.shown == [scene.child]


def test_nothing_goes_beyond_the_limit(scene: Scene) -> None:
    scene.watch(0, 4)
    scene.prints(b"abcdefgh")
    assert scene.take() == [(1, 0, 0, b"abcd")]
    scene.watch(-1, 6)
    assert scene.take() == [(1, 4, 0, b"ef")]
    scene.watch(1, 6)  # again, on a new link
    assert scene.take() == [(1, 1, 0, b"bcdef")]
    scene.watch(-1, -1)
    scene.watch(-1, 8)  # it was on its way when the watch was ended
    scene.prints(b"i")
    assert scene.take() == []


def test_pieces_are_bounded(scene: Scene) -> None:
    scene.watch(0, 1 << 20)
    scene.prints(bytes(2 * CHUNK_BYTES + 1))
    assert [len(data) for _, _, _, data in scene.take()] == [CHUNK_BYTES, CHUNK_BYTES, 1]


def test_what_was_dropped_meanwhile_is_said_to_be_missing() -> None:
    scene = Scene(limit_bytes=8)
    scene.watch(0, 2)
    for _ in range(3):
        scene.prints(bytes(CHUNK_BYTES))
    scene.take()
    scene.watch(-1, 1 << 30)
    told = scene.take()
    assert sum(missed + len(data) for _, _, missed, data in told) == 3 * CHUNK_BYTES - 2
    assert sum(missed for _, _, missed, _ in told) == told[-1][2] > 0
    ends = [offset + len(data) for _, offset, _, data in told]
    assert ends[-1] == 3 * CHUNK_BYTES


def test_a_job_that_is_not_its_workers_oldest_has_printed_nothing_yet(scene: Scene) -> None:
    scene.child.jobs.appendleft(Job(KEY.pack(4, 1), b""))
    scene.prints(b"of the other")
    scene.watch(0, 100)
    assert scene.take() == []
    scene.child.jobs.popleft()
    scene.child.out = None
    scene.prints(b"own")
    assert scene.take() == [(1, 0, 0, b"own")]


def test_onlookers_are_bounded(scene: Scene) -> None:
    for number in range(WATCHES + 1):
        scene.watch(0, 100, number=number)
    scene.prints(b"x")
    assert [number for number, *_ in scene.take()] == list(range(1, WATCHES + 1))
