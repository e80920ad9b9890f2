"""Who is dialled, when, and what happens when that fails; in memory and in virtual time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from itertools import pairwise
from typing import Any, ClassVar

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair, wait_all_tasks_blocked

from dispy import config
from dispy.errors import PluginNotInstalled, TransportError
from dispy.interfaces import API_VERSION, Address, Peer, Transport
from dispy.model import ComputationId
from dispy.runtime import dialer as dialing
from dispy.runtime.dialer import (
    LAST_PAUSE_S,
    LOCAL_TARGET,
    Dialer,
    Target,
    choose_local_host,
    dial_target,
)
from dispy.runtime.resolver import Resolver

ONE, TWO = ComputationId("1" * 32), ComputationId("2" * 32)
HERE = Target("net", "10.0.0.1", 7)
THERE = Target("net", "10.0.0.2", 7)


class Net(Transport):
    """Hosts in `up` answer, those in `mute` never do, the others refuse."""

    NAME: ClassVar[str] = "net"
    API_VERSION: ClassVar[int] = API_VERSION

    def __init__(self) -> None:
        self.up: set[str] = set()
        self.mute: set[str] = set()
        self.dialled: list[tuple[str, str | None, float]] = []

    async def dial(self, address: Address, *, local_host: str | None = None) -> tuple[trio.abc.Stream, Peer]:
        self.dialled.append((address.host, local_host, trio.current_time()))
        await trio.lowlevel.checkpoint()
        if address.host in self.mute:
            await trio.sleep_forever()
        if address.host not in self.up:
            raise TransportError(f"nothing listens on {address.host}")
        return memory_stream_pair()[0], Peer(address.host, is_local=False)

    def listen(
        self, addresses: Sequence[Address], handler: Callable[[trio.abc.Stream, Peer], Awaitable[None]]
    ) -> AbstractAsyncContextManager[Sequence[Address]]:
        raise NotImplementedError


class Scene:
    """A dialer, and what it did."""

    def __init__(self, nursery: trio.Nursery, resolver: Resolver) -> None:
        self.net = Net()
        self.reports: list[str] = []
        self.served: list[Target] = []
        self.closed: list[trio.abc.Stream] = []
        self.may_dial = True
        self.error: Exception | None = None
        self.serve_s = float("inf")
        self.dialer = Dialer(
            nursery,
            resolver,
            transport=self.transport,
            serve=self.serve,
            may_dial=lambda target: self.may_dial,
            report=self.reports.append,
        )

    def transport(self, scheme: str) -> Transport:
        if scheme != "net":
            raise PluginNotInstalled(f"the transport {scheme!r}", "tcp")
        return self.net

    async def serve(self, stream: trio.abc.Stream, peer: Peer, target: Target) -> str:
        self.served.append(target)
        if self.error is not None:
            raise self.error
        with trio.move_on_after(self.serve_s):
            await trio.sleep_forever()
        return "connection lost"


@pytest.fixture
def resolver() -> Iterator[Resolver]:
    made = Resolver()
    yield made
    made.close()


def run(resolver: Resolver, script: Callable[[Scene], Awaitable[None]]) -> Scene:
    async def main() -> Scene:
        async with trio.open_nursery() as nursery:
            scene = Scene(nursery, resolver)
            await script(scene)
            nursery.cancel_scope.cancel()
        return scene

    return trio.run(main, clock=MockClock(autojump_threshold=0), strict_exception_groups=True)


def test_target_is_dialled_once_for_all_that_want_it(resolver: Resolver) -> None:
    async def script(scene: Scene) -> None:
        scene.net.up.add("10.0.0.1")
        scene.dialer.want(HERE, ONE)
        scene.dialer.want(HERE, TWO)
        await trio.sleep(60)
        assert scene.served == [HERE]
        assert scene.dialer.targets[HERE].connected
        assert not scene.dialer.targets[HERE].failed
        assert scene.dialer.targets[HERE].wanted_by == {ONE, TWO}

    run(resolver, script)


def test_refused_target_is_tried_again_with_growing_pauses_until_it_is_there(resolver: Resolver) -> None:
    async def script(scene: Scene) -> None:
        scene.dialer.want(HERE, ONE)
        await trio.sleep(60)
        attempted = scene.dialer.targets[HERE]
        assert (attempted.failed, attempted.connected) == (True, False)
        assert attempted.last == "nothing listens on 10.0.0.1"
        times = [at for _host, _local, at in scene.net.dialled]
        pauses = [later - earlier for earlier, later in pairwise(times)]
        assert pauses[0] < 0.2
        assert max(pauses) <= LAST_PAUSE_S * 1.2
        assert min(pauses[-3:]) >= LAST_PAUSE_S * 0.8
        scene.net.up.add("10.0.0.1")
        await trio.sleep(LAST_PAUSE_S * 1.3)
        assert attempted.connected

    run(resolver, script)


def test_node_that_was_heard_of_is_dialled_at_once(resolver: Resolver) -> None:
    async def script(scene: Scene) -> None:
        scene.dialer.hurry(HERE)  # which nobody wants
        scene.dialer.want(HERE, ONE, addresses=["10.0.0.3"])
        await trio.sleep(60)
        scene.net.up.add("10.0.0.5")
        scene.dialer.want(HERE, ONE, addresses=["10.0.0.5"])
        scene.dialer.hurry(HERE)
        await trio.sleep(0.01)
        assert scene.dialer.targets[HERE].connected

    run(resolver, script)


def test_lost_link_is_made_again_at_once_if_it_had_lasted(resolver: Resolver) -> None:
    async def script(scene: Scene) -> None:
        scene.dialer.want(HERE, ONE)
        await trio.sleep(30)  # the pauses have grown
        scene.net.up.add("10.0.0.1")
        scene.serve_s = 10.0
        await trio.sleep(LAST_PAUSE_S * 1.3 + 10 + 0.2)
        assert len(scene.served) == 2

    run(resolver, script)


def test_unwanted_target_is_let_go(resolver: Resolver) -> None:
    async def script(scene: Scene) -> None:
        scene.net.up.update(("10.0.0.1", "10.0.0.2"))
        scene.dialer.want(HERE, ONE)
        scene.dialer.want(HERE, TWO)
        scene.dialer.want(THERE, ONE)
        await trio.sleep(1)
        scene.dialer.unwant(ONE)
        assert set(scene.dialer.targets) == {HERE}
        scene.dialer.unwant_target(HERE, TWO)
        assert not scene.dialer.targets
        await trio.sleep(60)
        assert len(scene.net.dialled) == 2

    run(resolver, script)


def test_target_that_is_gone_may_be_unwanted_again(resolver: Resolver) -> None:
    async def script(scene: Scene) -> None:
        scene.dialer.unwant_target(HERE, ONE)
        scene.dialer.want(HERE, ONE)
        scene.dialer.unwant_target(HERE, ONE)  # before its task has begun
        scene.dialer.unwant_target(HERE, ONE)
        await trio.sleep(60)
        assert scene.net.dialled == []

    run(resolver, script)


def test_nothing_is_dialled_while_the_node_is_reached_otherwise(resolver: Resolver) -> None:
    async def script(scene: Scene) -> None:
        scene.may_dial = False
        scene.dialer.want(HERE, ONE)
        await trio.sleep(60)
        assert scene.net.dialled == []
        assert "another address" in scene.dialer.targets[HERE].last
        scene.may_dial = True
        await trio.sleep(LAST_PAUSE_S * 1.3)
        assert scene.net.dialled

    run(resolver, script)


def test_bug_in_one_link_is_told_and_ends_that_link_only(
    resolver: Resolver, capsys: pytest.CaptureFixture[str]
) -> None:
    async def script(scene: Scene) -> None:
        scene.net.up.update(("10.0.0.1", "10.0.0.2"))
        scene.dialer.want(HERE, ONE)
        await trio.sleep(1)
        scene.error = RuntimeError("a bug")
        scene.dialer.want(THERE, ONE)
        await wait_all_tasks_blocked()
        assert scene.dialer.targets[HERE].connected
        assert not scene.dialer.targets[THERE].connected
        assert "internal error" in scene.dialer.targets[THERE].last
        scene.error = None
        await trio.sleep(1)
        assert scene.dialer.targets[THERE].connected

    scene = run(resolver, script)
    assert len(scene.reports) == 1
    assert "10.0.0.2:7" in scene.reports[0]
    assert "RuntimeError: a bug" in capsys.readouterr().out


def test_missing_transport_is_the_reason(resolver: Resolver) -> None:
    async def script(scene: Scene) -> None:
        scene.dialer.want(Target("warp", "/somewhere", 0), ONE)
        await wait_all_tasks_blocked()
        assert "pip install" in scene.dialer.targets[Target("warp", "/somewhere", 0)].last

    run(resolver, script)


class FakeEmbedded:
    """Stands for the node on this machine."""

    ended = 0
    error: OSError | None = None

    def __init__(self) -> None:
        self.stream, self.theirs = memory_stream_pair()
        self.peer = Peer("127.0.0.1", is_local=True)

    @classmethod
    def start(cls) -> FakeEmbedded:
        if cls.error is not None:
            raise cls.error
        return cls()

    async def wait_ended(self) -> None:
        await trio.lowlevel.checkpoint()
        type(self).ended += 1


def test_embedded_node_is_started_and_waited_for(resolver: Resolver, monkeypatch: pytest.MonkeyPatch) -> None:
    class Embedded(FakeEmbedded):
        pass

    monkeypatch.setattr(dialing, "EmbeddedNode", Embedded)

    async def script(scene: Scene) -> None:
        scene.dialer.want(LOCAL_TARGET, ONE)
        await wait_all_tasks_blocked()
        assert scene.served == [LOCAL_TARGET]
        node: Any = scene.dialer.embedded
        assert node is not None
        scene.dialer.unwant(ONE)
        await wait_all_tasks_blocked()
        assert scene.dialer.embedded is None
        with pytest.raises(trio.BrokenResourceError):
            await node.theirs.send_all(b"x")

    run(resolver, script)
    assert Embedded.ended == 1


def test_embedded_node_that_cannot_be_started_is_the_reason(
    resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Embedded(FakeEmbedded):
        error = OSError(11, "too many processes")

    monkeypatch.setattr(dialing, "EmbeddedNode", Embedded)

    async def script(scene: Scene) -> None:
        scene.dialer.want(LOCAL_TARGET, ONE)
        await wait_all_tasks_blocked()
        assert "too many processes" in scene.dialer.targets[LOCAL_TARGET].last

    run(resolver, script)


def test_addresses_of_a_name_are_tried_in_turn(resolver: Resolver, monkeypatch: pytest.MonkeyPatch) -> None:
    async def resolve(host: str) -> list[str]:
        await trio.lowlevel.checkpoint()
        return ["10.0.0.1", "10.0.0.2", "10.0.0.3"]

    monkeypatch.setattr(resolver, "resolve", resolve)
    monkeypatch.setattr(config, "MsgTimeout", 7.5)

    async def main() -> None:
        net = Net()
        net.mute.add("10.0.0.1")
        with pytest.raises(TransportError, match="nothing listens on 10.0.0.3"):
            await dial_target(Target("net", "name", 7), lambda scheme: net, resolver)
        assert trio.current_time() == pytest.approx(net.dialled[0][2] + 7.5)
        net.up.add("10.0.0.2")
        _stream, peer = await dial_target(Target("net", "name", 7), lambda scheme: net, resolver)
        assert peer.host == "10.0.0.2"

    trio.run(main, clock=MockClock(autojump_threshold=0), strict_exception_groups=True)


def test_name_without_an_address_and_path_that_is_mute(
    resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def resolve(host: str) -> list[str]:
        await trio.lowlevel.checkpoint()
        return []

    monkeypatch.setattr(resolver, "resolve", resolve)

    async def main() -> None:
        net = Net()
        with pytest.raises(TransportError, match="'name': it has no address"):
            await dial_target(Target("net", "name", 7), lambda scheme: net, resolver)
        net.mute.add("/run/node")
        with pytest.raises(TransportError, match="no answer from /run/node within"):
            await dial_target(Target("net", "/run/node", 0), lambda scheme: net, resolver)

    trio.run(main, clock=MockClock(autojump_threshold=0), strict_exception_groups=True)


@pytest.mark.parametrize(
    ("address", "local_hosts", "chosen"),
    [
        ("10.0.0.1", ["127.0.0.1", "10.1.1.1", "10.1.1.2"], "10.1.1.1"),
        ("127.0.0.9", ["10.1.1.1", "127.0.0.1"], "127.0.0.1"),
        ("10.0.0.1", ["127.0.0.1", "fe80::1"], None),
        ("::1", ["127.0.0.1", "::1"], "::1"),
        ("fe80::2%eth0", ["fe80::1"], "fe80::1"),
        ("10.0.0.1", [], None),
        ("/run/node", ["127.0.0.1"], None),
    ],
)
def test_connections_come_from_a_local_host_of_the_same_kind(
    address: str, local_hosts: list[str], chosen: str | None
) -> None:
    assert choose_local_host(address, local_hosts) == chosen


def test_local_hosts_of_the_first_that_gives_any_are_used(resolver: Resolver) -> None:
    async def script(scene: Scene) -> None:
        scene.dialer.want(HERE, ONE)
        scene.dialer.want(HERE, TWO, local_hosts=["10.1.1.1"])
        scene.dialer.want(HERE, TWO, local_hosts=["10.9.9.9"])
        await wait_all_tasks_blocked()
        assert [local for _host, local, _at in scene.net.dialled] == ["10.1.1.1"]

    run(resolver, script)


def test_of_several_addresses_one_that_leads_nowhere_is_not_waited_for() -> None:
    async def main() -> None:
        net, resolver = Net(), Resolver()
        net.up, net.mute = {"10.0.0.2"}, {"10.0.0.1"}
        try:
            began = trio.current_time()
            _, peer = await dial_target(
                HERE, lambda scheme: net, resolver, addresses=["10.0.0.1", "10.0.0.2", "10.0.0.3"]
            )
            assert peer.host == "10.0.0.2"
            assert trio.current_time() - began < 1
            assert [host for host, _, _ in net.dialled] == ["10.0.0.1", "10.0.0.2"]
        finally:
            resolver.close()

    trio.run(main, clock=MockClock(autojump_threshold=0), strict_exception_groups=True)


def test_of_several_addresses_the_first_tells_why_none_answers() -> None:
    async def main() -> None:
        resolver = Resolver()
        try:
            with pytest.raises(TransportError, match="no answer from 10.0.0.1:7 within 10 s"):
                net = Net()
                net.mute = {"10.0.0.1"}
                await dial_target(HERE, lambda scheme: net, resolver, addresses=["10.0.0.1", "10.0.0.3"])
        finally:
            resolver.close()

    trio.run(main, clock=MockClock(autojump_threshold=0), strict_exception_groups=True)
