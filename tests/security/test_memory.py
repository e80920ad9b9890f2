"""Memory has ceilings after authentication, too: what peers with a valid key can make a client and a node hold."""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from attackers import Intruder, cost_of, greeting, own_credential
from rogue_nodes import Tell, TellingNode, Zeros
from trio.testing import MockClock, memory_stream_pair, wait_all_tasks_blocked

from dispy.interfaces import Identity, Peer
from dispy.model import Outcome, Role
from dispy.runtime import door as door_module
from dispy.runtime.door import Door
from dispy.wire import messages as msg
from dispy.wire.frames import encode_batch
from dispy.wire.rights import EVERYTHING
from dispy.wire.session import PeerLeft, Session
from dispy_node.avail import choose_memory
from dispy_node.daemon import NodeDaemon, NodeIdentity
from dispy_node.storage import StateFolder

log = logging.getLogger("test.memory")
TellFigure = Callable[[str], None]
MIB = 1024 * 1024
MEMORY = 64 * MIB
"""What the client lets nodes fill; one of them half of it."""
CID = "c" * 32

CLIENT = """\
import json, sys, time
import dispy

def compute():
    pass

def status(name):
    for line in open("/proc/self/status"):
        if line.startswith(name):
            return int(line.split()[1]) // 1024

dispy.config.ResultMemory = int(sys.argv[2])
with dispy.JobCluster(compute, nodes=[sys.argv[1]], secret=dispy.OPEN) as cluster:
    before = status("VmRSS")
    jobs = [cluster.submit() for _ in range(int(sys.argv[3]))]
    done = [job.wait(40) for job in jobs]
    told = [(job.status.name, str(job.error or "")) for job in jobs]
    print(json.dumps({"mib": status("VmHWM") - before, "told": told, "done": done}), flush=True)
    cluster.close(timeout=0, terminate=True)
"""


@pytest.fixture
def run_client(tmp_path: Path, tell_figure: TellFigure) -> Callable[..., Any]:
    """Run a client against a rogue; return by how many MiB it grew at worst, and what became of its jobs."""

    def run(tell: Tell, jobs: int = 1) -> Any:
        script = tmp_path / "client.py"
        script.write_text(CLIENT)
        with TellingNode(tell, cpus=jobs) as rogue:
            command = [sys.executable, str(script), rogue.address, str(MEMORY), str(jobs)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.stdout, done.stderr[-2000:]
        found = json.loads(done.stdout.splitlines()[-1])
        tell_figure(f"{tell.__name__}: the client grows by {found['mib']} MiB")
        return found

    return run


def finish(session: Session, message: msg.AssignJobs) -> None:
    for job in message.jobs:
        result = msg.JobResult(job.job, job.attempt, Outcome.EXITED, 0, "", 1.0, 2.0, b"")
        session.send(msg.JobResults(message.computation, [result]))


def tell_large_results(session: Session, sock: socket.socket, message: Any) -> None:
    if isinstance(message, msg.AssignJobs):
        for stream, job in enumerate(message.jobs, getattr(session, "next_stream", 1)):
            session.next_stream = stream + 1  # type: ignore[attr-defined]
            result = msg.JobResult(job.job, job.attempt, 0, 0, "", 1.0, 2.0, b"", stream, 8 * MIB)
            session.send(msg.JobResults(message.computation, [result]))
            session.send_stream(stream, Zeros(), 8 * MIB)


def test_results_fill_what_they_may_and_no_more(run_client: Any) -> None:
    found = run_client(tell_large_results, 24)
    assert found["mib"] < 32 + 40
    refused = [error for _, error in found["told"] if "was not taken" in error]
    assert len(refused) >= 24 - 4
    assert "dispy.config.ResultMemory" in refused[0]


def tell_results_of_jobs_of_others(session: Session, sock: socket.socket, message: Any) -> None:
    if isinstance(message, msg.AssignJobs):
        for number in range(1, 41):
            result = msg.JobResult(number + 1000, 1, 0, 0, "", 1.0, 2.0, b"", number, 6 * MIB)
            session.send(msg.JobResults(message.computation, [result]))
            session.send_stream(number, Zeros(), 6 * MIB)
        finish(session, message)


def test_results_of_jobs_that_the_node_cannot_have_are_not_kept(run_client: Any) -> None:
    found = run_client(tell_results_of_jobs_of_others)
    assert found["mib"] < 40


def tell_news_without_end(session: Session, sock: socket.socket, message: Any) -> None:
    if isinstance(message, msg.AssignJobs):
        (job,) = message.jobs
        session.send(msg.JobsStarted(message.computation, [msg.JobStart(job.job, job.attempt, 1.0)]))
        for number in range(1, 3000):
            news = msg.News(job.job, job.attempt, number, msg.PARTIAL, bytes(64 * 1024))
            session.send(msg.JobNews(message.computation, [news]))
        finish(session, message)


def test_intermediate_results_that_nobody_takes_are_bounded(run_client: Any) -> None:
    found = run_client(tell_news_without_end)
    assert found["mib"] < 32 + 40
    assert found["told"][0][0] == "FINISHED"


def test_node_that_does_not_read_its_acknowledgements_loses_its_link(
    tmp_path: Path, tell_figure: TellFigure
) -> None:
    """It sends results of jobs of others; each is acknowledged, and not one acknowledgement is read."""
    broken_off = threading.Event()
    results = [msg.JobResult(number, 9, 0, 0, "", 0.0, 0.0, b"") for number in range(1, 20_000)]

    def tell(session: Session, sock: socket.socket, message: Any) -> None:
        if isinstance(message, msg.AssignJobs):
            frames = b"".join(encode_batch([msg.JobResults(message.computation, results)]))
            try:
                for _ in range(300):
                    sock.sendall(frames)
            except OSError:
                broken_off.set()

    (tmp_path / "client.py").write_text(CLIENT)
    with TellingNode(tell) as rogue:
        command = [sys.executable, str(tmp_path / "client.py"), rogue.address, str(MEMORY), "1"]
        with subprocess.Popen(command) as client:
            try:
                with cost_of(client.pid) as cost:
                    assert broken_off.wait(30)
            finally:
                client.kill()
    tell_figure(
        f"a node that does not read: the client grows by {cost.kib / 1024:.0f} MiB, with all its modules"
    )
    assert cost.kib < 128 * 1024


def fill(link: Intruder, total: int) -> None:
    """Assign jobs with large arguments, as many as are wanted."""
    numbers = itertools.count(1)
    body = bytes(60_000)
    for _ in range(total // (60 * len(body)) + 1):
        jobs = [msg.JobAssignment(next(numbers), 1, body) for _ in range(60)]
        link.tell(msg.AssignJobs(CID, jobs))


def test_jobs_that_cannot_start_fill_a_share(victim: Any, tell_figure: TellFigure) -> None:
    """They wait for a file of their computation, which never comes."""
    share = choose_memory() // 2
    with cost_of(victim.process.pid) as cost, Intruder(victim.port, own_credential(), greeting()) as link:
        link.hear_kind(msg.Hello)
        file = msg.FileOffer("file", 10, 0o644, 1.0, 1)
        link.tell(msg.OpenComputation(CID, "evil", "function", "process", b"x", files=[file]))
        fill(link, share + share // 8)
        rejected = link.hear_kind(msg.JobsRejected, 60)
        assert "holds as much for this client as it may" in rejected.reason
        cost.look()
    tell_figure(
        f"jobs that cannot start: the node grows by {cost.kib / 1024:.0f} MiB, the share is {share // MIB} MiB"
    )
    assert cost.kib * 1024 < share * 1.2 + 64 * MIB
    victim.check()


def test_client_that_does_not_read_its_answers_loses_its_link(victim: Any, tell_figure: TellFigure) -> None:
    """It assigns jobs of a computation that is not there; each of them is rejected."""
    jobs = [msg.JobAssignment(number, 1, b"") for number in range(1, 100_000)]
    data = b"".join(encode_batch([msg.AssignJobs(CID, jobs)]))
    with cost_of(victim.process.pid) as cost, Intruder(victim.port, own_credential(), greeting()) as link:
        link.socket.settimeout(30)
        began = time.monotonic()
        with contextlib.suppress(OSError):  # reset, or nobody reads any more
            for _ in range(300):
                link.socket.sendall(data)
        took_s = time.monotonic() - began
        cost.look()
    victim.wait_for("does not read the answers")
    tell_figure(f"a client that does not read: the node grows by {cost.kib / 1024:.0f} MiB in {took_s:.1f} s")
    assert cost.kib < 256 * 1024
    victim.check()


def test_clients_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One key or certificate cannot take up all the room, and all together cannot take more than there is."""
    monkeypatch.setattr(door_module, "ADMITTED_MAX", 5)
    monkeypatch.setattr(door_module, "ADMITTED_EACH", 3)
    reasons: list[str] = []

    async def main() -> None:
        state = StateFolder(tmp_path / "state")
        daemon, door = NodeDaemon(NodeIdentity("victim", cpus=1), state, lambda name: None), Door(log)  # type: ignore[arg-type,return-value]

        async def serve(stream: trio.abc.Stream, peer: Peer) -> None:
            await door.receive(lambda visit: daemon.serve_link(stream, peer, visit=visit, door=door))  # type: ignore[arg-type,return-value]

        async def connect(nursery: trio.Nursery, number: int, who: str) -> trio.abc.Stream:
            ours, theirs = memory_stream_pair()
            leaf = f"{who} (certificate {number})"  # made afresh by whoever has the key
            peer = Peer("10.0.0.9", is_local=False, identity=Identity(leaf, EVERYTHING, account=who))
            nursery.start_soon(serve, theirs, peer)
            hello = greeting(ident=f"{number:032x}")
            session = Session(hello, now=0.0, accepts=frozenset({Role.NODE}), roles=EVERYTHING)
            await ours.send_all(b"".join(session.data_to_send()))
            await wait_all_tasks_blocked()
            for event in session.receive_data(await ours.receive_some(1 << 20), 0.0):
                if isinstance(event, PeerLeft):
                    reasons.append(f"{who}: {event.reason}")
            return ours

        async with trio.open_nursery() as nursery:
            await nursery.start(daemon.run)
            first = [await connect(nursery, number, "mary") for number in range(4)]
            assert len(daemon.engine.clients) == 3
            assert reasons == [
                "mary: 3 clients with mary are connected, and no more are taken: close some of them"
            ]
            for number in range(4, 7):
                await connect(nursery, number, "bob")
            assert reasons[1:] == ["bob: 5 clients are connected, and no more are taken: close some of them"]
            await first[0].aclose()
            await wait_all_tasks_blocked()
            await connect(nursery, 9, "bob")
            assert len(reasons) == 2
            nursery.cancel_scope.cancel()
        state.close()

    trio.run(main, clock=MockClock(autojump_threshold=0.05))
