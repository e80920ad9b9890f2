"""Streams over which TLS runs, and that it gives.

TLS itself is `trio.SSLStream`. What is added here: the alert that ends a failed handshake reaches the other side,
what a stranger sends is bounded, closing never hangs, and large data move in few steps (of 16 KiB, which is what a
TLS record holds, one at a time is less than half as fast: 300 instead of 700 MB/s on loopback).
"""

from __future__ import annotations

import ssl
from typing import cast

import trio

from dispy.errors import SecurityError
from dispy_transport_ssl.troubles import explain_break

HANDSHAKE_BYTES = 48 * 1024
"""What the other side may send before it is accepted; with a long chain of large certificates it is 10 KiB."""

HANDSHAKE_READ_BYTES = 16 * 1024

READ_BYTES = 256 * 1024
"""How much is read from the transport at once."""

RECORD_BYTES = 16 * 1024
"""What TLS gives at once."""

SEND_BYTES = 256 * 1024
"""How much is encrypted at once, so that one part is on its way while the next is prepared."""

FIRST_BYTES = 8

HANDSHAKE_RECORD = b"\x16\x03"
"""How everybody begins who speaks TLS."""

WRONG_PROTOCOL = b"\x15\x03\x03\x00\x02\x02\x46"
"""The alert "protocol version", which dispy's open protocol knows too (RFC 8446, section 6)."""

CLOSE_S = 1.0
"""How long the farewell may wait for a peer that does not read."""


class Carrier(trio.abc.Stream):
    """The transport's stream below TLS.

    Attributes:
        first: first bytes of what the other side has sent; they show who does not speak TLS.
    """

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.first = b""
        self._stream = stream
        self._allowed_bytes: float = HANDSHAKE_BYTES
        self._read_bytes = HANDSHAKE_READ_BYTES

    def lift_limits(self) -> None:
        """The other side is accepted: it may send as much as it likes."""
        self._allowed_bytes = float("inf")
        self._read_bytes = READ_BYTES

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Return what has arrived; raises SecurityError for a stranger that sends too much."""
        data = await self._stream.receive_some(max_bytes or self._read_bytes)
        if len(self.first) < FIRST_BYTES:
            self.first += bytes(data[: FIRST_BYTES - len(self.first)])
        self._allowed_bytes -= len(data)
        if self._allowed_bytes < 0:
            raise SecurityError(
                f"the other side sent more than {HANDSHAKE_BYTES} bytes before it was accepted: is it a dispy?"
            )
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send *data*."""
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until there is room to send."""
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        """Close the transport's stream."""
        await self._stream.aclose()


class _Tap:
    """Stands in for a context, to get at the two buffers: trio does not send the alert of a failed handshake."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        self.incoming: ssl.MemoryBIO
        self.outgoing: ssl.MemoryBIO
        self.connection: ssl.SSLObject

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        *,
        server_side: bool,
        server_hostname: str | None,
    ) -> ssl.SSLObject:
        self.incoming, self.outgoing = incoming, outgoing
        self.connection = self._context.wrap_bio(
            incoming, outgoing, server_side=server_side, server_hostname=server_hostname
        )
        return self.connection


class TlsStream(trio.abc.Stream):
    """One end of a connection with TLS; `handshake` comes first, then `open`, then everything else.

    Args:
        stream: the transport's; it belongs to this one now.
        server_name: sent to the other side in the clear; None sends none.
    """

    def __init__(
        self, stream: trio.abc.Stream, context: ssl.SSLContext, *, server_side: bool, server_name: str | None
    ) -> None:
        tap = _Tap(context)
        self.carrier = Carrier(stream)
        self._tls = trio.SSLStream(
            self.carrier,
            cast(ssl.SSLContext, tap),
            server_side=server_side,
            server_hostname=server_name,
            https_compatible=False,
        )
        self._connection = tap.connection
        self._incoming, self._outgoing = tap.incoming, tap.outgoing
        self._defect: ssl.SSLError | None = None
        self._is_sending = False

    @property
    def context(self) -> ssl.SSLContext:
        """The context in use, which the handshake may have changed."""
        context: ssl.SSLContext = self._connection.context
        return context

    @property
    def peer_certificate(self) -> bytes:
        """The other side's certificate (DER), after the handshake."""
        return self._connection.getpeercert(binary_form=True) or b""

    async def handshake(self) -> None:
        """Shake hands; the side that dialled is not known to be accepted yet.

        Raises:
            BrokenResourceError: it failed; the cause is the `ssl.SSLError`, if there is one.
        """
        await self._tls.do_handshake()

    async def read_exactly(self, size_bytes: int) -> bytes:
        """Return as many bytes, before `open`; fewer if the other side has closed.

        Raises:
            BrokenResourceError: as `handshake` does.
        """
        data = b""
        while len(data) < size_bytes and (part := await self._tls.receive_some(size_bytes - len(data))):
            data += part
        return data

    async def send_alert(self) -> None:
        """Tell the other side why the handshake has failed, as far as it still listens."""
        data = self._outgoing.read()
        if not data and self.carrier.first and not self.carrier.first.startswith(HANDSHAKE_RECORD):
            data = (
                WRONG_PROTOCOL  # OpenSSL says nothing to who does not speak TLS, and would be taken for dead
            )
        if data:
            try:
                await self.carrier.send_all(data)
            except trio.BrokenResourceError:
                pass  # the other side has gone already

    def open(self) -> None:
        """The other side is accepted, and accepts us."""
        self.carrier.lift_limits()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Return what has arrived; b"" once the other side has said that it closes.

        Raises:
            BrokenResourceError: the connection ended without that, or what arrived was not from the other side.
        """
        if self._defect is not None:
            await trio.lowlevel.checkpoint()
            raise trio.BrokenResourceError("the connection is broken") from explain_break(self._defect)
        limit = READ_BYTES if max_bytes is None else max_bytes
        try:
            data = await self._tls.receive_some(min(limit, RECORD_BYTES))
        except trio.BrokenResourceError as error:
            if isinstance(error.__cause__, ssl.SSLError):
                raise trio.BrokenResourceError("the connection is broken") from explain_break(error.__cause__)
            raise
        return self._drain(data, limit) if data and self._incoming.pending else data

    def _drain(self, first: bytes | bytearray, limit: int) -> bytes | bytearray:
        """Return *first* and what else has arrived in full already."""
        parts, size = [first], len(first)
        while size < limit and self._incoming.pending:
            try:
                part = self._connection.read(min(limit - size, RECORD_BYTES))
            except ssl.SSLWantReadError:
                break
            except ssl.SSLError as error:
                self._defect = error  # raised next time, after what was good
                break
            if not part:
                break  # closed by the other side, which the next call finds again
            parts.append(part)
            size += len(part)
        return b"".join(parts) if len(parts) > 1 else first

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt and send *data*.

        Raises:
            BrokenResourceError: the connection is broken.
        """
        if self._is_sending:
            raise trio.BusyResourceError("another task is sending on this stream")
        self._is_sending = True
        try:
            if len(data) <= SEND_BYTES:
                await self._tls.send_all(data)
                return
            with memoryview(data) as whole:
                for start in range(0, len(whole), SEND_BYTES):
                    await self._tls.send_all(whole[start : start + SEND_BYTES])
        finally:
            self._is_sending = False

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until there is room to send."""
        if self._is_sending:
            raise trio.BusyResourceError("another task is sending on this stream")
        await self._tls.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        """Say that we close, which waits at most CLOSE_S, and close the transport's stream."""
        with trio.move_on_after(CLOSE_S):
            await self._tls.aclose()
