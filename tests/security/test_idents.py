"""Who says the ident of another client, or of another node, gets nothing of what is that one's."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
from typing import Any

import pytest
from attackers import HOST, PATIENCE_S, Authority, Intruder, changed, frame, greeting, header, own_credential

import dispy
from dispy.interfaces import Credential
from dispy.model import AccessRole, Role
from dispy.wire import messages as msg
from dispy.wire.frames import PREFACE
from dispy_transport_ssl.contexts import make_gate
from dispy_transport_ssl.security import ACCEPTED

OBSERVE, SUBMIT, NODE = AccessRole.OBSERVE, AccessRole.SUBMIT, AccessRole.NODE
PROOF, OTHER_PROOF = b"p" * 32, b"q" * 32

numbers = itertools.count(1)


def hello_of(ident: str, proof: bytes) -> msg.Hello:
    return changed(greeting(ident=ident), proof=proof)


def open_work(link: Intruder) -> str:
    """Open a computation; return its id."""
    computation = f"{next(numbers):032x}"
    script = b"#!/bin/sh\n"
    file = msg.FileOffer("job", len(script), 0o755, 0.0, 1)
    link.tell(
        msg.Reconcile([]), msg.OpenComputation(computation, "job", "program", "process", b"job", files=[file])
    )
    link.send(header(len(script), 1), script, frame(msg.StreamEnded(1)))
    link.hear_kind(msg.ComputationReady)
    return computation


def finds_work(link: Intruder, computation: str) -> None:
    link.tell(msg.Reconcile([msg.Belief(computation, [])]))
    (finding,) = link.hear_kind(msg.Reconciled).findings
    assert finding == msg.Finding(computation, "ready", [])


def is_refused(link: Intruder) -> None:
    assert "the ident that it greets with is that of another client" in link.farewell()


@pytest.mark.parametrize("role", [OBSERVE, SUBMIT, AccessRole.ADMIN])
@pytest.mark.parametrize("proof", [PROOF, b""])
def test_another_certificate_takes_over_nothing(
    certified: Any, authority: Authority, role: AccessRole, proof: bytes
) -> None:
    """Even if it says the ident and the proof of the other client."""
    ident = f"{next(numbers):032x}"
    hello = hello_of(ident, PROOF)
    with Intruder(certified.port, authority.credential("mary", SUBMIT), hello) as mary:
        work = open_work(mary)
        with Intruder(
            certified.port, authority.credential("mallory", role), hello_of(ident, proof)
        ) as mallory:
            is_refused(mallory)
        finds_work(mary, work)
        mary.close()
        certified.wait_for(r"client \S+ at \S+ left")
    with Intruder(certified.port, authority.credential("mallory", role), hello_of(ident, proof)) as mallory:
        is_refused(mallory)
    renewed = authority.credential("mary", SUBMIT)
    with Intruder(certified.port, renewed, hello) as mary:
        finds_work(mary, work)
        mary.tell(msg.Goodbye("done", final=True))


def test_certificate_that_may_only_look_takes_over_nothing_of_its_owner(
    certified: Any, authority: Authority
) -> None:
    hello = hello_of(f"{next(numbers):032x}", PROOF)
    with Intruder(certified.port, authority.credential("mary", SUBMIT), hello) as mary:
        work = open_work(mary)
        with Intruder(certified.port, authority.credential("mary", OBSERVE), hello) as watcher:
            assert "is that of another client" in watcher.farewell()
        finds_work(mary, work)


def test_who_has_the_key_too_takes_over_nothing_without_the_proof(victim: Any) -> None:
    ident = f"{next(numbers):032x}"
    with Intruder(victim.port, own_credential(), hello_of(ident, PROOF)) as link:
        work = open_work(link)
        for proof in (OTHER_PROOF, b""):
            with Intruder(victim.port, own_credential(), hello_of(ident, proof)) as thief:
                is_refused(thief)
        finds_work(link, work)
    # Another process that has the proof, such as one that goes on with the work of one that has crashed.
    with Intruder(victim.port, own_credential(), hello_of(ident, PROOF)) as link:
        finds_work(link, work)
        link.tell(msg.Goodbye("done", final=True))
    victim.check()


class RogueNode:
    """Listens with a credential of a node; greets as somebody else when it is told to."""

    def __init__(self, credential: Credential, hello: msg.Hello) -> None:
        self.may_greet = threading.Event()
        self.heard = b""
        self.left = threading.Event()
        self._hello = hello
        self._context = next(iter(make_gate([credential]).choices))
        self._listener = socket.create_server((HOST, 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            sock, _address = self._listener.accept()
            sock.settimeout(PATIENCE_S)
            with self._context.wrap_socket(sock, server_side=True) as stream:
                stream.sendall(ACCEPTED)
                self.may_greet.wait(PATIENCE_S)
                stream.sendall(PREFACE + frame(self._hello))
                while data := stream.recv(65536):
                    self.heard += data
        self.left.set()

    def close(self) -> None:
        """Listen no more."""
        self._listener.close()


def square(number: int) -> int:
    return number * number


@pytest.mark.parametrize("ahead", [0, 1])
def test_rogue_node_does_not_stand_in_for_another(
    victim: Any, capfd: pytest.CaptureFixture[str], ahead: int
) -> None:
    """It has the key, and has been greeted by the other node, whose ident and proof it repeats."""
    with Intruder(victim.port, own_credential(), greeting()) as link:
        told = link.hear_kind(msg.Hello)
    hello = changed(told, epoch=told.epoch + ahead)
    assert hello.role == Role.NODE
    assert hello.proof
    with contextlib.closing(RogueNode(own_credential(NODE), hello)) as rogue:
        with dispy.JobCluster(square, nodes=[victim.address, f"{HOST}:{rogue.port}"]) as cluster:
            assert cluster.submit(7)() == 49
            rogue.may_greet.set()
            assert rogue.left.wait(PATIENCE_S)
            assert cluster.submit(8)() == 64
        assert b"square" not in rogue.heard
        assert b"cannot show that it is that node" in rogue.heard
    assert "dispy: the node at 127.0.0.1 is refused: it greets with the ident of" in capfd.readouterr().err
    victim.check()
