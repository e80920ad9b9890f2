from __future__ import annotations

import math

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from dispy_testing.pipes import CAPACITY_BYTES, MemoryStream, Pipe

Pair = tuple[MemoryStream, MemoryStream]


def pair(delays: list[float] | None = None) -> Pair:
    """Make two streams; each piece of data takes the next of *delays*, or no time when they are used up."""
    left = list(delays or [])

    def delay_s() -> float:
        return left.pop(0) if left else 0.0

    there, back = Pipe(lambda: False, delay_s), Pipe(lambda: False, delay_s)
    return MemoryStream(outgoing=there, incoming=back), MemoryStream(outgoing=back, incoming=there)


def test_trio_checks() -> None:
    async def make() -> Pair:
        return pair()

    async def make_clogged() -> Pair:
        ours, theirs = pair()
        for stream in (ours, theirs):
            await stream.send_all(bytes(CAPACITY_BYTES))
        return ours, theirs

    trio.run(trio.testing.check_half_closeable_stream, make, make_clogged)


@given(
    chunks=st.lists(st.binary(max_size=50), max_size=10),
    delays=st.lists(st.floats(0, 10), max_size=10),
    max_bytes=st.integers(1, 60),
)
def test_bytes_arrive_in_order_whatever_the_delays(
    chunks: list[bytes], delays: list[float], max_bytes: int
) -> None:
    received = bytearray()

    async def main() -> None:
        ours, theirs = pair(delays)
        for chunk in chunks:
            await ours.send_all(chunk)
        await ours.send_eof()
        while data := await theirs.receive_some(max_bytes):
            assert len(data) <= max_bytes
            received.extend(data)
        assert await theirs.receive_some(max_bytes) == b""

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert received == b"".join(chunks)


def test_a_full_pipe_holds_the_sender_back() -> None:
    async def main() -> None:
        ours, theirs = pair()
        sent = 0

        async def send() -> None:
            nonlocal sent
            for _ in range(4):
                await ours.send_all(bytes(CAPACITY_BYTES))
                sent += 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            await trio.testing.wait_all_tasks_blocked()
            assert sent == 1
            size = 0
            while size < 4 * CAPACITY_BYTES:
                size += len(await theirs.receive_some())
        assert (sent, size) == (4, 4 * CAPACITY_BYTES)

    trio.run(main)


def test_large_data_goes_through_in_pieces() -> None:
    data = bytes(range(256)) * (3 * CAPACITY_BYTES // 256) + b"end"

    async def main() -> None:
        ours, theirs = pair()
        received = bytearray()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ours.send_all, data)
            while len(received) < len(data):
                received += await theirs.receive_some()
        assert received == data

    trio.run(main)


def test_data_sent_before_closing_still_arrives() -> None:
    async def main() -> None:
        ours, theirs = pair([1.0])
        await ours.send_all(b"last words")
        await ours.aclose()
        assert await theirs.receive_some() == b"last words"
        assert await theirs.receive_some() == b""

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


@pytest.mark.parametrize("max_bytes", [0, -1])
def test_sizes_are_checked(max_bytes: int) -> None:
    async def main() -> None:
        ours, _ = pair()
        with pytest.raises(ValueError, match="max_bytes must be at least 1"):
            await ours.receive_some(max_bytes)
        with pytest.raises(TypeError, match=r"max_bytes must be an integer, not 1\.5"):
            await ours.receive_some(1.5)  # type: ignore[arg-type]

    trio.run(main)


def test_eof_after_closing_is_an_error() -> None:
    async def main() -> None:
        ours, _ = pair()
        await ours.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await ours.send_eof()

    trio.run(main)


def test_a_broken_pipe_loses_what_is_under_way() -> None:
    async def main() -> None:
        pipe = Pipe(lambda: False, lambda: math.inf)
        writer = MemoryStream(outgoing=pipe, incoming=Pipe(lambda: False, lambda: 0.0))
        reader = MemoryStream(outgoing=Pipe(lambda: False, lambda: 0.0), incoming=pipe)
        await writer.send_all(b"lost")
        pipe.break_off()
        for broken in (
            lambda: writer.send_all(b"x"),
            writer.wait_send_all_might_not_block,
            reader.receive_some,
        ):
            with pytest.raises(trio.BrokenResourceError):
                await broken()

    trio.run(main)
