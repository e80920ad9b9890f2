"""What shows how two sides secure a connection."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio
import trio.testing

from dispy.errors import SecurityError
from dispy.interfaces import API_VERSION, Credential, Identity, StreamSecurity
from dispy.model import AccessRole
from dispy_testing.contracts import ContractViolation
from dispy_testing.contracts.meetings import Meeting, Side, Wire, meet

CREDENTIAL = Credential("a name", b"", b"", b"")


class Telling(StreamSecurity):
    """Each side says its name, and secures nothing."""

    NAME = "telling"
    API_VERSION = API_VERSION

    async def connect(
        self, stream: trio.abc.Stream, credential: Credential, *, wants: frozenset[AccessRole]
    ) -> tuple[trio.abc.Stream, Identity]:
        await stream.send_all(credential.name.encode())
        name = bytes(await stream.receive_some()).decode()
        if not name:
            raise SecurityError("it said nothing")
        return stream, Identity(name, wants)

    async def accept(
        self, stream: trio.abc.Stream, credentials: Sequence[Credential], *, wants: frozenset[AccessRole]
    ) -> tuple[trio.abc.Stream, Identity]:
        return await self.connect(stream, credentials[-1], wants=wants)


class Refusing(Telling):
    async def accept(
        self, stream: trio.abc.Stream, credentials: Sequence[Credential], *, wants: frozenset[AccessRole]
    ) -> tuple[trio.abc.Stream, Identity]:
        await stream.receive_some()
        raise SecurityError("not you")


class Asleep(Telling):
    async def accept(
        self, stream: trio.abc.Stream, credentials: Sequence[Credential], *, wants: frozenset[AccessRole]
    ) -> tuple[trio.abc.Stream, Identity]:
        await trio.sleep_forever()
        raise AssertionError


def met(listening: type[StreamSecurity]) -> Meeting:
    async def main() -> Meeting:
        return await meet(Side(Telling(), [CREDENTIAL]), Side(listening(), [CREDENTIAL]))

    return trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0), strict_exception_groups=True)


def test_both_are_told_of_each_other() -> None:
    meeting = met(Telling)
    assert [identity.name for _, identity in meeting.secured()] == ["a name", "a name"]
    assert meeting.streams() == (meeting.near, meeting.far)
    assert (meeting.near.sent, meeting.far.sent) == ([b"a name"], [b"a name"])
    assert not meeting.near.is_closed
    trio.run(meeting.close)
    assert meeting.near.is_closed
    assert meeting.far.is_closed


def test_what_is_raised_is_given_back_and_the_stream_is_closed() -> None:
    meeting = met(Refusing)
    assert str(meeting.listener) == "not you"
    assert str(meeting.dialler) == "it said nothing"
    assert meeting.near.is_closed
    assert meeting.far.is_closed
    with pytest.raises(ContractViolation, match="but connect raised SecurityError"):
        meeting.secured()


def test_waiting_for_ever_is_a_violation() -> None:
    with pytest.raises(ContractViolation, match="must come to an end when the other side has"):
        met(Asleep)


def test_spoiled_wire_changes_one_bit() -> None:
    async def main() -> None:
        near, far = trio.testing.memory_stream_pair()
        wire = Wire(near)
        wire.is_spoiled = True
        await wire.send_all(b"abc")
        assert wire.sent == [b"abc"]
        assert await far.receive_some() == b"abb"

    trio.run(main)
