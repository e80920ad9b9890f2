"""A link between two memory streams, with virtual time."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, lockstep_stream_pair, memory_stream_pair

from dispy.interfaces import Peer
from dispy.model import LinkId, Role
from dispy.runtime import link as link_module
from dispy.runtime.greeting import make_hello
from dispy.runtime.link import Link
from dispy.runtime.sources import BytesSource
from dispy.wire.messages import (
    AckResults,
    AssignJobs,
    JobAssignment,
    JobResult,
    JobResults,
    JobsRejected,
    NodeChanged,
)
from dispy.wire.owing import OWED_HIGH, OWED_MAX
from dispy.wire.rights import EVERYTHING
from dispy.wire.session import (
    ChunkReceived,
    Greeted,
    MessagesReceived,
    PeerLeft,
    Session,
    SessionEvent,
    StreamFinished,
)

HERE = Peer(host="127.0.0.1", is_local=True)


class End:
    """One end: a link, what it heard, and why it ended."""

    def __init__(self, number: int, role: Role, peer: Role, stream: trio.abc.Stream) -> None:
        hello = make_hello(role, f"{number:032x}", name=role.value)
        session = Session(hello, now=trio.current_time(), accepts=frozenset({peer}), roles=EVERYTHING)
        self.link = Link(LinkId(number), stream, HERE, session)
        self.heard: list[SessionEvent] = []
        self.reason = ""
        self.ended = trio.Event()

    def take(self, link: Link, events: Sequence[SessionEvent]) -> None:
        for event in events:
            self.heard.append(event)
            if isinstance(event, ChunkReceived):
                link.consumed(event.stream, len(event.data))

    async def run(self) -> None:
        self.reason = await self.link.run(self.take)
        self.ended.set()

    def messages(self) -> list[object]:
        return [one for event in self.heard if isinstance(event, MessagesReceived) for one in event.messages]


def make_ends() -> tuple[End, End]:
    left, right = memory_stream_pair()
    return End(1, Role.CLIENT, Role.NODE, left), End(2, Role.NODE, Role.CLIENT, right)


def run(test: object, *args: object) -> None:
    trio.run(test, *args, clock=MockClock(autojump_threshold=0), strict_exception_groups=True)  # type: ignore[arg-type]


def test_messages_and_streams_arrive_in_order() -> None:
    async def main() -> None:
        client, node = make_ends()
        data = bytes(range(256)) * 40_000
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.run)
            nursery.start_soon(node.run)
            await trio.testing.wait_all_tasks_blocked()
            node.link.send(NodeChanged(1))
            node.link.send_stream(1, BytesSource(data), len(data))
            node.link.send(NodeChanged(2))
            await trio.sleep(1)
            nursery.cancel_scope.cancel()
        assert isinstance(client.heard[0], Greeted)
        assert client.messages() == [NodeChanged(1), NodeChanged(2)]
        chunks = [bytes(event.data) for event in client.heard if isinstance(event, ChunkReceived)]
        assert b"".join(chunks) == data
        assert StreamFinished(1, "") in client.heard

    run(main)


def test_close_soon_sends_what_is_queued_then_the_reason() -> None:
    async def main() -> None:
        client, node = make_ends()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.run)
            nursery.start_soon(node.run)
            await trio.testing.wait_all_tasks_blocked()
            node.link.send(NodeChanged(7))
            node.link.close_soon("enough", final=True)
            node.link.send(NodeChanged(8))  # dropped, as on a broken link
        assert client.messages() == [NodeChanged(7)]
        assert client.heard[-1] == PeerLeft("enough", True)
        assert client.link.final
        assert client.reason == node.reason == "enough"

    run(main)


def test_cancelled_link_says_that_its_side_has_ended() -> None:
    async def main() -> None:
        client, node = make_ends()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(node.run)
            async with trio.open_nursery() as inner:
                inner.start_soon(client.run)
                await trio.testing.wait_all_tasks_blocked()
                inner.cancel_scope.cancel()
            await node.ended.wait()
        assert node.link.final
        assert "ended" in node.reason

    run(main)


def test_foreign_bytes_end_the_link_with_a_reason_on_both_sides() -> None:
    async def main() -> None:
        ours, theirs = memory_stream_pair()
        node = End(2, Role.NODE, Role.CLIENT, ours)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(node.run)
            await theirs.send_all(b"GET / HTTP/1.1\r\nHost: somebody\r\n\r\n")
            await node.ended.wait()
        assert "HTTP" in node.reason
        assert not node.heard

    run(main)


def test_silent_peer_is_lost_after_three_heartbeats() -> None:
    async def main() -> None:
        client, node = make_ends()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.run)
            async with trio.open_nursery() as inner:
                inner.start_soon(node.run)
                await trio.testing.wait_all_tasks_blocked()
                # The node stops without a word: a host that loses power.
                node.link._take_leave = trio.lowlevel.checkpoint  # type: ignore[method-assign]
                node.link._stream.aclose = trio.lowlevel.checkpoint  # type: ignore[method-assign]
                inner.cancel_scope.cancel()
            began = trio.current_time()
            with trio.fail_after(60):
                await client.ended.wait()
        assert trio.current_time() - began < 60
        assert client.reason

    run(main)


def test_idle_link_stays_up() -> None:
    async def main() -> None:
        client, node = make_ends()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.run)
            nursery.start_soon(node.run)
            await trio.sleep(600)
            assert not client.ended.is_set()
            assert not node.ended.is_set()
            nursery.cancel_scope.cancel()

    run(main)


def test_stream_on_a_closing_link_closes_its_source() -> None:
    async def main() -> None:
        client, _node = make_ends()
        source = BytesSource(b"abc")
        client.link.close_soon("over")
        client.link.send_stream(1, source, 3)
        with pytest.raises(ValueError, match="released"):
            source.read(1)
        client.link.session.close()

    run(main)


def test_what_is_sent_while_the_stream_is_being_closed_is_dropped() -> None:
    """Others run while a link ends; what they send then is lost, as on a broken link, and no error."""

    async def main() -> None:
        client, node = make_ends()
        source = BytesSource(b"abc")
        close = node.link._stream.aclose

        async def aclose() -> None:
            node.link.send(NodeChanged(8))
            node.link.send_stream(1, source, 3)
            node.link.consumed(1, 1)
            node.link.close_soon("twice")
            await close()

        node.link._stream.aclose = aclose  # type: ignore[method-assign]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.run)
            nursery.start_soon(node.run)
            await trio.testing.wait_all_tasks_blocked()
            client.link.close_soon("enough", final=True)
        assert node.reason == "enough"
        with pytest.raises(ValueError, match="released"):
            source.read(1)

    run(main)


def test_bug_of_the_handler_is_told_to_both_sides_and_the_peer_may_come_back() -> None:
    async def main() -> None:
        client, node = make_ends()

        def fails(link: Link, events: Sequence[SessionEvent]) -> None:
            raise RuntimeError("a bug")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.run)
            with pytest.raises(ExceptionGroup) as caught:
                await node.link.run(fails)
            await client.ended.wait()
        assert caught.group_contains(RuntimeError, match="a bug")
        assert client.reason == "internal error on the other side"
        assert not client.link.final

    run(main)


def test_link_can_be_closed_while_a_write_hangs() -> None:
    async def main() -> None:
        client, node = make_ends()

        async def never(data: bytes) -> None:
            await trio.sleep_forever()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.run)
            nursery.start_soon(node.run)
            await trio.testing.wait_all_tasks_blocked()
            node.link._stream.send_all = never  # type: ignore[method-assign]
            node.link.send(NodeChanged(1))
            await trio.testing.wait_all_tasks_blocked()
            began = trio.current_time()
            node.link.close_soon("enough")
            await node.ended.wait()
            assert trio.current_time() - began < 5
            nursery.cancel_scope.cancel()

    run(main)


class Answerer(End):
    """An end that answers each list of jobs or results with a list of keys, and notes how much it owes at most."""

    most_owed = 0

    def take(self, link: Link, events: Sequence[SessionEvent]) -> None:
        super().take(link, events)
        for event in events:
            for message in event.messages if isinstance(event, MessagesReceived) else ():
                if isinstance(message, JobResults):
                    link.send(AckResults("c", [(one.job, one.attempt) for one in message.results]))
                elif isinstance(message, AssignJobs):
                    link.send(JobsRejected("c", [(one.job, one.attempt) for one in message.jobs], "no"))
        self.most_owed = max(self.most_owed, link.session.owed_bytes)


def jobs(count: int) -> AssignJobs:
    return AssignJobs("c", [JobAssignment(number, 1, b"") for number in range(1, count + 1)])


def results(count: int) -> JobResults:
    return JobResults("c", [JobResult(number, 1, 0, 0, "", 1.0, 2.0, b"") for number in range(1, count + 1)])


async def exchange(to_node: list[int], to_client: list[int], stream_bytes: int) -> None:
    """Let both ends send much at once over a connection that holds nothing back; return when all is answered."""
    left, right = lockstep_stream_pair()
    client = Answerer(1, Role.CLIENT, Role.NODE, left)
    node = Answerer(2, Role.NODE, Role.CLIENT, right)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.run)
        nursery.start_soon(node.run)
        await trio.testing.wait_all_tasks_blocked()
        for count in to_node:
            client.link.send(jobs(count))
        for count in to_client:
            node.link.send(results(count))
        node.link.send_stream(1, BytesSource(bytes(stream_bytes)), stream_bytes)
        client.link.send_stream(1, BytesSource(bytes(stream_bytes)), stream_bytes)
        with trio.fail_after(10_000):  # of virtual time
            while True:
                acked = sum(len(one.attempts) for one in node.messages() if isinstance(one, AckResults))
                refused = sum(len(one.attempts) for one in client.messages() if isinstance(one, JobsRejected))
                ended = all(StreamFinished(1, "") in end.heard for end in (client, node))
                if (acked, refused, ended) == (sum(to_client), sum(to_node), True):
                    break
                assert (client.reason, node.reason) == ("", "")
                await trio.sleep(0.1)
        nursery.cancel_scope.cancel()


COUNTS = st.lists(st.integers(1, 40), max_size=12)


@settings(deadline=None)
@given(COUNTS, COUNTS, st.integers(0, 100_000), st.integers(64, 4096), st.integers(300, 6000))
def test_two_honest_peers_that_both_send_much_never_stop_each_other(
    to_node: list[int], to_client: list[int], stream_bytes: int, read_bytes: int, high: int
) -> None:
    """The worst case: nothing is buffered between them, and both owe each other far more than they should."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(link_module, "READ_BYTES", read_bytes)
        patch.setattr(link_module, "OWED_HIGH", high)
        patch.setattr(link_module, "OWED_LOW", high // 2)
        run(exchange, to_node, to_client, stream_bytes)


def test_both_wait_and_both_go_on() -> None:
    """As above, with volumes for which either end is sure to wait for the other."""
    waits = set()
    wait = Link._let_peer_read

    async def counted(link: Link) -> None:
        waits.add(link.session.hello.role)
        await wait(link)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(link_module, "READ_BYTES", 1000)
        patch.setattr(link_module, "OWED_HIGH", 2000)
        patch.setattr(link_module, "OWED_LOW", 1000)
        patch.setattr(Link, "_let_peer_read", counted)
        run(exchange, [20] * 100, [20] * 100, 10_000)
    assert waits == {Role.CLIENT, Role.NODE}


def test_peer_that_sends_and_does_not_read_costs_a_bounded_amount() -> None:
    """Its link ends; what is owed to it stays bounded until then, and it may send as fast as it likes."""

    async def main() -> None:
        left, right = lockstep_stream_pair()
        rogue = End(1, Role.CLIENT, Role.NODE, left)
        node = Answerer(2, Role.NODE, Role.CLIENT, right)
        session = rogue.link.session
        sent = 0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(node.run)
            await left.send_all(b"".join(session.data_to_send()))
            session.receive_data(await left.receive_some(100_000), 0.0)
            with trio.fail_after(600), pytest.raises(trio.BrokenResourceError):
                while True:
                    session.send(jobs(20_000))
                    await left.send_all(b"".join(session.data_to_send()))
                    sent += 1
            await node.ended.wait()
        assert "does not read the answers" in node.reason
        a_frame = 20_000 * 128
        assert OWED_HIGH < node.most_owed < OWED_MAX + 10 * a_frame
        assert sent > 5

    run(main)
