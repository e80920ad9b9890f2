"""A session by scripts, and two of them over a fake link."""

from __future__ import annotations

import io
import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from dispy.errors import LocalProtocolError, RemoteProtocolError
from dispy.model import CHUNK_BYTES, MAX_FRAME_BYTES, AccessRole, Role
from dispy.wire import streams as streams_module
from dispy.wire.frames import CONTROL, HEADER, PREFACE, FrameDecoder, decode_batch, encode_batch
from dispy.wire.messages import (
    AckResults,
    AssignJobs,
    CloseComputation,
    ComputationReady,
    Goodbye,
    Heartbeat,
    Hello,
    JobAssignment,
    JobResult,
    JobResults,
    StreamCredit,
    StreamEnded,
)
from dispy.wire.rights import EVERYTHING, NEEDED, allowed_messages
from dispy.wire.session import (
    HANDSHAKE_S,
    TRANSITIONS,
    VIOLATIONS,
    WRITE_BYTES,
    ChunkReceived,
    Greeted,
    Input,
    MessagesReceived,
    PeerLeft,
    PeerSilent,
    Session,
    State,
    StreamFinished,
)
from dispy.wire.streams import WINDOW_BYTES
from dispy.wire.words import clean_greeting, clean_reason
from dispy_testing.strategies import MESSAGE_TYPES, chunkings, hellos, messages, mutations

INTERNAL = (Hello, Heartbeat, Goodbye, StreamEnded, StreamCredit)
PLAIN_OF = {
    role: messages(*(allowed_messages(role, EVERYTHING) - set(INTERNAL))) for role in (Role.CLIENT, Role.NODE)
}
"""Messages that each kind of participant may send."""
BEAT_S = 2.0


def hello(role, **changes):
    fields = {"protocol_min": 1, "protocol_max": 1, "name": f"{role}-1", "version": "1.0"}
    fields |= {"max_frame_bytes": MAX_FRAME_BYTES, "heartbeat_s": BEAT_S}
    return Hello(role=role, ident="ab" * 16, epoch=1, python="3.11.2", platform="linux", **fields | changes)


def client(now=0.0, **changes):
    return Session(hello("client", **changes), now=now, accepts=frozenset({Role.NODE}), roles=EVERYTHING)


def node(now=0.0, **changes):
    return Session(hello("node", **changes), now=now, accepts=frozenset({Role.CLIENT}), roles=EVERYTHING)


def written(session, limit=WRITE_BYTES):
    return b"".join(session.data_to_send(limit))


def opened(now=0.0, **changes):
    """Return a client, changed as told, and a node that have greeted."""
    one, other = client(now, **changes), node(now)
    other.receive_data(written(one), now)
    one.receive_data(written(other), now)
    return one, other


def batch(*items):
    return b"".join(encode_batch(items))


def chunk(stream, data):
    return HEADER.pack(len(data), stream) + data


def contents(data):
    """Return what stands in the frames of *data*: lists of messages, and (stream, chunk)."""
    decoder = FrameDecoder()
    decoder.feed(PREFACE + chunk(CONTROL, b"-"))
    found = [
        decode_batch(payload) if channel == CONTROL else (channel, payload)
        for channel, payload in decoder.feed(data)
    ]
    assert decoder.is_between_frames
    return found


class Source:
    """A stream's bytes, which tell how often they were closed."""

    def __init__(self, data=b"", error=None):
        self.data = io.BytesIO(data)
        self.error = error
        self.closed = 0

    def read(self, size):
        if self.error is not None:
            raise self.error
        return self.data.read(size)

    def close(self):
        self.closed += 1


class TestTable:
    def test_has_an_entry_for_every_pair(self):
        assert set(TRANSITIONS) == set(State)
        assert all(set(row) == set(Input) for row in TRANSITIONS.values())

    def test_violations_part(self):
        assert {TRANSITIONS[state][what] for state, what in VIOLATIONS} == {State.PARTED}

    def test_the_end_is_the_end(self):
        assert set(TRANSITIONS[State.CLOSED].values()) == {State.CLOSED}
        assert set(TRANSITIONS[State.LEAVING].values()) == {State.LEAVING, State.CLOSED}
        assert all(row[Input.CLOSE] is State.CLOSED for row in TRANSITIONS.values())


class TestGreeting:
    def test_preface_and_hello_go_out_at_once_and_alone(self):
        session = client()
        session.send(ComputationReady("c"))
        session.send_stream(1, Source(b"x"), 1)
        assert session.has_data
        assert written(session) == PREFACE + batch(hello("client"))
        assert not session.has_data
        assert session.data_to_send() == []

    def test_what_was_queued_follows_when_the_peer_has_greeted(self):
        session = client()
        session.send(ComputationReady("c"))
        session.send_stream(1, Source(b"x"), 1)
        greeting = hello("node")
        assert session.receive_data(PREFACE + batch(greeting), 1.0) == [Greeted(greeting)]
        assert (session.state, session.peer, session.protocol) == (State.OPEN, greeting, 1)
        out = written(session)
        opening = PREFACE + batch(hello("client"))
        assert out.startswith(opening)
        assert contents(out[len(opening) :]) == [[ComputationReady("c")], (1, b"x"), [StreamEnded(1)]]

    def test_messages_may_follow_the_hello_at_once(self):
        session = client()
        data = PREFACE + batch(hello("node")) + batch(ComputationReady("c")) + chunk(1, b"x")
        assert session.receive_data(data, 1.0) == [
            Greeted(hello("node")),
            MessagesReceived([ComputationReady("c")]),
            ChunkReceived(1, b"x"),
        ]

    @pytest.mark.parametrize(
        ("first", "reason"),
        [
            (batch(ComputationReady("c")), "peer did not begin with a greeting alone"),
            (batch(hello("node"), ComputationReady("c")), "peer did not begin with a greeting alone"),
            (batch(Goodbye("no")), "peer did not begin with a greeting alone"),
            (chunk(1, b"x"), "peer sent a chunk before its greeting"),
            (batch(hello("client")), "expects a node there"),
            (batch(hello("node", heartbeat_s=0.0)), "has a heartbeat of 0 s"),
            (batch(hello("node", protocol_min=2, protocol_max=3)), "upgrade dispy of this client"),
            (chunk(CONTROL, b"\xc1"), "cannot be read"),
        ],
    )
    def test_anything_else_first_is_refused(self, first, reason):
        session = client()
        with pytest.raises(RemoteProtocolError, match=reason):
            session.receive_data(PREFACE + first, 1.0)
        assert session.state is State.PARTED
        assert session.peer is None

    def test_foreign_bytes_are_refused(self):
        with pytest.raises(RemoteProtocolError, match="looks like HTTP"):
            client().receive_data(b"GET / HTTP/1.1\r\n\r\n", 1.0)

    def test_a_second_greeting_is_refused(self):
        one, _ = opened()
        with pytest.raises(RemoteProtocolError, match="peer greeted a second time"):
            one.receive_data(batch(hello("node")), 1.0)
        assert one.state is State.PARTED

    def test_a_peer_that_does_not_greet_is_silent(self):
        session = client(now=100.0)
        assert session.next_deadline() == 100.0 + HANDSHAKE_S
        session.receive_data(PREFACE, 104.0)
        assert session.on_time(104.9) == []
        (event,) = session.on_time(105.0)
        assert isinstance(event, PeerSilent)
        assert "did not greet within 5 s" in event.reason
        assert (session.state, session.next_deadline()) == (State.PARTED, math.inf)

    def test_our_own_greeting_must_be_right(self):
        with pytest.raises(LocalProtocolError, match="our own greeting has a heartbeat of 0 s"):
            client(heartbeat_s=0.0)

    def test_our_own_greeting_must_be_small(self):
        with pytest.raises(LocalProtocolError, match=r"Hello of .* does not fit"):
            client(addresses=["x" * 100] * 1000)

    def test_both_sides_refuse_versions_that_do_not_fit(self):
        one, other = client(), node(protocol_min=2, protocol_max=3, version="3.0")
        greetings = written(one), written(other)
        for session, data in zip((other, one), greetings, strict=True):
            with pytest.raises(
                RemoteProtocolError, match=r"have no protocol version in common; upgrade dispy of .*client"
            ):
                session.receive_data(data, 0.0)


class TestMessages:
    def test_everything_queued_is_one_batch(self):
        one, other = opened()
        sent = [CloseComputation(f"c{number}") for number in range(100)]
        for message in sent:
            one.send(message)
        out = written(one)
        assert contents(out) == [sent]
        assert other.receive_data(out, 1.0) == [MessagesReceived(sent)]

    def test_events_keep_the_order_of_a_mixed_batch(self):
        one, _ = opened()
        data = batch(
            ComputationReady("a"),
            Heartbeat(),
            ComputationReady("b"),
            StreamEnded(1),
            StreamEnded(2, "disk full"),
            ComputationReady("c"),
        )
        assert one.receive_data(data, 1.0) == [
            MessagesReceived([ComputationReady("a")]),
            MessagesReceived([ComputationReady("b")]),
            StreamFinished(1, ""),
            StreamFinished(2, "disk full"),
            MessagesReceived([ComputationReady("c")]),
        ]

    def test_internal_messages_are_not_reported(self):
        one, _ = opened()
        assert one.receive_data(batch(Heartbeat()), 1.0) == []

    @pytest.mark.parametrize(
        "message", [Heartbeat(), Goodbye(""), StreamEnded(1), StreamCredit(1, 1), hello("client")]
    )
    def test_internal_messages_are_not_for_callers(self, message):
        one, _ = opened()
        with pytest.raises(LocalProtocolError, match="is sent by the session itself"):
            one.send(message)

    def test_the_peers_frame_limit_is_kept(self):
        one, other = opened()
        results = [JobResult(number, 1, 0, 0, "", 0.0, 0.0, bytes(60_000)) for number in range(1, 321)]
        sent = JobResults("c", results)
        other.send(sent)
        received = [event.messages for event in one.receive_data(written(other), 1.0)]
        assert len(received) > 4
        assert [result for (message,) in received for result in message.results] == results

    def test_no_frame_is_larger_than_ours_may_be_whatever_the_peer_takes(self):
        session = client()
        session.receive_data(PREFACE + batch(hello("node", max_frame_bytes=2**40)), 0.0)
        written(session)
        session.send(AssignJobs("c", [JobAssignment(number, 1, bytes(60_000)) for number in range(80)]))
        frames = session.data_to_send()
        assert len(frames) == 2
        assert max(map(len, frames)) <= HEADER.size + MAX_FRAME_BYTES

    def test_a_message_that_is_too_large_is_our_own_fault(self):
        one, _ = opened()
        one.send(AssignJobs("c", [JobAssignment(1, 1, bytes(MAX_FRAME_BYTES))]))
        with pytest.raises(LocalProtocolError, match=r"AssignJobs of .* does not fit"):
            one.data_to_send()

    def test_a_frame_above_our_limit_is_refused_by_its_header(self):
        one, _ = opened()
        with pytest.raises(RemoteProtocolError, match="the limit is"):
            one.receive_data(HEADER.pack(MAX_FRAME_BYTES + 1, CONTROL), 1.0)
        assert one.state is State.PARTED


class TestStreams:
    def test_messages_overtake_chunks(self):
        one, _ = opened()
        one.send_stream(1, Source(bytes(3 * WRITE_BYTES)), 3 * WRITE_BYTES)
        assert len(contents(written(one))) == WRITE_BYTES // CHUNK_BYTES
        one.send(AckResults("c", [(1, 1)]))
        first, second, *_ = contents(written(one))
        assert first == [AckResults("c", [(1, 1)])]
        assert second == (1, bytes(CHUNK_BYTES))

    def test_messages_go_out_whatever_the_limit(self):
        one, _ = opened()
        one.send_stream(1, Source(b"x"), 1)
        one.send(ComputationReady("c"))
        assert contents(written(one, limit=0)) == [[ComputationReady("c")]]
        assert one.has_data
        assert contents(written(one, limit=1)) == [(1, b"x"), [StreamEnded(1)]]
        assert not one.has_data

    def test_much_goes_out_in_several_writes_and_before_any_chunk(self):
        """What is encoded takes memory a second time."""
        one, _ = opened()
        one.send_stream(1, Source(b"x"), 1)
        for number in range(50):
            one.send(AssignJobs("c", [JobAssignment(number, 1, bytes(60_000))]))
        writes = []
        while one.has_data:
            writes.append(written(one))
        assert len(writes) == 3
        assert all(len(write) < WRITE_BYTES + 2 * 60_000 for write in writes)
        items = [item for write in writes for item in contents(write)]
        jobs = [job.job for item in items[:-2] for message in item for job in message.jobs]
        assert jobs == list(range(50))
        assert items[-2:] == [(1, b"x"), [StreamEnded(1)]]

    def test_answers_are_owed_until_they_are_written(self):
        one, _ = opened()
        one.send(AssignJobs("c", [JobAssignment(1, 1, bytes(60_000))]))
        assert one.owed_bytes == 0  # it is sent on our own account
        for _ in range(3):
            one.send(AckResults("c", [(number, 1) for number in range(100_000)]))
        owed = one.owed_bytes
        assert owed > 3 * 100_000 * 64
        one.data_to_send(800_000)
        assert one.owed_bytes == owed  # it is given out, and not written yet
        one.data_to_send(800_000)
        assert 0 < one.owed_bytes < owed
        while one.data_to_send(800_000):
            pass
        assert one.owed_bytes == 0

    def test_credit_is_owed_and_nothing_is_after_the_end(self):
        one, other = opened()
        other.send_stream(1, Source(bytes(WINDOW_BYTES)), 2 * WINDOW_BYTES)
        while other.has_data:
            one.receive_data(written(other), 0.0)
        one.consumed(1, WINDOW_BYTES)
        assert one.owed_bytes > 0
        one.close()
        assert one.owed_bytes == 0

    def test_streams_take_turns(self):
        one, _ = opened()
        for stream, chunks in ((1, 2), (2, 1), (3, 2)):
            one.send_stream(stream, Source(bytes(chunks * CHUNK_BYTES)), chunks * CHUNK_BYTES)
        turns = [item[0] for item in contents(written(one, 2 * WRITE_BYTES)) if isinstance(item, tuple)]
        assert turns == [1, 2, 3, 1, 3]

    def test_the_order_of_new_streams_holds_for_those_without_chunks(self):
        one, other = opened()
        one.send_stream(1, Source(error=OSError("gone")), 5)
        one.send_stream(2, Source(b""), 0)
        one.send_stream(3, Source(b"x"), 1)
        assert other.receive_data(written(one), 1.0) == [
            StreamFinished(1, "what was sent cannot be read any more: gone"),
            StreamFinished(2, ""),
            ChunkReceived(3, b"x"),
            StreamFinished(3, ""),
        ]

    def test_credit_makes_the_sender_go_on(self):
        one, other = opened()
        size = WINDOW_BYTES + CHUNK_BYTES
        one.send_stream(1, Source(bytes(size)), size)
        chunks = other.receive_data(written(one, 2 * size), 1.0)
        assert sum(len(event.data) for event in chunks) == WINDOW_BYTES
        assert not one.has_data
        other.consumed(1, WINDOW_BYTES // 2 - 1)
        assert not other.has_data
        other.consumed(1, 1)
        out = written(other)
        assert contents(out) == [[StreamCredit(1, WINDOW_BYTES // 2)]]
        assert one.receive_data(out, 1.0) == []
        assert other.receive_data(written(one), 1.0) == [
            ChunkReceived(1, bytes(CHUNK_BYTES)),
            StreamFinished(1, ""),
        ]

    def test_a_sender_that_ignores_credit_is_refused(self):
        one, _ = opened()
        for _ in range(WINDOW_BYTES // CHUNK_BYTES):
            one.receive_data(chunk(1, bytes(CHUNK_BYTES)), 1.0)
        with pytest.raises(RemoteProtocolError, match="1 bytes more on stream 1 than it may"):
            one.receive_data(chunk(1, b"x"), 1.0)
        assert one.state is State.PARTED

    @pytest.mark.parametrize(
        "data",
        [
            batch(StreamCredit(1, 1)),
            batch(StreamEnded(0)),
            batch(StreamEnded(1), StreamEnded(1)),
            chunk(2, b"x") + chunk(1, b"x"),
            HEADER.pack(0, 1),
        ],
    )
    def test_senseless_stream_traffic_is_refused(self, data):
        one, _ = opened()
        with pytest.raises(RemoteProtocolError):
            one.receive_data(data, 1.0)
        assert one.state is State.PARTED

    def test_only_what_has_come_can_be_used_up(self):
        one, _ = opened()
        with pytest.raises(LocalProtocolError, match="1 bytes of stream 1 cannot be used up: 0 are there"):
            one.consumed(1, 1)

    def test_numbers_must_increase(self):
        one, _ = opened()
        one.send_stream(2, Source(b"x"), 1)
        source = Source(b"x")
        with pytest.raises(LocalProtocolError, match="cannot follow stream 2"):
            one.send_stream(2, source, 1)
        assert source.closed == 1


class TestTime:
    def test_a_heartbeat_goes_out_when_nothing_else_does(self):
        one, _ = opened(now=10.0)
        assert one.next_deadline() == 10.0 + BEAT_S / 2
        one.on_time(10.0 + BEAT_S / 2)  # the greeting was written in this beat
        assert not one.has_data
        one.on_time(10.0 + BEAT_S)
        assert contents(written(one)) == [[Heartbeat()]]

    def test_early_calls_do_nothing(self):
        one, _ = opened(now=10.0)
        deadline = one.next_deadline()
        for _ in range(5):
            assert one.on_time(10.5) == []
        assert not one.has_data
        assert one.next_deadline() == deadline

    def test_what_is_queued_makes_a_heartbeat_needless(self):
        one, _ = opened()
        one.on_time(1.0)
        one.send(ComputationReady("c"))
        one.on_time(2.0)
        one.on_time(3.0)
        assert contents(written(one)) == [[ComputationReady("c")]]

    @given(st.lists(st.tuples(st.floats(0.01, 5.0), st.booleans()), max_size=30))
    def test_never_is_a_heartbeat_interval_without_a_write(self, pauses):
        one, other = opened()
        now = wrote_at = 0.0
        for pause, talk in pauses:
            end = now + pause
            while one.next_deadline() <= end:
                now = one.next_deadline()
                assert one.on_time(now) == []
                if one.has_data:
                    written(one)
                    assert now - wrote_at <= BEAT_S * 1.000001
                    wrote_at = now
                one.receive_data(batch(Heartbeat()), now)
            now = end
            if talk:
                one.send(CloseComputation("c"))
                assert other.receive_data(written(one), now)
                wrote_at = now
        assert now - wrote_at <= BEAT_S * 1.000001

    def test_a_peer_is_silent_after_three_of_its_own_heartbeats(self):
        one, other = opened(heartbeat_s=0.5)
        assert one.on_time(5.99) == []
        (event,) = one.on_time(6.0)
        assert event == PeerSilent("nothing came from node 'node-1' for 6 s; it or the network to it is down")
        (event,) = other.on_time(1.5)
        assert event.reason.startswith("nothing came from client 'client-1' for 1.5 s")
        assert one.on_time(100.0) == []

    def test_any_byte_is_a_sign_of_life(self):
        one, _ = opened()
        data = batch(ComputationReady("c"))
        for now, byte in enumerate(data[:20], 1):
            assert one.receive_data(bytes([byte]), 5.0 * now) == []
            assert one.on_time(5.0 * now + 4.9) == []
        assert isinstance(one.on_time(100.0 + 6.0)[0], PeerSilent)

    def test_who_slept_himself_waits_one_heartbeat_more_and_only_one(self):
        one, _ = opened()
        assert one.on_time(1000.0) == []
        assert one.on_time(1001.9) == []
        assert isinstance(one.on_time(1002.0)[0], PeerSilent)

    def test_the_excuse_alone_makes_no_heartbeat(self):
        _, other = opened(heartbeat_s=0.1)
        assert other.on_time(0.5) == []
        assert other.next_deadline() == 0.6
        assert not other.has_data

    def test_the_excuse_is_granted_again_after_a_sign_of_life(self):
        one, _ = opened()
        assert one.on_time(1000.0) == []
        one.receive_data(batch(Heartbeat()), 1000.0)
        assert one.next_deadline() <= 1000.0 + BEAT_S / 2
        assert one.on_time(2000.0) == []
        assert one.on_time(2001.9) == []
        assert one.on_time(3000.0) != []


def session_with(roles, ours="node"):
    accepts = frozenset({Role.CLIENT if ours == "node" else Role.NODE})
    return Session(hello(ours), now=0.0, accepts=accepts, roles=frozenset(roles))


class TestRoles:
    @pytest.mark.parametrize("role", list(AccessRole))
    @pytest.mark.parametrize("kind", [kind for kind in MESSAGE_TYPES if kind not in INTERNAL])
    @pytest.mark.parametrize("greets_as", list(Role))
    @given(data=st.data())
    @settings(max_examples=2)
    def test_each_message_from_each_role(self, kind, role, greets_as, data):
        """The matrix: what is not allowed ends the link, whoever sends it."""
        ours = "node" if greets_as is Role.CLIENT else "client"
        session = session_with({role}, ours)
        needed = NEEDED[kind]
        enters = (role is AccessRole.NODE) == (greets_as is Role.NODE)
        may = enters and needed in role.included
        message = data.draw(messages(kind))
        greeting = PREFACE + batch(hello(greets_as.value))
        if not enters:
            with pytest.raises(RemoteProtocolError, match="may not take part as"):
                session.receive_data(greeting, 0.0)
            return
        session.receive_data(greeting, 0.0)
        if may:
            assert session.receive_data(batch(message), 0.0) == [MessagesReceived([clean_reason(message)])]
        else:
            with pytest.raises(RemoteProtocolError, match=rf"{kind.__name__}, which"):
                session.receive_data(batch(message), 0.0)
            assert session.state is State.PARTED

    def test_nobody_without_a_role(self):
        session = session_with(())
        with pytest.raises(RemoteProtocolError, match="has not proved any role"):
            session.receive_data(PREFACE + batch(hello("client")), 0.0)

    def test_who_only_observes_sends_no_chunks(self):
        session = session_with({AccessRole.OBSERVE})
        session.receive_data(PREFACE + batch(hello("client")), 0.0)
        with pytest.raises(RemoteProtocolError, match="sent a chunk, which it may not; its certificate says"):
            session.receive_data(chunk(1, b"x"), 0.0)


class TestEnd:
    def test_goodbye_is_the_last_message(self):
        one, other = opened()
        source = Source(b"x")
        one.send(CloseComputation("c"))
        one.send_stream(1, source, 1)
        one.goodbye("all is done", final=True)
        assert (one.state, one.next_deadline(), source.closed) == (State.LEAVING, math.inf, 1)
        out = written(one)
        assert contents(out) == [[CloseComputation("c"), Goodbye("all is done", final=True)]]
        assert not one.has_data
        assert other.receive_data(out, 1.0) == [
            MessagesReceived([CloseComputation("c")]),
            PeerLeft("all is done", final=True),
        ]
        assert other.state is State.PARTED

    def test_goodbye_before_the_peers_greeting_follows_ours(self):
        session = client()
        session.send(ComputationReady("c"))
        session.goodbye("changed my mind")
        out = written(session)
        other = node()
        assert other.receive_data(out, 1.0) == [
            Greeted(hello("client")),
            PeerLeft("changed my mind", final=False),
        ]

    def test_the_peer_is_told_what_was_wrong_with_it(self):
        session = client()
        with pytest.raises(RemoteProtocolError) as caught:
            session.receive_data(PREFACE + batch(hello("client", name="twin")), 0.0)
        assert not session.has_data
        session.goodbye(str(caught.value))
        twin = Session(hello("client", name="twin"), now=0.0, accepts=frozenset(Role), roles=EVERYTHING)
        assert twin.receive_data(written(session), 0.0)[-1] == PeerLeft(
            "peer is the client 'twin', but this client expects a node there", final=False
        )

    def test_goodbye_twice_is_once(self):
        one, _ = opened()
        one.goodbye("first")
        one.goodbye("second")
        assert contents(written(one)) == [[Goodbye("first")]]

    def test_any_reason_can_be_told(self):
        one, _ = opened()
        one.goodbye("cannot read \udcff" + "x" * 10_000_000)
        ((message,),) = contents(written(one))
        assert message.reason.startswith(r"cannot read \udcffxxx")

    def test_after_goodbye_nothing_may_be_sent_and_nothing_comes(self):
        one, other = opened()
        one.goodbye("done")
        source = Source(b"x")
        with pytest.raises(LocalProtocolError, match="ComputationReady cannot be sent: the link is leaving"):
            one.send(ComputationReady("c"))
        with pytest.raises(LocalProtocolError, match="stream 1 cannot be sent: the link is leaving"):
            one.send_stream(1, source, 1)
        assert source.closed == 1
        other.send(ComputationReady("c"))
        assert one.receive_data(written(other), 1.0) == []
        assert one.receive_data(b"garbage", 1.0) == []
        assert one.on_time(1000.0) == []
        one.receive_eof()
        assert one.state is State.LEAVING

    def test_after_the_peer_has_parted_all_is_dropped(self):
        one, _ = opened()
        early, late = Source(b"x"), Source(b"x")
        one.send(ComputationReady("a"))
        one.send_stream(1, early, 1)
        one.receive_data(chunk(1, b"x"), 1.0)
        assert one.receive_data(
            batch(Goodbye("bye"), ComputationReady("ignored")) + batch(ComputationReady("too")), 1.0
        ) == [PeerLeft("bye", final=False)]
        one.send(ComputationReady("c"))
        one.send_stream(2, late, 1)
        one.consumed(1, 1)
        assert (early.closed, late.closed) == (1, 1)
        assert not one.has_data
        assert one.data_to_send() == []
        assert one.receive_data(b"garbage", 1.0) == []
        one.goodbye("good bye")
        assert contents(written(one)) == [[Goodbye("good bye")]]

    @pytest.mark.parametrize("peers", [opened, lambda: (client(), None)])
    def test_close_releases_everything(self, peers):
        one, _ = peers()
        sources = [Source(b"x") for _ in range(40)]
        for number, source in enumerate(sources, 1):
            one.send_stream(number, source, 1)
        one.send(ComputationReady("c"))
        one.close()
        one.close()
        assert [source.closed for source in sources] == [1] * 40
        assert (one.state, one.has_data, one.next_deadline()) == (State.CLOSED, False, math.inf)
        one.goodbye("too late")
        assert not one.has_data
        with pytest.raises(LocalProtocolError, match="the link is closed"):
            one.send(ComputationReady("c"))

    def test_silence_and_faults_close_sources(self):
        for spoil in (lambda one: one.on_time(6.0), lambda one: one.receive_eof()):
            one, _ = opened()
            source = Source(b"x")
            one.send_stream(1, source, 1)
            spoil(one)
            assert (one.state, source.closed) == (State.PARTED, 1)

    def test_end_of_bytes_between_frames_is_no_error(self):
        one, _ = opened()
        one.receive_eof()
        assert one.state is State.PARTED
        one.receive_eof()

    def test_end_of_bytes_in_a_frame_is_an_error(self):
        one, _ = opened()
        one.receive_data(batch(ComputationReady("c"))[:-1], 1.0)
        with pytest.raises(RemoteProtocolError, match="in the middle of a frame"):
            one.receive_eof()
        assert one.state is State.PARTED

    @pytest.mark.parametrize("data", [b"", PREFACE, (PREFACE + batch(hello("node")))[:-1]])
    def test_end_of_bytes_before_the_greeting_is_an_error(self, data):
        session = client()
        session.receive_data(data, 0.0)
        with pytest.raises(RemoteProtocolError, match="closed the connection before its greeting"):
            session.receive_eof()
        assert session.state is State.PARTED


def conversation(items):
    """Return bytes of a correct node that sends these messages and chunks."""
    data = PREFACE + batch(hello("node"))
    for number, item in enumerate(items, 1):
        data += chunk(number, item) if isinstance(item, bytes) else batch(item)
    return data


ITEMS = st.lists(st.one_of(PLAIN_OF[Role.NODE], st.binary(min_size=1, max_size=20)), max_size=6)


@given(st.data(), ITEMS, hellos())
def test_any_chunking_gives_the_same_events(data, items, greeting):
    stream = PREFACE + batch(greeting) + conversation(items)[len(conversation([])) :]
    session = client()
    events = []
    for piece in data.draw(chunkings(stream)):
        events += session.receive_data(piece, 0.0)
    assert events == [
        Greeted(clean_greeting(greeting)),
        *[
            ChunkReceived(number, item) if isinstance(item, bytes) else MessagesReceived([clean_reason(item)])
            for number, item in enumerate(items, 1)
        ],
    ]


@given(st.data(), ITEMS)
def test_damage_gives_only_remote_protocol_errors(data, items):
    session = client()
    damaged = data.draw(mutations(conversation(items)))
    try:
        for piece in data.draw(chunkings(damaged)):
            session.receive_data(piece, 0.0)
        session.receive_eof()
    except RemoteProtocolError:
        assert session.state is State.PARTED
    session.goodbye("tried")
    assert written(session).endswith(batch(Goodbye("tried")))


@given(st.data(), st.lists(messages(), min_size=1, max_size=5))
def test_any_messages_of_an_open_peer_give_only_remote_protocol_errors(data, items):
    one, _ = opened()
    one.send_stream(1, Source(b"x" * 10), 10)
    try:
        for piece in data.draw(mutations(batch(*items)).flatmap(chunkings)):
            one.receive_data(piece, 0.0)
    except RemoteProtocolError:
        assert one.state is State.PARTED


def announcement(end, stream):
    """Return the message with which an end (0 the client, 1 the node) announces a stream."""
    return (CloseComputation if end == 0 else ComputationReady)(f"stream {stream}")


class End:
    """One side of the fake link, with what it has sent and received."""

    def __init__(self, session):
        self.session = session
        self.wire = bytearray()
        self.sent = []
        self.received = []
        self.sources = {}
        self.arrived = {}
        self.held = {}
        self.finished = []
        self.greeted = 0

    def take(self, events):
        for event in events:
            match event:
                case Greeted():
                    assert not self.received
                    self.greeted += 1
                case MessagesReceived(items):
                    assert items
                    self.received += items
                case ChunkReceived(stream, data):
                    assert any(announcement(end, stream) in self.received for end in (0, 1))
                    assert stream not in self.finished
                    self.arrived[stream] = self.arrived.get(stream, b"") + data
                    self.held[stream] = self.held.get(stream, 0) + len(data)
                case StreamFinished(stream, reason):
                    assert reason == ""
                    self.arrived.setdefault(stream, b"")
                    self.finished.append(stream)
                case _:
                    raise AssertionError(event)


WINDOW = 64
CHUNK = 10


class TwoSessions(RuleBasedStateMachine):
    """Whatever is sent, however it is cut and interleaved, arrives whole and in order, within the windows."""

    @initialize()
    def connect(self):
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(streams_module, "WINDOW_BYTES", WINDOW)
        self.patch.setattr(streams_module, "CHUNK_BYTES", CHUNK)
        self.patch.setattr(streams_module, "MAX_SENDING_STREAMS", 3)
        self.now = 0.0
        quiet = {"heartbeat_s": 3600.0}
        self.ends = [End(client(**quiet)), End(node(**quiet))]

    @rule(message=PLAIN_OF[Role.CLIENT])
    def send_from_client(self, message):
        self.send(0, message)

    @rule(message=PLAIN_OF[Role.NODE])
    def send_from_node(self, message):
        self.send(1, message)

    def send(self, end, message):
        self.ends[end].sent.append(clean_reason(message))
        self.ends[end].session.send(message)

    @rule(end=st.integers(0, 1), size=st.one_of(st.integers(0, 30), st.integers(0, 400)))
    def send_stream(self, end, size):
        one = self.ends[end]
        number = len(one.sources) + 1
        self.send(end, announcement(end, number))
        data = bytes(itertools.islice(itertools.cycle(range(number, 256)), size))
        one.sources[number] = Source(data)
        one.session.send_stream(number, one.sources[number], size)

    @rule(end=st.integers(0, 1), limit=st.integers(0, 100))
    def write(self, end, limit):
        one = self.ends[end]
        promised = one.session.has_data
        pieces = one.session.data_to_send(limit)
        assert bool(pieces) == promised or limit == 0
        one.wire += b"".join(pieces)

    @rule(end=st.integers(0, 1), size=st.one_of(st.integers(1, 60), st.just(2**20)))
    def deliver(self, end, size):
        wire = self.ends[end].wire
        data = bytes(wire[:size])
        del wire[:size]
        if data:
            other = self.ends[1 - end]
            other.take(other.session.receive_data(data, self.now))

    @rule(end=st.integers(0, 1), share=st.integers(1, 4))
    def consume(self, end, share):
        one = self.ends[end]
        for stream, size in one.held.items():
            part = -(-size // share)
            one.session.consumed(stream, part)
            one.held[stream] -= part

    @rule(pause_s=st.floats(0.0, 1800.0))
    def wait(self, pause_s):
        if all(one.session.state is State.OPEN for one in self.ends):
            self.now = min(self.now + pause_s, 10_000.0)
            for one in self.ends:
                one.take(one.session.on_time(self.now))

    @invariant()
    def what_has_arrived_was_sent(self):
        for one, other in self.pairs():
            assert other.received == one.sent[: len(other.received)]
            for stream, data in other.arrived.items():
                assert one.sources[stream].data.getvalue().startswith(data)
            assert all(
                other.arrived[stream] == one.sources[stream].data.getvalue() for stream in other.finished
            )
            assert all(size <= WINDOW for size in other.held.values())
            assert len(other.arrived) - len(other.finished) <= 3
            assert all(source.closed <= 1 for source in one.sources.values())

    def pairs(self):
        ends = getattr(self, "ends", ())
        return list(zip(ends, ends[::-1], strict=True))

    def teardown(self):
        try:
            while any(one.session.has_data or one.wire or any(one.held.values()) for one, _ in self.pairs()):
                for end in (0, 1):
                    self.write(end, 100)
                    self.deliver(end, 2**20)
                    self.consume(end, 1)
            self.what_has_arrived_was_sent()
            for one, other in self.pairs():
                assert other.received == one.sent
                assert sorted(other.finished) == sorted(one.sources)
                assert all(source.closed == 1 for source in one.sources.values())
                assert one.greeted == 1
        finally:
            if hasattr(self, "patch"):
                self.patch.undo()


TestTwoSessions = TwoSessions.TestCase
