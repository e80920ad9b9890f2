"""Where programs speak: real sockets, and a poll that only takes notes."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dispy_node.runner import desk as desk_module
from dispy_node.runner.desk import COMMAND, Desk, connect, program_environment
from dispy_node.runner.frames import FILE, JOB, KEY, PARTIAL, pack_news, unpack_news
from dispy_node.runner.jobs import Job
from dispy_node.runner.replies import NEWS, SAID, reply
from dispy_node.runner.settings import Settings

KEYS = [KEY.pack(number, 1) for number in (7, 8)]


class NotedPoll:
    """Knows which descriptors are registered."""

    def __init__(self) -> None:
        self.known: set[int] = set()

    def register(self, descriptor: int, mask: int) -> None:
        assert descriptor not in self.known
        self.known.add(descriptor)

    def unregister(self, descriptor: int) -> None:
        self.known.remove(descriptor)


class Scene:
    """A desk that is open, and two jobs that run."""

    def __init__(self, folder: Path) -> None:
        self.settings = Settings(
            {"folder": str(folder), "spool": str(folder), "node": "there", "inline_bytes": 1000}, b"{}"
        )
        self.jobs = {key: Job(key, b"") for key in KEYS}
        self.told: list[tuple[Job, bytes]] = []
        self.poll: Any = NotedPoll()
        self.desk = Desk(self.settings)
        self.desk.open(self.poll, self.jobs.get, lambda job, record: self.told.append((job, record)))
        self.visitors: list[int] = []

    @property
    def is_listening(self) -> bool:
        return self.desk.fileno() in self.poll.known

    def visit(self) -> int:
        """Connect, and be admitted."""
        descriptor = connect(self.settings.spool)
        self.visitors.append(descriptor)
        assert self.desk.handle(self.desk.fileno())
        return descriptor

    def hear(self) -> None:
        """Read once from each visitor."""
        for descriptor in sorted(self.poll.known - {self.desk.fileno()}):
            assert self.desk.handle(descriptor)

    def answer(self, key: bytes, number: int, *, taken: bool = True) -> None:
        self.desk.answer(self.jobs[key], number.to_bytes(4, "little") + bytes([taken]))

    def close(self) -> None:
        for descriptor in self.visitors:
            os.close(descriptor)
        for descriptor in self.poll.known - {self.desk.fileno()}:
            os.close(descriptor)
        self.desk._listener.close()


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.setenv("PATH", os.environ["PATH"])
    scene = Scene(tmp_path)
    yield scene
    scene.close()


def partial(key: bytes, number: int, body: bytes = b"x") -> bytes:
    return reply(NEWS, pack_news(key, number, PARTIAL, body=body))


def is_dismissed(descriptor: int) -> bool:
    return os.read(descriptor, 100) == b""


def test_news_is_passed_on_and_its_answer_comes_back(scene: Scene) -> None:
    visitor = scene.visit()
    os.write(visitor, partial(KEYS[0], 4711))
    scene.hear()
    ((job, record),) = scene.told
    assert job is scene.jobs[KEYS[0]]
    assert unpack_news(record) == (7, 1, 1, PARTIAL, "", 0, 0.0, bytes(32), False, b"x")
    scene.answer(KEYS[0], 1)
    told = os.read(visitor, 100)
    assert told[JOB.size :] == (4711).to_bytes(4, "little") + b"\1"


def test_numbers_of_a_job_ascend_whoever_speaks(scene: Scene) -> None:
    first, second, third = (scene.visit() for _ in range(3))
    for visitor, key in ((first, KEYS[0]), (second, KEYS[1]), (third, KEYS[0])):
        os.write(visitor, partial(key, 4711))
        scene.hear()
    assert [unpack_news(record)[:3] for _, record in scene.told] == [(7, 1, 1), (8, 1, 1), (7, 1, 2)]
    scene.answer(KEYS[0], 2, taken=False)
    assert os.read(third, 100)[-1] == 0
    scene.answer(KEYS[0], 1)
    assert os.read(first, 100)[-1] == 1


def test_record_may_come_in_pieces(scene: Scene) -> None:
    visitor = scene.visit()
    data = partial(KEYS[0], 1, b"y" * 500)
    for start in range(0, len(data), 100):
        assert not scene.told
        os.write(visitor, data[start : start + 100])
        scene.hear()
    assert len(scene.told) == 1


@pytest.mark.parametrize(
    "make",
    [
        lambda folder: b"GET / HTTP/1.0\r\n\r\n" + bytes(20),
        lambda folder: reply(NEWS, KEYS[0]),
        lambda folder: reply(SAID, KEYS[0] + b"\0text"),
        lambda folder: partial(KEY.pack(9, 1), 1),
        lambda folder: partial(KEYS[0], 1) + partial(KEYS[0], 2),
        lambda folder: reply(NEWS, pack_news(KEYS[0], 1, 5, body=b"")),
        lambda folder: reply(NEWS, pack_news(KEYS[0], 1, FILE, body=b"content", path="x")),
        lambda folder: reply(NEWS, pack_news(KEYS[0], 1, PARTIAL, body=b"", modified_at=float("inf"))),
        lambda folder: reply(NEWS, pack_news(KEYS[0], 1, FILE, body=b"/etc/passwd", is_path=True, path="x")),
        lambda folder: reply(
            NEWS, pack_news(KEYS[0], 1, FILE, body=os.fsencode(folder / "no"), is_path=True, path="x")
        ),
        lambda folder: reply(NEWS, pack_news(KEYS[0], 1, FILE, body=b"a\0b", is_path=True, path="x")),
    ],
)
def test_what_the_command_does_not_say_is_not_passed_on(
    scene: Scene, tmp_path: Path, make: Callable[[Path], bytes]
) -> None:
    """The daemon would end the runner, with all its jobs."""
    visitor = scene.visit()
    os.write(visitor, make(tmp_path))
    scene.hear()
    assert is_dismissed(visitor)
    assert len(scene.told) <= 1
    assert all(unpack_news(record)[2:4] == (1, PARTIAL) for _, record in scene.told)
    assert scene.poll.known == {scene.desk.fileno()}


def test_file_in_the_spool_folder_is_passed_on(scene: Scene, tmp_path: Path) -> None:
    (tmp_path / "7-1-1.news").write_bytes(b"content")
    body = os.fsencode(tmp_path / "7-1-1.news")
    os.write(scene.visit(), reply(NEWS, pack_news(KEYS[0], 1, FILE, body=body, is_path=True, path="x")))
    scene.hear()
    assert unpack_news(scene.told[0][1])[-1] == body


def test_commands_of_a_job_that_has_ended_are_dismissed(scene: Scene) -> None:
    first, second = scene.visit(), scene.visit()
    os.write(first, partial(KEYS[0], 1))
    os.write(second, partial(KEYS[1], 1))
    scene.hear()
    scene.desk.forget(scene.jobs[KEYS[0]])
    assert is_dismissed(first)
    scene.answer(KEYS[0], 1)  # it comes too late, which does no harm
    scene.answer(KEYS[1], 1)
    assert os.read(second, 100)[-1] == 1


def test_command_that_was_killed_is_forgotten(scene: Scene) -> None:
    os.write(scene.visit(), partial(KEYS[0], 1))
    scene.hear()
    os.close(scene.visitors.pop())
    scene.hear()
    scene.answer(KEYS[0], 1)
    assert scene.poll.known == {scene.desk.fileno()}


def test_too_many_have_to_wait(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk_module, "MAX_VISITORS", 2)
    scene.visit()
    assert scene.is_listening
    scene.visit()
    assert not scene.is_listening
    scene.desk.tick()
    assert not scene.is_listening
    os.close(scene.visitors.pop())
    scene.hear()
    scene.desk.tick()
    assert scene.is_listening


def test_without_descriptors_it_tries_again_later(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def __init__(self, listener: Any) -> None:
            self.fileno = listener.fileno

        def _accept(self) -> None:
            raise OSError(24, "Too many open files")

    listener = scene.desk._listener
    monkeypatch.setattr(scene.desk, "_listener", Full(listener))
    visitor = connect(scene.settings.spool)
    scene.visitors.append(visitor)
    assert scene.desk.handle(scene.desk.fileno())
    assert not scene.is_listening
    monkeypatch.setattr(scene.desk, "_listener", listener)
    scene.desk.tick()
    assert scene.is_listening
    scene.desk.handle(scene.desk.fileno())
    assert len(scene.poll.known) == 2


def test_other_descriptors_are_none_of_its(scene: Scene) -> None:
    assert not scene.desk.handle(0)
    scene.answer(KEYS[0], 1)


def test_folder_may_have_a_long_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.environ["PATH"])
    folder = tmp_path / ("x" * 120) / 'it\'s $a "name"'
    folder.mkdir(parents=True)
    here = os.getcwd()
    scene = Scene(folder)
    os.write(scene.visit(), partial(KEYS[0], 1))
    scene.hear()
    scene.close()
    assert (len(scene.told), os.getcwd()) == (1, here)


def test_command_is_found_behind_the_folder_of_the_jobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, spool = tmp_path / "folder", tmp_path / "it's the spool"
    spool.mkdir()
    settings = Settings({"folder": str(folder), "spool": str(spool)}, b"{}")
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    Desk(settings)._listener.close()
    assert os.environ["PATH"] == f"{folder}:{spool}/bin:/usr/bin:/bin"
    command = spool / "bin" / COMMAND
    assert stat.S_IMODE(command.stat().st_mode) == 0o700
    done = subprocess.run([command, "--help"], capture_output=True, text=True, check=True, env={})
    assert done.stdout.startswith("usage: dispy-job"), done.stderr


def test_command_is_in_front_of_any_other_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin")
    Desk(Settings({"folder": "/there", "spool": str(tmp_path)}, b"{}"))._listener.close()
    assert os.environ["PATH"] == f"{tmp_path}/bin:/usr/bin"


def test_program_is_told_its_job(settings: Settings) -> None:
    assert program_environment(settings, 7, 2) == {"DISPY_JOB": f"7.2:{settings.spool}"}
