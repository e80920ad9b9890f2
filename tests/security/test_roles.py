"""Nobody does more than the certificate says: each kind of message is sent by who may not send it."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Any, get_args

import pytest
from attackers import HOST, PATIENCE_S, Authority, Intruder, frame, greeting, handshake, header

import dispy
from dispy.model import AccessRole, Role
from dispy.wire import messages as msg
from dispy.wire.frames import PREFACE
from dispy.wire.rights import NEEDED
from dispy_transport_ssl.contexts import make_gate
from dispy_transport_ssl.security import ACCEPTED

OBSERVE, SUBMIT, NODE = AccessRole.OBSERVE, AccessRole.SUBMIT, AccessRole.NODE
CID = "c" * 32

EXAMPLES: dict[type[msg.Message], msg.Message] = {
    type(message): message
    for message in (
        greeting(),
        msg.Heartbeat(),
        msg.Goodbye("enough"),
        msg.StreamEnded(1),
        msg.StreamCredit(1, 1),
        msg.OpenComputation(CID, "evil", "program", "process", b"/bin/true"),
        msg.ComputationReady(CID),
        msg.ComputationFailed(CID, "x"),
        msg.CloseComputation(CID, True),
        msg.ComputationClosed(CID),
        msg.AssignJobs(CID, [msg.JobAssignment(1, 1, b"")]),
        msg.CancelJobs(CID, [(1, 1)]),
        msg.JobsStarted(CID, [msg.JobStart(1, 1, 1.0)]),
        msg.JobResults(CID, [msg.JobResult(1, 1, 0, 0, "", 1.0, 1.0, b"")]),
        msg.AckResults(CID, [(1, 1)]),
        msg.JobsRejected(CID, [(1, 1)], "x"),
        msg.Reconcile([msg.Belief(CID, [(1, 1)])]),
        msg.Reconciled([msg.Finding(CID, "ready", [])]),
        msg.NodeChanged(1000),
        msg.JobNews(CID, [msg.News(1, 1, 1, 0, b"")]),
        msg.AckNews(CID, [msg.NewsAck(1, 1, 1, True)]),
        msg.SendFile(CID, 1, msg.FileOffer("f", 1, 0o600, 0.0, 1)),
        msg.FileTaken(CID, 1),
        msg.LimitSlots(CID, 1),
        msg.WatchOutput(CID, 1, 1, 1, 1, 0, 100),
        msg.JobOutput(CID, 1, 1, 1, 0, 0, b"text"),
        msg.FilesWanted(CID, ["f"]),
        msg.FilesComing(CID, [msg.FileOffer("f", 1, 0o600, 0.0, 1)]),
        msg.ShareData(CID, 1, 1, 1),
        msg.DropData(CID, [1]),
        msg.RecallJobs(CID, [(1, 1)]),
        msg.DataLost(CID, 1, "x"),
    )
}


def test_examples_are_complete() -> None:
    assert set(EXAMPLES) == set(get_args(msg.Message)) == set(NEEDED)


@pytest.mark.parametrize("kind", [kind for kind in EXAMPLES if NEEDED[kind]], ids=lambda kind: kind.__name__)
def test_observer_may_not_send(certified: Any, authority: Authority, kind: type[msg.Message]) -> None:
    observer = authority.credential("watcher", OBSERVE)
    with Intruder(certified.port, observer, greeting()) as link:
        link.hear_kind(msg.Hello)
        link.tell(EXAMPLES[kind])
        reason = link.farewell()
    expected = f"client sent {kind.__name__}, which "
    assert reason.startswith(expected), reason
    if NEEDED[kind] is SUBMIT:
        assert "needs the role submit; its certificate says observe" in reason
    certified.wait_for(f"{expected}.*")


def test_observer_may_not_send_chunks(certified: Any, authority: Authority) -> None:
    with Intruder(certified.port, authority.credential("watcher", OBSERVE), greeting()) as link:
        link.send(header(3, 1), b"abc")
        assert "sent a chunk, which it may not" in link.farewell()


def test_what_everybody_may_send_gives_no_more(certified: Any, authority: Authority) -> None:
    observer = authority.credential("watcher", OBSERVE)
    with Intruder(certified.port, observer, greeting()) as link:
        link.hear_kind(msg.Hello)
        link.tell(msg.Heartbeat(), msg.StreamEnded(1))
        assert "no message has announced" in link.farewell()
    with Intruder(certified.port, observer, greeting()) as link:
        link.tell(greeting(name="somebody else"))
        assert "greeted a second time" in link.farewell()


def test_submitter_may_not_speak_as_a_node(certified: Any, authority: Authority) -> None:
    mary = authority.credential("mary", AccessRole.ADMIN)
    for kind, needed in NEEDED.items():
        if needed is NODE:
            with Intruder(certified.port, mary, greeting()) as link:
                link.tell(EXAMPLES[kind])
                assert f"client sent {kind.__name__}, which a client never sends" in link.farewell()


def test_greeting_as_a_node_is_refused(certified: Any, authority: Authority) -> None:
    with Intruder(certified.port, authority.credential("mary", SUBMIT)) as link:
        link.send(PREFACE, frame(greeting(Role.NODE)))
        assert "but this node expects a client there" in link.farewell()


def test_certificate_of_a_node_does_not_make_a_client(certified: Any, authority: Authority) -> None:
    """A stolen node cannot give work to the others."""
    refusal = handshake(certified.port, authority.credential("beta", NODE))
    assert "the other side does not accept us" in refusal
    with pytest.raises(ConnectionRefusedError):
        Intruder(certified.port, authority.credential("beta", NODE), greeting())
    certified.wait_for("connection from 127.0.0.1 refused: the other side's certificate 'beta'")


class FalseNode:
    """Greets as a node, with a certificate of a client; keeps what the client says in TLS."""

    def __init__(self, authority: Authority, *roles: AccessRole) -> None:
        self.heard = b""
        self.met = threading.Event()
        self._context = next(iter(make_gate([authority.credential("mallory", *roles)]).choices))
        self._listener = socket.create_server((HOST, 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            sock, _address = self._listener.accept()
            sock.settimeout(PATIENCE_S)
            with self._context.wrap_socket(sock, server_side=True) as stream:
                stream.sendall(ACCEPTED + PREFACE + frame(greeting(Role.NODE, "d" * 32, "mallory")))
                while data := stream.recv(65536):
                    self.heard += data
        self.met.set()

    def close(self) -> None:
        """Listen no more."""
        self._listener.close()


def square(number: int) -> int:
    return number * number


@pytest.mark.parametrize("role", [SUBMIT, AccessRole.ADMIN])
def test_client_certificate_does_not_make_a_node(
    certified: Any, authority: Authority, tmp_path: Any, role: AccessRole
) -> None:
    """A rogue client that listens as a node gets no computation of another client."""
    (tmp_path / "ca.pem").write_bytes(authority.pem())
    (tmp_path / "mary.pem").write_bytes(authority.issue("mary", SUBMIT).to_pem())
    (tmp_path / "mary.pem").chmod(0o600)
    with contextlib.closing(FalseNode(authority, role)) as false:
        nodes = [f"{HOST}:{false.port}", certified.address]
        files = {"certfile": tmp_path / "mary.pem", "cafile": tmp_path / "ca.pem"}
        with dispy.JobCluster(square, nodes=nodes, **files) as cluster:
            assert cluster.submit(7)() == 49
            assert false.met.wait(PATIENCE_S)
    assert false.heard.startswith(b"-")
    assert b"square" not in false.heard
    assert b"DISPY" not in false.heard
