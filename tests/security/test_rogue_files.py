"""A node that names files as it likes: the client writes nothing outside of its working directory."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import dispy
from dispy.model import Outcome, Role
from dispy.runtime.greeting import make_hello
from dispy.runtime.sources import BytesSource
from dispy.wire.messages import (
    FILE,
    AckNews,
    AssignJobs,
    CloseComputation,
    ComputationClosed,
    ComputationReady,
    Finding,
    JobNews,
    JobResult,
    JobResults,
    JobsStarted,
    JobStart,
    News,
    OpenComputation,
    Reconcile,
    Reconciled,
)
from dispy.wire.rights import EVERYTHING
from dispy.wire.session import MessagesReceived, Session

DATA = b"from a rogue"
HOSTILE = [
    "/{out}/x",
    "../x",
    "sub/../../x",
    "link/x",
    "link/deep/x",
    "a\nb",
    "\x00",
    "",
    ".",
    "x" * 300,
    "a\\b",
    "file/x",
    ".bashrc",
    ".git/hooks/pre-commit",
]


class RogueNode:
    """Speaks the protocol without fault, and sends one file for each name while it has a job."""

    def __init__(self, names: list[str], job: int = 0, **fields: Any) -> None:
        self.names, self.job, self.fields = names, job, fields
        self.acks: list[tuple[int, bool]] = []
        self._sock: socket.socket | None = None
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._listener.close()
        if self._sock is not None:
            with contextlib.suppress(OSError):  # the client has closed it
                self._sock.shutdown(socket.SHUT_RDWR)

    def _serve(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self._sock = sock
            with sock:
                self._speak(sock)

    def _speak(self, sock: socket.socket) -> None:
        hello = make_hello(Role.NODE, "f" * 32, name="rogue", cpus=1)
        session = Session(hello, now=0.0, accepts=frozenset({Role.CLIENT}), roles=EVERYTHING)
        while True:
            try:
                while pieces := session.data_to_send():
                    sock.sendall(b"".join(pieces))
                data = sock.recv(65536)
            except OSError:
                return
            if not data:
                return
            for event in session.receive_data(data, time.monotonic()):
                if isinstance(event, MessagesReceived):
                    for message in event.messages:
                        self._answer(session, message)

    def _answer(self, session: Session, message: Any) -> None:
        match message:
            case Reconcile(beliefs):
                session.send(Reconciled([Finding(one.computation, "unknown", []) for one in beliefs]))
            case OpenComputation():
                session.send(ComputationReady(message.computation))
            case CloseComputation(computation):
                session.send(ComputationClosed(computation))
            case AssignJobs(computation, [job]):
                session.send(JobsStarted(computation, [JobStart(job.job, 1, 1.0)]))
                for number, name in enumerate(self.names, 1):
                    told = {"mode": 0o6777, "modified_at": 1.0, "digest": hashlib.sha256(DATA).digest()}
                    told |= self.fields
                    news = News(self.job or job.job, 1, number, FILE, b"", number, len(DATA), name, **told)
                    session.send(JobNews(computation, [news]))
                    session.send_stream(number, BytesSource(DATA), len(DATA))
            case AckNews(computation, acks):
                self.acks += [(ack.number, ack.taken) for ack in acks]
                if len(self.acks) == len(self.names):
                    result = JobResult(1, 1, Outcome.EXITED, 0, "", 1.0, 2.0, b"")
                    session.send(JobResults(computation, [result]))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "around" / "home"
    home.mkdir(parents=True)
    (tmp_path / "out").mkdir()
    (home / "link").symlink_to(tmp_path / "out")
    (home / "file").write_bytes(b"mine")
    monkeypatch.chdir(home)
    return home


def compute() -> None:
    """Never called: the node is a rogue."""


def run(rogue: RogueNode, **options: Any) -> Any:
    try:
        with dispy.JobCluster(compute, nodes=[rogue.address], secret=dispy.OPEN, **options) as cluster:
            job = cluster.submit()
            return job.wait(20)
    finally:
        rogue.close()


def everything(folder: Path) -> Iterator[str]:
    for base, _, names in os.walk(folder):
        for name in names:
            yield os.path.relpath(os.path.join(base, name), folder)


def test_hostile_names_write_nothing(home: Path, tmp_path: Path) -> None:
    names = [name.replace("{out}", str(tmp_path / "out")) for name in HOSTILE]
    before = sorted(everything(tmp_path))
    rogue = RogueNode([*names, "sub/fine"])
    assert run(rogue)
    assert sorted(rogue.acks) == [
        *((number, False) for number in range(1, len(names) + 1)),
        (len(names) + 1, True),
    ]
    assert sorted(everything(tmp_path)) == sorted([*before, "around/home/sub/fine"])
    assert (home / "file").read_bytes() == b"mine"
    assert (home / "sub/fine").read_bytes() == DATA
    assert (home / "sub/fine").stat().st_mode & 0o7777 == 0o755


def test_file_of_a_job_that_the_node_does_not_have_is_refused(tmp_path: Path, home: Path) -> None:
    before = sorted(everything(tmp_path))
    rogue = RogueNode(["x"], job=77)
    assert run(rogue)
    assert rogue.acks == [(1, False)]
    assert sorted(everything(tmp_path)) == before


def test_log_of_the_client_is_not_filled(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    names = [f"../{'x' * 4000}{number}" for number in range(300)]
    rogue = RogueNode(names)
    assert run(rogue)
    assert len(rogue.acks) == len(names)
    told = "".join(capfd.readouterr())
    assert 1 <= told.count("was not taken") <= 40
    assert len(told) < 40_000


def test_client_that_takes_no_pickle_takes_no_file_either(tmp_path: Path, home: Path) -> None:
    """It could replace a module that the client imports next."""
    before = sorted(everything(tmp_path))
    rogue = RogueNode(["numpy.py", "sub/fine"])
    run(rogue, results="safe")
    assert sorted(rogue.acks) == [(1, False), (2, False)]
    assert sorted(everything(tmp_path)) == before


def test_file_at_no_time_is_refused(tmp_path: Path, home: Path) -> None:
    before = sorted(everything(tmp_path))
    rogue = RogueNode(["x"], modified_at=float("nan"))
    assert run(rogue)
    assert rogue.acks == [(1, False)]
    assert sorted(everything(tmp_path)) == before


def test_other_content_than_announced_ends_the_link_and_leaves_nothing(tmp_path: Path, home: Path) -> None:
    before = sorted(everything(tmp_path))
    rogue = RogueNode(["x"], digest=b"none")
    with dispy.JobCluster(compute, nodes=[rogue.address], secret=dispy.OPEN) as cluster:
        cluster.submit().wait(2)
        rogue.close()
        cluster.close(timeout=0, terminate=True)
    assert rogue.acks == []
    assert sorted(everything(tmp_path)) == before
