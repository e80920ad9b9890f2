"""A rogue node with a valid key: what it sends as a result runs nothing in a client with ``results="safe"``."""

from __future__ import annotations

import contextlib
import os
import pickle
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
from attackers import HOST, PATIENCE_S, frame, greeting, own_credential

import dispy
from dispy.errors import JobBroken, JobRaised
from dispy.model import AccessRole, Outcome, Role
from dispy.packing.results import ResultBody
from dispy.wire import messages as msg
from dispy.wire.frames import CONTROL, PREFACE, FrameDecoder, decode_batch
from dispy_transport_ssl.contexts import make_gate
from dispy_transport_ssl.security import ACCEPTED


class RunsCode:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


class RogueNode:
    """A node with the key that says the same of each job."""

    def __init__(self, outcome: Outcome, body: bytes) -> None:
        self._outcome, self._body = outcome, body
        hello = greeting(Role.NODE, "e" * 32, "rogue")
        self._hello = msg.Hello(
            **{name: getattr(hello, name) for name in hello.__struct_fields__} | {"cpus": 2}
        )
        gate = make_gate([own_credential(AccessRole.NODE)])
        self._context = gate.context
        self._gate = gate  # its contexts live as long as this
        self._listener = socket.create_server((HOST, 0))
        self.address = f"{HOST}:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            sock, _address = self._listener.accept()
            sock.settimeout(PATIENCE_S)
            with self._context.wrap_socket(sock, server_side=True) as stream:
                stream.sendall(ACCEPTED)
                stream.recv(1)
                stream.sendall(PREFACE + frame(self._hello))
                decoder = FrameDecoder()
                while data := stream.recv(65536):
                    for channel, payload in decoder.feed(data):
                        for message in decode_batch(payload) if channel == CONTROL else ():
                            self._answer(stream, message)

    def _answer(self, stream: Any, message: msg.Message) -> None:
        match message:
            case msg.Reconcile(beliefs):
                findings = [msg.Finding(one.computation, "unknown", []) for one in beliefs]
                stream.sendall(frame(msg.Reconciled(findings)))
            case msg.OpenComputation():
                stream.sendall(frame(msg.ComputationReady(message.computation)))
            case msg.AssignJobs(computation, jobs):
                results = [
                    msg.JobResult(job.job, job.attempt, self._outcome, 0, "", 1.0, 2.0, self._body)
                    for job in jobs
                ]
                stream.sendall(frame(msg.JobResults(computation, results)))
            case msg.CloseComputation():
                stream.sendall(frame(msg.ComputationClosed(message.computation)))

    def close(self) -> None:
        """Listen no more."""
        self._thread.join(PATIENCE_S)
        self._listener.close()


def square(number: int) -> int:
    return number * number


@pytest.mark.parametrize("outcome", [Outcome.RETURNED, Outcome.RAISED])
@pytest.mark.parametrize("results", ["safe", "any"])
def test_pickle_of_a_rogue_node(tmp_path: Path, results: str, outcome: Outcome) -> None:
    """The same is done to a client that takes pickle, to see that the attack is one."""
    trap = tmp_path / "trap"
    body = ResultBody(value=pickle.dumps(RunsCode(trap)), error=b"traceback").pack()
    with (
        contextlib.closing(RogueNode(outcome, body)) as rogue,
        dispy.JobCluster(square, nodes=[rogue.address], results=results) as cluster,
    ):
        job = cluster.submit(7)
        assert job.wait(PATIENCE_S)
        answer, error = job(), job.error
    assert trap.exists() is (results == "any")
    if results == "safe":
        assert answer is None
        assert isinstance(error, JobBroken | JobRaised)
        assert "results='safe' takes nothing else" in str(error)
