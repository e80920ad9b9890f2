"""The command ``dispy-job``, with a real desk in another thread."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from io import BytesIO, TextIOWrapper
from pathlib import Path

import pytest

from dispy.packing.safe import decode
from dispy_node.runner import desk as desk_module
from dispy_node.runner.bare import open_poll
from dispy_node.runner.desk import Desk
from dispy_node.runner.frames import FILE, KEY, PARTIAL, unpack_news
from dispy_node.runner.jobs import Job
from dispy_node.runner.settings import read_settings
from dispy_node.runner.tell import DONE, INTERRUPTED, REFUSED, WRONG, main

TICK_S = 0.01


class Runner:
    """Answers what the command tells.

    Attributes:
        taken: what the answer is; None: the job ends instead.
        news: what was told, and of files the content.
    """

    def __init__(self, folder: Path) -> None:
        (folder / "spool").mkdir()
        text = json.dumps({"folder": str(folder), "spool": str(folder / "spool"), "inline_bytes": 1000})
        self.settings = read_settings(text.encode())
        self.job = Job(KEY.pack(7, 2), b"")
        self.taken: bool | None = True
        self.news: list[tuple[tuple[object, ...], bytes]] = []
        self.where = f"7.2:{self.settings.spool}"
        self._desk = Desk(self.settings)
        self._poll = open_poll()
        self._desk.open(self._poll, lambda key: self.job if key == self.job.key else None, self._take)
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while not self._ends.is_set():
            for descriptor, _ in self._poll.poll(TICK_S):
                self._desk.handle(descriptor)
            self._desk.tick()

    def _take(self, job: Job, record: bytes) -> None:
        *told, is_path, body = unpack_news(record)
        if is_path:
            body = Path(os.fsdecode(body)).read_bytes()
        self.news.append((tuple(told), body))
        if self.taken is None:
            self._desk.forget(job)
        else:
            self._desk.answer(job, int(told[2]).to_bytes(4, "little") + bytes([self.taken]))  # type: ignore[call-overload]

    def close(self) -> None:
        self._ends.set()
        self._thread.join()
        self._desk._listener.close()


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Runner]:
    monkeypatch.setenv("PATH", os.environ["PATH"])
    runner = Runner(tmp_path)
    monkeypatch.setenv(desk_module.VARIABLE, runner.where)
    monkeypatch.chdir(tmp_path)
    yield runner
    runner.close()


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[object, str]]:
    """Run the command; give its exit status and what it says on standard error."""

    def run(*words: str) -> tuple[object, str]:
        with pytest.raises(SystemExit) as ended:
            main(words)
        return ended.value.code, capsys.readouterr().err

    return run


Tell = Callable[..., tuple[object, str]]


@pytest.mark.parametrize(
    ("word", "value"), [("hälf done", "hälf done"), ("", ""), ("\udcff", b"\xff"), ("z" * 5000, "z" * 5000)]
)
def test_result_is_text_if_it_can_be(runner: Runner, tell: Tell, word: str, value: str | bytes) -> None:
    assert tell("result", word) == (DONE, "")
    ((told, body),) = runner.news
    assert (told[:4], decode(memoryview(body))) == ((7, 2, 1, PARTIAL), value)


def test_result_of_standard_input_is_bytes(
    runner: Runner, tell: Tell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(b"\0\xff text")))
    assert tell("result", "-") == (DONE, "")
    assert decode(memoryview(runner.news[0][1])) == b"\0\xff text"


def test_files_keep_their_place_below_the_folder(
    runner: Runner, tell: Tell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("sub/a", "sub/-b"):
        (tmp_path / name).write_text(name)
    monkeypatch.chdir(tmp_path / "sub")
    assert tell("send-file", "a", "-b") == (DONE, "")
    told = [(news[2], news[3], news[4], body) for news, body in runner.news]
    assert told == [(1, FILE, "sub/a", b"sub/a"), (2, FILE, "sub/-b", b"sub/-b")]


def test_refusals_are_told(runner: Runner, tell: Tell, tmp_path: Path) -> None:
    runner.taken = False
    (tmp_path / "a").write_text("a")
    assert tell("send-file", "a")[0] == REFUSED
    status, said = tell("result", "x")
    assert status == REFUSED
    assert said.startswith("dispy-job: the client has not taken the result")


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("missing", "file 'missing' cannot be sent: No such file"),
        (".", "Is a directory"),
        ("n\udcff", "its name is no text"),
    ],
)
def test_files_that_cannot_be_sent(runner: Runner, tell: Tell, path: str, why: str) -> None:
    Path("n\udcff").touch()
    status, said = tell("send-file", path)
    assert (status, why in said) == (REFUSED, True), said
    assert not runner.news


def test_end_of_the_job_is_told(
    runner: Runner, tell: Tell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner.taken = None
    assert tell("result", "x") == (REFUSED, "dispy-job: the job has ended, or its node\n")
    monkeypatch.setenv(desk_module.VARIABLE, f"8.1:{runner.settings.spool}")
    assert tell("result", "x")[0] == REFUSED
    (tmp_path / "spool" / "desk").unlink()
    assert tell("result", "x")[0] == REFUSED


@pytest.mark.parametrize(
    "words", [(), ("send",), ("send-file",), ("result",), ("result", "two", "words"), ("-h", "x")]
)
def test_wrong_usage(runner: Runner, tell: Tell, words: tuple[str, ...]) -> None:
    status, said = tell(*words)
    assert (status, "usage: dispy-job" in said) == (WRONG, True)


@pytest.mark.parametrize("where", ["", "7:/spool", "x.1:/spool", "7.1:"])
def test_outside_of_a_job_it_says_so(tell: Tell, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    monkeypatch.setenv(desk_module.VARIABLE, where)
    status, said = tell("result", "x")
    assert (status, "DISPY_JOB" in said) == (WRONG, True)


def test_interrupt_is_no_traceback(runner: Runner, tell: Tell, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_self: object) -> bytes:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO()))
    monkeypatch.setattr("dispy_node.runner.tell._value_of", interrupt)
    assert tell("result", "x") == (INTERRUPTED, "")


def test_it_imports_hardly_anything() -> None:
    """Programs may start it for each of many files."""
    code = "import sys; import dispy_node.runner.tell; print(*sys.modules)"
    place = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        env={"PYTHONPATH": place},
        capture_output=True,
        text=True,
        check=True,
    )
    thick = {
        "re",
        "json",
        "pickle",
        "signal",
        "socket",
        "subprocess",
        "typing",
        "dataclasses",
        "trio",
        "site",
    }
    assert not thick & set(done.stdout.split())
