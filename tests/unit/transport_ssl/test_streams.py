from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from functools import partial

import pytest
import trio
import trio.testing

from dispy.errors import TransportError
from dispy.model import AccessRole
from dispy_transport_ssl import streams
from dispy_transport_ssl.contexts import make_client_context, make_gate
from dispy_transport_ssl.streams import READ_BYTES, RECORD_BYTES, SEND_BYTES, Carrier, TlsStream

Pair = tuple[TlsStream, TlsStream]


def run(main: Callable[[], Awaitable[None]]) -> None:
    trio.run(main, strict_exception_groups=True, clock=trio.testing.MockClock(autojump_threshold=0))


@pytest.fixture
def make_pair(world) -> Callable[..., Awaitable[Pair]]:
    """Give a function that makes two ends which have shaken hands."""
    client, node = world.credential("mary", AccessRole.SUBMIT), world.credential("alpha", AccessRole.NODE)

    async def make(below: Callable[[], tuple[trio.abc.Stream, trio.abc.Stream]]) -> Pair:
        near, far = below()
        one = TlsStream(near, make_client_context(client), server_side=False, server_name=None)
        two = TlsStream(far, make_gate([node]).context, server_side=True, server_name=None)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.handshake)
            nursery.start_soon(two.handshake)
        one.open()
        two.open()
        return one, two

    return make


class Wire:
    """Two ends in memory; what one of them sends next can be changed on its way."""

    def __init__(self) -> None:
        self.near, self.far = trio.testing.memory_stream_pair()

    def ends(self) -> tuple[trio.abc.Stream, trio.abc.Stream]:
        return self.near, self.far

    def damage(self) -> None:
        send_all = self.near.send_stream.send_all

        async def send_damaged(data: bytes | bytearray | memoryview) -> None:
            await send_all(bytes(data[:-1]) + bytes([data[-1] ^ 1]))

        self.near.send_stream.send_all = send_damaged  # type: ignore[method-assign]


def test_trios_contract(make_pair) -> None:
    run(
        partial(
            trio.testing.check_two_way_stream,
            partial(make_pair, trio.testing.memory_stream_pair),
            partial(make_pair, trio.testing.lockstep_stream_pair),
        )
    )


@pytest.mark.parametrize("size", [1, RECORD_BYTES, SEND_BYTES, SEND_BYTES + 1, 3 * SEND_BYTES + 7])
@pytest.mark.parametrize("max_bytes", [None, 1000, 1 << 20])
def test_all_sizes_arrive_in_few_pieces(make_pair, size: int, max_bytes: int | None) -> None:
    async def main() -> None:
        one, two = await make_pair(trio.testing.memory_stream_pair)
        content = bytes(range(256)) * (size // 256 + 1)
        content = content[:size]
        await one.send_all(memoryview(content))
        got, pieces = bytearray(), 0
        while len(got) < size:
            piece = await two.receive_some(max_bytes)
            assert len(piece) <= (max_bytes or READ_BYTES)
            got += piece
            pieces += 1
        assert got == content
        if max_bytes != 1000:
            assert pieces <= 2 * (size // READ_BYTES + 1)

    run(main)


def test_messages_that_came_together_are_read_together(make_pair) -> None:
    async def main() -> None:
        one, two = await make_pair(trio.testing.memory_stream_pair)
        for word in (b"a", b"b", b"c"):
            await one.send_all(word)
        assert await two.receive_some(2) == b"ab"
        assert await two.receive_some() == b"c"
        await one.send_all(b"d")
        await one.aclose()
        assert await two.receive_some() == b"d"
        assert await two.receive_some() == b""

    run(main)


def test_connection_that_is_cut_is_broken_not_closed(make_pair) -> None:
    async def main() -> None:
        one, two = await make_pair(trio.testing.memory_stream_pair)
        await one.send_all(b"last words")
        await trio.aclose_forcefully(one)
        assert await two.receive_some() == b"last words"
        with pytest.raises(trio.BrokenResourceError) as caught:
            await two.receive_some()
        assert isinstance(caught.value.__cause__, TransportError)
        assert "without a farewell" in str(caught.value.__cause__)
        await two.aclose()

    run(main)


def test_changed_bytes_are_noticed_after_those_that_are_good(make_pair) -> None:
    async def main() -> None:
        wire = Wire()
        one, two = await make_pair(wire.ends)
        await one.send_all(b"good")
        wire.damage()
        await one.send_all(b"bad")
        assert await two.receive_some() == b"good"
        for _ in range(2):
            with pytest.raises(trio.BrokenResourceError) as caught:
                await two.receive_some()
            assert "changed on the way" in str(caught.value.__cause__)
        await trio.aclose_forcefully(two)

    run(main)


def test_changed_bytes_are_noticed_at_once(make_pair) -> None:
    async def main() -> None:
        wire = Wire()
        one, two = await make_pair(wire.ends)
        wire.damage()
        await one.send_all(b"bad")
        with pytest.raises(trio.BrokenResourceError) as caught:
            await two.receive_some()
        assert "changed on the way" in str(caught.value.__cause__)
        with pytest.raises(trio.BrokenResourceError):
            await two.send_all(b"answer")

    run(main)


def test_closing_does_not_wait_for_a_peer_that_does_not_read(make_pair) -> None:
    async def main() -> None:
        one, _two = await make_pair(trio.testing.lockstep_stream_pair)
        with trio.fail_after(streams.CLOSE_S + 1):
            await one.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await one.send_all(b"more")

    run(main)


def test_closing_forcefully_does_not_wait_for_one_who_sends(make_pair) -> None:
    async def main() -> None:
        one, _two = await make_pair(trio.testing.lockstep_stream_pair)

        async def send() -> None:
            with pytest.raises((trio.ClosedResourceError, trio.BrokenResourceError)):
                await one.send_all(bytes(3 * SEND_BYTES))

        with trio.fail_after(1):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(send)
                await trio.testing.wait_all_tasks_blocked()
                await trio.aclose_forcefully(one)

    run(main)


def test_stream_in_a_stream(make_pair) -> None:
    """A key inside certificates: the inner one takes the outer one for a transport."""

    async def main() -> None:
        outer = await make_pair(trio.testing.memory_stream_pair)
        one, two = await make_pair(lambda: outer)
        content = bytes(3 * READ_BYTES)
        got = bytearray()

        async def receive() -> None:
            while len(got) < len(content):
                got.extend(await two.receive_some())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive)
            await one.send_all(content)
        assert got == content

    run(main)


def test_carrier_keeps_the_first_bytes_and_counts_to_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "HANDSHAKE_BYTES", 20)

    async def main() -> None:
        near, far = trio.testing.memory_stream_pair()
        carrier = Carrier(near)
        for piece in (b"abc", b"defghij", b"0123456789"):
            await far.send_all(piece)
            assert await carrier.receive_some() == piece
        assert carrier.first == b"abcdefgh"
        await far.send_all(b"!")
        with pytest.raises(TransportError, match="more than 20 bytes"):
            await carrier.receive_some()
        carrier.lift_limits()
        await far.send_all(bytes(99))
        assert len(await carrier.receive_some()) == 99

    run(main)


def test_alert_for_a_peer_that_has_gone(world) -> None:
    async def main() -> None:
        near, far = trio.testing.memory_stream_pair()
        tls = TlsStream(
            near,
            make_gate([world.credential("alpha", AccessRole.NODE)]).context,
            server_side=True,
            server_name=None,
        )
        await far.send_all(b"GET / HTTP/1.1\r\n\r\n")
        with pytest.raises(trio.BrokenResourceError) as caught:
            await tls.handshake()
        assert isinstance(caught.value.__cause__, ssl.SSLError)
        await far.aclose()
        await tls.send_alert()

    run(main)
