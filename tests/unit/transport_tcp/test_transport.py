from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from dispy.errors import TransportError
from dispy.interfaces import Address, Peer
from dispy_testing.contracts import check_transport
from dispy_transport_tcp.transport import FULL_PAUSE_S, TcpTransport

LOOPBACK = Address("tcp", "127.0.0.1")
NOBODY = Address("tcp", "127.0.0.1", 1)


def run(main: Callable[[], Awaitable[None]]) -> None:
    trio.run(main, strict_exception_groups=True)


async def ignore(_stream: trio.abc.Stream, _peer: Peer) -> None:
    """Handle a connection by doing nothing."""


def socket_class() -> type[object]:
    """Return the class of trio's sockets, whose public name is that of an interface."""
    with trio.socket.socket() as probe:
        return type(probe)


class NoLookups(trio.abc.HostnameResolver):
    """A resolver that fails as a thread does while the interpreter ends."""

    async def getaddrinfo(self, *_args: object) -> list[object]:  # type: ignore[override]
        raise RuntimeError("can't create new thread at interpreter shutdown")

    async def getnameinfo(self, *_args: object) -> tuple[str, str]:  # type: ignore[override]
        raise AssertionError("names of addresses are never looked up")


class Names(NoLookups):
    """A resolver that knows one name."""

    def __init__(self, addresses: dict[str, list[str]]) -> None:
        self.addresses = addresses

    async def getaddrinfo(self, host: bytes, port: int, *_args: object) -> list[object]:  # type: ignore[override]
        addresses = self.addresses.get(host.decode())
        if addresses is None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [
            (
                socket.AF_INET6 if ":" in address else socket.AF_INET,
                socket.SOCK_STREAM,
                0,
                "",
                (address, port),
            )
            for address in addresses
        ]


def test_contract() -> None:
    trio.run(check_transport, TcpTransport, LOOPBACK, NOBODY, strict_exception_groups=True)


def test_contract_over_ipv6() -> None:
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError as error:
            pytest.skip(f"no IPv6 here: {error}")
    trio.run(check_transport, TcpTransport, Address("tcp", "::1"), Address("tcp", "::1", 1))


def test_loopback_is_local_and_unbuffered() -> None:
    async def main() -> None:
        seen: list[Peer] = []

        async def note(_stream: trio.abc.Stream, peer: Peer) -> None:
            seen.append(peer)

        async with TcpTransport().listen([LOOPBACK], note) as (bound,):
            stream, peer = await TcpTransport().dial(bound)
            assert isinstance(stream, trio.SocketStream)
            assert stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert await stream.receive_some() == b""  # the handler has returned
            await stream.aclose()
        assert [peer, *seen] == [Peer("127.0.0.1", is_local=True)] * 2

    run(main)


def test_connection_comes_from_the_local_host_that_is_given() -> None:
    async def main() -> None:
        seen: list[Peer] = []

        async def note(_stream: trio.abc.Stream, peer: Peer) -> None:
            seen.append(peer)

        async with TcpTransport().listen([LOOPBACK], note) as (bound,):
            stream, _peer = await TcpTransport().dial(bound, local_host="127.0.0.9")
            assert await stream.receive_some() == b""
            await stream.aclose()
        assert seen == [Peer("127.0.0.9", is_local=True)]

    run(main)


@pytest.mark.parametrize("local_host", ["192.0.2.1", "::1"])
def test_local_host_that_cannot_be_used_is_told(local_host: str) -> None:
    async def main() -> None:
        async with TcpTransport().listen([LOOPBACK], ignore) as (bound,):
            with pytest.raises(
                TransportError, match=f"from {local_host}, which is not an address of this machine"
            ):
                await TcpTransport().dial(bound, local_host=local_host)

    run(main)


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("10.0.0.1", False),
        ("::ffff:10.0.0.1", False),
        ("fe80::1%eth0", False),
    ],
)
def test_only_loopback_is_local(host: str, local: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with TcpTransport().listen([LOOPBACK], ignore) as (bound,):
            with monkeypatch.context() as patch:
                patch.setattr(socket_class(), "getpeername", lambda _self: (host, 1))
                stream, peer = await TcpTransport().dial(bound)
            await stream.aclose()
            assert peer == Peer(host, is_local=local)

    run(main)


def test_numeric_hosts_are_not_looked_up() -> None:
    async def main() -> None:
        trio.socket.set_custom_hostname_resolver(NoLookups())
        async with TcpTransport().listen([LOOPBACK], ignore) as (bound,):
            stream, _ = await TcpTransport().dial(bound)
            await stream.aclose()

    run(main)


def test_name_that_cannot_be_looked_up_while_the_program_ends() -> None:
    async def main() -> None:
        trio.socket.set_custom_hostname_resolver(NoLookups())
        with pytest.raises(
            TransportError, match="'node1' cannot be looked up while the program ends: use its"
        ):
            await TcpTransport().dial(Address("tcp", "node1", 51348))

    run(main)


def test_all_addresses_of_a_name_are_tried() -> None:
    async def main() -> None:
        trio.socket.set_custom_hostname_resolver(Names({"node1": ["127.0.0.9", "127.0.0.1"]}))
        async with TcpTransport().listen([LOOPBACK], ignore) as (bound,):
            stream, peer = await TcpTransport().dial(Address("tcp", "node1", bound.port))
            assert peer.host == "127.0.0.1"
            await stream.aclose()
            with pytest.raises(
                TransportError, match="nothing listens on node1:1: is `dispy node` running there"
            ):
                await TcpTransport().dial(Address("tcp", "node1", 1))

    run(main)


def test_unknown_host() -> None:
    async def main() -> None:
        trio.socket.set_custom_hostname_resolver(Names({}))
        for name in ("nowhere", "x" * 300, "a..b", "nul\0l"):
            with pytest.raises(TransportError, match="unknown host"):
                await TcpTransport().dial(Address("tcp", name, 51348))
        with pytest.raises(TransportError, match="unknown host 'nowhere'"):
            async with TcpTransport().listen([Address("tcp", "nowhere", 0)], ignore):
                raise AssertionError("not reached")

    run(main)


@pytest.mark.parametrize(
    "address", [Address("tcp", "127.0.0.1", 0), Address("tcp", "127.0.0.1", 70000), Address("tcp", "", 5)]
)
def test_address_that_cannot_be_dialled(address: Address) -> None:
    async def main() -> None:
        with pytest.raises(TransportError, match="needs a host and a port from 1 to 65535"):
            await TcpTransport().dial(address)

    run(main)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (Address("tcp", "127.0.0.1", 70000), "choose a port from 1 to 65535"),
        (Address("tcp", "192.0.2.1", 0), "192.0.2.1 is not an address of this machine"),
    ],
)
def test_address_that_cannot_be_listened_on(address: Address, message: str) -> None:
    async def main() -> None:
        with pytest.raises(TransportError, match=message):
            async with TcpTransport().listen([LOOPBACK, address], ignore):
                raise AssertionError("not reached")

    run(main)


def test_port_in_use() -> None:
    async def main() -> None:
        async with TcpTransport().listen([LOOPBACK], ignore) as (bound,):
            with pytest.raises(
                TransportError, match=f"port {bound.port} of 127.0.0.1 is in use: does another node"
            ):
                async with TcpTransport().listen([bound], ignore):
                    raise AssertionError("not reached")

    run(main)


def test_empty_host_listens_everywhere() -> None:
    async def main() -> None:
        async with TcpTransport().listen([Address("tcp", "")], ignore) as bound:
            (port,) = [address.port for address in bound if address.host == "0.0.0.0"]
            stream, _ = await TcpTransport().dial(Address("tcp", "127.0.0.1", port))
            await stream.aclose()

    run(main)


def test_listening_survives_a_full_process(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    accept = trio.SocketListener.accept
    failures = [OSError(errno.EMFILE, "Too many open files"), OSError(errno.ENFILE, "File table overflow")]

    async def scarce(listener: trio.SocketListener) -> trio.SocketStream:
        if failures:
            await trio.lowlevel.checkpoint()
            raise failures.pop(0)
        return await accept(listener)

    async def main() -> None:
        began = trio.current_time()
        async with TcpTransport().listen([LOOPBACK], ignore) as (bound,):
            stream, _ = await TcpTransport().dial(bound)
            assert await stream.receive_some() == b""
            await stream.aclose()
        assert trio.current_time() - began >= 2 * FULL_PAUSE_S

    monkeypatch.setattr(trio.SocketListener, "accept", scarce)
    with caplog.at_level(logging.WARNING, "dispy"):
        trio.run(main, clock=trio.testing.MockClock(rate=1000))
    (message,) = caplog.messages
    assert (
        "takes no more connections for now: Too many open files; raise the limit with: ulimit -n" in message
    )


def test_other_errors_of_accept_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(_listener: trio.SocketListener) -> trio.SocketStream:
        await trio.lowlevel.checkpoint()
        raise OSError(errno.EIO, "Input/output error")

    async def main() -> None:
        async with TcpTransport().listen([LOOPBACK], ignore):
            await trio.sleep_forever()

    monkeypatch.setattr(trio.SocketListener, "accept", broken)
    with pytest.RaisesGroup(OSError):
        run(main)


def test_connection_that_is_gone_at_once_is_not_handled(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        handled: list[Peer] = []

        async def note(_stream: trio.abc.Stream, peer: Peer) -> None:
            handled.append(peer)

        def gone(_self: object) -> None:
            raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")

        async with TcpTransport().listen([LOOPBACK], note) as (bound,):
            with monkeypatch.context() as patch:
                patch.setattr(socket_class(), "getpeername", gone)
                with pytest.raises(TransportError, match="not connected"):
                    await TcpTransport().dial(bound)
                await trio.testing.wait_all_tasks_blocked(0.01)
            assert handled == []
            stream, _ = await TcpTransport().dial(bound)
            assert await stream.receive_some() == b""
            await stream.aclose()
            assert len(handled) == 1

    run(main)


def test_what_a_handler_raises_ends_the_context() -> None:
    async def fail(_stream: trio.abc.Stream, _peer: Peer) -> None:
        raise ZeroDivisionError

    async def main() -> None:
        async with TcpTransport().listen([LOOPBACK], fail) as (bound,):
            stream, _ = await TcpTransport().dial(bound)
            async with stream:
                await trio.sleep_forever()

    with pytest.RaisesGroup(ZeroDivisionError):
        run(main)
