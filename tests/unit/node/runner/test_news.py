"""What a job tells while it runs: the records, and the waiting for answers."""

from __future__ import annotations

import errno
import hashlib
import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dispy_node.runner import news as news_module
from dispy_node.runner.bare import channel
from dispy_node.runner.frames import ANSWER, FILE, KEY, LOGGED, PARTIAL, unpack_news
from dispy_node.runner.news import News, NotSent, place_of, take_answer
from dispy_node.runner.replies import NEWS, SAID, cut_replies


class Desk:
    """A `News` with the runner's end of its channel; the next answers are chosen beforehand."""

    def __init__(self, settings: Any, *answers: bytes) -> None:
        self.ours, self.theirs = channel()
        caller: Any = SimpleNamespace(process=os.getpid(), job=7, attempt=2, dump=pickle.dumps)
        self.answers = list(answers)
        self.caller = caller
        self.news = News(settings, caller, self.send, self.receive, lambda: self.theirs)
        os.write(self.ours, b"x")  # there is always something to read

    def send(self, data: bytes) -> None:
        os.write(self.theirs, data)

    def receive(self, number: int) -> bytes:
        return self.answers.pop(0)

    def heard(self) -> list[tuple[int, bytes]]:
        replies, rest, garbage = cut_replies(os.read(self.ours, 1 << 20), 1 << 16)
        assert (rest, garbage) == (b"", "")
        return replies

    def close(self) -> None:
        os.close(self.ours)
        os.close(self.theirs)


@pytest.fixture
def make_desk(settings: Any) -> Iterator[Callable[..., Desk]]:
    desks: list[Desk] = []

    def make(*answers: bytes) -> Desk:
        desks.append(Desk(settings, *answers))
        return desks[-1]

    yield make
    for desk in desks:
        desk.close()


def test_small_result_travels_in_the_record(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk(b"", b"\1", b"\0")
    assert desk.news.tell_result([1]) is True  # the first answer was for another number
    assert desk.news.tell_result([2]) is False
    told = [(flags, unpack_news(record)) for flags, record in desk.heard()]
    assert told == [
        (NEWS, (7, 2, 1, PARTIAL, "", 0, 0.0, bytes(32), False, pickle.dumps([1]))),
        (NEWS, (7, 2, 2, PARTIAL, "", 0, 0.0, bytes(32), False, pickle.dumps([2]))),
    ]


def test_large_result_travels_in_a_file(make_desk: Callable[..., Desk], tmp_path: Path) -> None:
    desk = make_desk(b"\1")
    value = bytes(5000)
    assert desk.news.tell_result(value)
    ((_, record),) = desk.heard()
    *_, is_path, body = unpack_news(record)
    assert is_path
    assert Path(os.fsdecode(body)).parent == tmp_path
    assert Path(os.fsdecode(body)).read_bytes() == pickle.dumps(value)


def test_file_is_copied_so_that_nobody_changes_it(make_desk: Callable[..., Desk], tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    source = tmp_path / "sub" / "x.dat"
    source.write_bytes(b"content")
    source.chmod(0o640)
    os.utime(source, (1e9, 1e9))
    desk = make_desk(b"\1")
    assert desk.news.tell_file(str(source))
    source.write_bytes(b"later")
    ((_, record),) = desk.heard()
    job, attempt, number, kind, path, mode, modified_at, digest, is_path, body = unpack_news(record)
    assert (job, attempt, number, kind, path) == (7, 2, 1, FILE, "sub/x.dat")
    assert (mode, modified_at, digest, is_path) == (0o640, 1e9, hashlib.sha256(b"content").digest(), True)
    assert Path(os.fsdecode(body)).read_bytes() == b"content"


@pytest.mark.parametrize("later", [b"content and more", b"con", b"CONTENT"])
def test_file_that_changes_while_it_is_read_is_not_sent(
    make_desk: Callable[..., Desk], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, later: bytes
) -> None:
    source = tmp_path / "x"
    source.write_bytes(b"content")
    os.utime(source, (1e9, 1e9))
    desk = make_desk()

    class Reading:
        def __getattr__(self, name: str) -> Any:
            return getattr(os, name)

        def read(self, descriptor: int, most: int) -> bytes:
            source.write_bytes(later)
            return os.read(descriptor, most)

    monkeypatch.setattr(news_module, "os", Reading())
    with pytest.raises(NotSent, match="has changed while it was read: make it complete"):
        desk.news.tell_file(str(source))
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_missing_file_folder_and_pipe_raise_and_leave_nothing(
    make_desk: Callable[..., Desk], tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pipe")
    desk = make_desk()
    with pytest.raises(FileNotFoundError):
        desk.news.tell_file(str(tmp_path / "missing"))
    with pytest.raises(OSError, match="not a regular file"):
        desk.news.tell_file(str(tmp_path / "pipe"))
    with pytest.raises(IsADirectoryError):
        desk.news.tell_file(str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_full_disk_is_told_without_an_error(
    make_desk: Callable[..., Desk], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x").write_bytes(b"content")
    desk = make_desk()

    class FullDisk:
        def __getattr__(self, name: str) -> Any:
            return getattr(os, name)

        def write(self, descriptor: int, data: bytes) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(news_module, "os", FullDisk())
    with pytest.raises(NotSent, match="free disk space"):
        desk.news.tell_file(str(tmp_path / "x"))
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_other_processes_than_the_jobs_own_may_not(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk()
    desk.caller.process += 1
    with pytest.raises(RuntimeError, match="another process"):
        desk.news.tell_result(1)
    with pytest.raises(RuntimeError, match="another process"):
        desk.news.tell_file("x")
    assert not desk.news.say(20, "x")


def test_lines_are_not_answered(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk()
    assert desk.news.say(30, "look")
    assert desk.heard() == [(SAID, KEY.pack(7, 2) + b"\x1elook")]


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("x", "x"),
        ("a/x", "a/x"),
        ("./a/../x", "x"),
        ("../x", "x"),
        ("/etc/hostname", "hostname"),
        ("link/x", "x"),
    ],
)
def test_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, place: str) -> None:
    folder = tmp_path / "folder"
    (folder / "a").mkdir(parents=True)
    (folder / "link").symlink_to(tmp_path)
    monkeypatch.chdir(folder)
    assert place_of(path, str(folder)) == place


@pytest.mark.parametrize("path", ["\udc80", "a/" * 600 + "x"])
def test_names_that_cannot_be_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NotSent, match="is not sent"):
        place_of(path, str(tmp_path))


def test_answers_are_known_by_their_number() -> None:
    body = (5).to_bytes(4, "little") + b"\1"
    assert take_answer(5, ANSWER, body) == b"\1"
    assert take_answer(6, ANSWER, body) == b""
    assert take_answer(5, 0, body) == b""


def test_records_of_logging_are_not_waited_for(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk()
    desk.news.tell_log(b"record")
    desk.news.tell_log(b"another")
    desk.caller.process = -1
    desk.news.tell_log(b"of a process that the job has forked")
    told = [unpack_news(record) for _, record in desk.heard()]
    assert [(one[2], one[3], one[9]) for one in told] == [(1, LOGGED, b"record"), (2, LOGGED, b"another")]


def test_a_finaliser_that_logs_in_the_middle_of_a_write_is_not_heard(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk()
    send = desk.news._send

    def send_and_log(data: bytes) -> None:
        desk.news.tell_log(b"inner")
        send(data)

    desk.news._send = send_and_log
    desk.news.tell_log(b"outer")
    assert [unpack_news(record)[9] for _, record in desk.heard()] == [b"outer"]


def test_a_file_that_is_too_large_is_not_sent(
    make_desk: Callable[..., Desk], settings: Any, tmp_path: Path
) -> None:
    desk = make_desk(b"\1")
    (tmp_path / "result").write_bytes(b"12345678")
    settings.max_file_bytes = 8
    assert desk.news.tell_file(str(tmp_path / "result"))
    settings.max_file_bytes = 7
    with pytest.raises(
        NotSent, match="result' has 8 bytes, more than the 7 of --max-file-size of node there"
    ):
        desk.news.tell_file(str(tmp_path / "result"))
