"""Asking nodes who they are, over memory streams and in virtual time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import ClassVar

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair

from dispy import config
from dispy.errors import PluginNotInstalled, TransportError
from dispy.interfaces import API_VERSION, Address, Peer, Transport
from dispy.model import LinkId, Role
from dispy.runtime.dialer import LOCAL_TARGET, Target
from dispy.runtime.greeting import make_hello
from dispy.runtime.link import Link
from dispy.runtime.probe import GOODBYE, Probed, probe_all, probe_nodes
from dispy.runtime.resolver import Resolver
from dispy.runtime.trust import ANYBODY
from dispy.wire.rights import EVERYTHING
from dispy.wire.session import PeerLeft, Session, SessionEvent

Host = Callable[[trio.abc.Stream], Awaitable[None]]


class Net(Transport):
    """A network in memory: address -> what serves a connection there; others refuse."""

    NAME: ClassVar[str] = "net"
    API_VERSION: ClassVar[int] = API_VERSION

    def __init__(self, nursery: trio.Nursery, hosts: dict[str, Host]) -> None:
        self.nursery = nursery
        self.hosts = hosts
        self.dialled: list[Address] = []

    async def dial(self, address: Address, *, local_host: str | None = None) -> tuple[trio.abc.Stream, Peer]:
        self.dialled.append(address)
        await trio.lowlevel.checkpoint()
        if address.host not in self.hosts:
            raise TransportError(f"nothing listens on {address.host}")
        ours, theirs = memory_stream_pair()
        self.nursery.start_soon(self.hosts[address.host], theirs)
        return ours, Peer(address.host, is_local=True, identity=ANYBODY)

    def listen(
        self, addresses: Sequence[Address], handler: Callable[[trio.abc.Stream, Peer], Awaitable[None]]
    ) -> AbstractAsyncContextManager[Sequence[Address]]:
        raise NotImplementedError


class FakeNode:
    """Greets as a node, or as whatever it is told to be, and keeps what it hears."""

    def __init__(self, name: str, role: Role = Role.NODE) -> None:
        self.name = name
        self.role = role
        self.heard: list[SessionEvent] = []
        self.reason = ""

    async def __call__(self, stream: trio.abc.Stream) -> None:
        hello = make_hello(self.role, "1" * 32, name=self.name, cpus=3)
        session = Session(hello, now=trio.current_time(), accepts=frozenset({Role.CLIENT}), roles=EVERYTHING)
        link = Link(LinkId(1), stream, Peer("client", is_local=True), session)
        self.reason = await link.run(lambda _link, events: self.heard.extend(events))


async def say_nothing(stream: trio.abc.Stream) -> None:
    await trio.sleep_forever()


async def talk_http(stream: trio.abc.Stream) -> None:
    await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    await stream.aclose()


@pytest.fixture
def resolver() -> Iterator[Resolver]:
    """Give a resolver."""
    made = Resolver()
    yield made
    made.close()


def probe(resolver: Resolver, hosts: dict[str, Host], *names: str) -> tuple[list[Probed], Net, float]:
    """Probe hosts; return the answers, the network, and how many seconds it took."""

    async def main() -> tuple[list[Probed], Net, float]:
        async with trio.open_nursery() as nursery:
            net = Net(nursery, hosts)
            began = trio.current_time()
            found = await probe_all([Target("net", name, 7) for name in names], lambda scheme: net, resolver)
            took_s = trio.current_time() - began
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        return found, net, took_s

    return trio.run(main, clock=MockClock(autojump_threshold=0), strict_exception_groups=True)


def test_node_tells_about_itself_and_is_left_in_good_order(resolver: Resolver) -> None:
    node = FakeNode("workhorse")
    (found,), net, _took = probe(resolver, {"10.0.0.1": node}, "10.0.0.1")
    assert found.target == Target("net", "10.0.0.1", 7)
    assert (found.host, found.reason) == ("10.0.0.1", "")
    assert found.hello is not None
    assert (found.hello.name, found.hello.cpus) == ("workhorse", 3)
    assert net.dialled == [Address("net", "10.0.0.1", 7)]
    assert node.heard[-1] == PeerLeft(GOODBYE, True)


def test_answers_come_in_the_order_of_the_questions(resolver: Resolver) -> None:
    hosts: dict[str, Host] = {"10.0.0.1": say_nothing, "10.0.0.3": FakeNode("third")}
    found, _net, _took = probe(resolver, hosts, "10.0.0.1", "10.0.0.2", "10.0.0.3")
    assert [answer.target[1] for answer in found] == ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
    assert [answer.hello is not None for answer in found] == [False, False, True]
    assert found[1].reason == "nothing listens on 10.0.0.2"


def test_who_says_nothing_is_given_up_in_time(resolver: Resolver) -> None:
    (found,), _net, took_s = probe(resolver, {"10.0.0.1": say_nothing}, "10.0.0.1")
    assert found.hello is None
    assert found.reason
    assert 1 < took_s < 10


def test_foreign_bytes_are_told(resolver: Resolver) -> None:
    (found,), _net, _took = probe(resolver, {"10.0.0.1": talk_http}, "10.0.0.1")
    assert found.hello is None
    assert "dispy" in found.reason


def test_another_client_is_no_node(resolver: Resolver) -> None:
    (found,), _net, _took = probe(resolver, {"10.0.0.1": FakeNode("other", Role.CLIENT)}, "10.0.0.1")
    assert found.hello is None
    assert "expects a node" in found.reason


def test_all_addresses_of_a_name_are_tried(resolver: Resolver, monkeypatch: pytest.MonkeyPatch) -> None:
    async def resolve(host: str) -> list[str]:
        await trio.lowlevel.checkpoint()
        return ["10.0.0.1", "10.0.0.2"]

    monkeypatch.setattr(resolver, "resolve", resolve)
    (found,), net, _took = probe(resolver, {"10.0.0.2": FakeNode("second")}, "name.example")
    assert [address.host for address in net.dialled] == ["10.0.0.1", "10.0.0.2"]
    assert found.host == "10.0.0.2"


def test_host_that_does_not_answer_is_given_up(resolver: Resolver, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(
        self: Net, address: Address, *, local_host: str | None = None
    ) -> tuple[trio.abc.Stream, Peer]:
        await trio.sleep_forever()
        raise AssertionError

    monkeypatch.setattr(Net, "dial", never)
    (found,), _net, took_s = probe(resolver, {}, "10.0.0.1")
    assert took_s == pytest.approx(config.MsgTimeout)
    assert "no answer from 10.0.0.1:7 within 10 s" in found.reason


def test_local_node_cannot_be_asked() -> None:
    (found,) = probe_nodes([LOCAL_TARGET], no_transport)
    assert found.hello is None
    assert "started by each program" in found.reason


def test_transport_that_is_not_installed_is_the_reason() -> None:
    (found,) = probe_nodes([Target("warp", "/some/where", 0)], no_transport)
    assert "pip install" in found.reason


def no_transport(scheme: str) -> Transport:
    raise PluginNotInstalled(f"the transport {scheme!r}", "tcp")
