from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from dispy.errors import TransportError
from dispy.interfaces import Address, Peer
from dispy.plugins import PluginManager
from dispy_testing.contracts import check_transport
from dispy_testing.memory import MemoryNetwork

NODE = Address("memory", "node1", 51348)


def run(main: Callable[..., Awaitable[None]], *arguments: object) -> None:
    """Run under a clock that jumps: no test here waits for real."""
    clock = trio.testing.MockClock(autojump_threshold=0)
    trio.run(main, *arguments, clock=clock, strict_exception_groups=True)


async def echo(stream: trio.abc.Stream, _peer: Peer) -> None:
    try:
        while data := await stream.receive_some():
            await stream.send_all(data)
    except trio.BrokenResourceError:
        await stream.aclose()


@pytest.mark.parametrize("delay_s", [0.0, 0.25])
def test_contract(delay_s: float) -> None:
    network = MemoryNetwork()
    network.delay_s = delay_s
    nobody = Address("memory", "node1", 1)
    run(check_transport, lambda: network.transport("node1"), NODE, nobody)
    run(check_transport, lambda: network.transport("node1"), Address("memory", ""), nobody)


def test_plugin_offers_the_transport_of_its_host() -> None:
    network = MemoryNetwork()

    async def main() -> None:
        client = PluginManager.load([network.plugin("laptop")], entry_points=[]).transport("memory")
        seen: list[Peer] = []

        async def note(_stream: trio.abc.Stream, peer: Peer) -> None:
            seen.append(peer)

        async with network.transport("node1").listen([NODE], note):
            stream, peer = await client.dial(NODE)
            assert await stream.receive_some() == b""
            await stream.aclose()
        assert peer == Peer("node1", is_local=False)
        assert seen == [Peer("laptop", is_local=False)]

    run(main)


def test_connections_within_a_host_are_local() -> None:
    network = MemoryNetwork()

    async def main() -> None:
        async with network.transport("node1").listen([NODE], echo):
            stream, peer = await network.transport("node1").dial(NODE)
            await stream.aclose()
        assert peer == Peer("node1", is_local=True)

    run(main)


def test_connections_come_from_the_own_host_only() -> None:
    network = MemoryNetwork()

    async def main() -> None:
        async with network.transport("node1").listen([NODE], echo):
            stream, _peer = await network.transport("laptop").dial(NODE, local_host="laptop")
            await stream.aclose()
            with pytest.raises(TransportError, match="desktop is not an address of this machine, laptop"):
                await network.transport("laptop").dial(NODE, local_host="desktop")

    run(main)


def test_delay_takes_time_both_ways() -> None:
    network = MemoryNetwork()

    async def main() -> None:
        async with network.transport("node1").listen([NODE], echo):
            network.delay_s = 2.0
            began = trio.current_time()
            stream, _ = await network.transport("laptop").dial(NODE)
            assert trio.current_time() - began == pytest.approx(2)
            await stream.send_all(b"ping")
            assert trio.current_time() - began == pytest.approx(2)
            assert await stream.receive_some() == b"ping"
            assert trio.current_time() - began == pytest.approx(6)
            await stream.aclose()

    run(main)


def test_partition_keeps_data_back_until_it_heals() -> None:
    network = MemoryNetwork()

    async def main() -> None:
        async with network.transport("node1").listen([NODE], echo):
            stream, _ = await network.transport("laptop").dial(NODE)
            other, _ = await network.transport("desktop").dial(NODE)
            network.partition("laptop", ["node1", "node2"])
            assert network.is_cut("node1", "laptop")
            await stream.send_all(b"ping")
            with trio.move_on_after(1000) as waited:
                await stream.receive_some()
            assert waited.cancelled_caught
            await other.send_all(b"pong")
            assert await other.receive_some() == b"pong"
            network.heal()
            assert not network.is_cut("node1", "laptop")
            assert await stream.receive_some() == b"ping"
            await stream.aclose()
            await other.aclose()

    run(main)


def test_dial_waits_while_a_partition_lasts() -> None:
    network = MemoryNetwork()

    async def main() -> None:
        client = network.transport("laptop")
        async with network.transport("node1").listen([NODE], echo), trio.open_nursery() as nursery:
            network.partition(["laptop"], "node1")
            with trio.move_on_after(1000) as waited:
                await client.dial(NODE)
            assert waited.cancelled_caught
            assert network.connections == 0

            async def heal_later() -> None:
                await trio.sleep(5)
                network.heal()

            nursery.start_soon(heal_later)
            began = trio.current_time()
            stream, _ = await client.dial(NODE)
            assert trio.current_time() - began == pytest.approx(5)
            await stream.aclose()

    run(main)


def test_closing_is_not_seen_through_a_partition() -> None:
    network = MemoryNetwork()

    async def main() -> None:
        async with network.transport("node1").listen([NODE], echo):
            stream, _ = await network.transport("laptop").dial(NODE)
            network.partition("laptop", "node1")
        # The node is gone, and has closed its end: the other end cannot know.
        await stream.send_all(b"are you there?")
        with trio.move_on_after(1000) as waited:
            await stream.receive_some()
        assert waited.cancelled_caught
        network.heal()
        with pytest.raises(trio.BrokenResourceError):
            await stream.send_all(b"are you there?")
        assert await stream.receive_some() == b""
        await stream.aclose()

    run(main)


def test_drop_breaks_the_connections_between_two_hosts() -> None:
    network = MemoryNetwork()

    async def main() -> None:
        async with network.transport("node1").listen([NODE], echo):
            stream, _ = await network.transport("laptop").dial(NODE)
            other, _ = await network.transport("desktop").dial(NODE)
            assert network.connections == 2
            await stream.send_all(b"lost")
            assert network.drop("laptop", "node1") == 1
            with pytest.raises(trio.BrokenResourceError):
                await stream.receive_some()
            with pytest.raises(trio.BrokenResourceError):
                await stream.send_all(b"more")
            await stream.aclose()
            await other.send_all(b"pong")
            assert await other.receive_some() == b"pong"
            again, _ = await network.transport("laptop").dial(NODE)
            await again.send_all(b"ping")
            assert await again.receive_some() == b"ping"
            await again.aclose()
            await other.aclose()

    run(main)


def test_drop_wakes_whoever_waits() -> None:
    network = MemoryNetwork()

    async def main() -> None:
        async with network.transport("node1").listen([NODE], echo), trio.open_nursery() as nursery:
            stream, _ = await network.transport("laptop").dial(NODE)

            async def wait_broken() -> None:
                with pytest.raises(trio.BrokenResourceError):
                    await stream.receive_some()

            nursery.start_soon(wait_broken)
            await trio.testing.wait_all_tasks_blocked()
            network.drop("node1", ["laptop", "desktop"])
        await stream.aclose()

    run(main)


def test_connections_are_forgotten_when_both_ends_are_closed() -> None:
    network = MemoryNetwork()

    async def main() -> None:
        async with network.transport("node1").listen([NODE], echo):
            stream, _ = await network.transport("laptop").dial(NODE)
            assert network.connections == 1
            await stream.aclose()
            await trio.testing.wait_all_tasks_blocked()
            assert network.connections == 0

    run(main)


def test_connection_that_nobody_took_is_closed() -> None:
    network = MemoryNetwork()

    async def main() -> None:
        async with network.transport("node1").listen([NODE], echo):
            stream = await network.connect("laptop", NODE)
        assert await stream.receive_some() == b""
        await stream.aclose()
        assert network.connections == 0

    run(main)


def test_ports_are_chosen_and_addresses_are_checked() -> None:
    network = MemoryNetwork()

    async def main() -> None:
        transport = network.transport("node1")
        any_port = Address("memory", "")
        async with transport.listen([any_port, any_port], echo) as bound:
            assert len({address.port for address in bound}) == 2
            assert {address.host for address in bound} == {"node1"}
            with pytest.raises(
                TransportError, match=f"port {bound[0].port} of node1 is in use: choose another"
            ):
                async with transport.listen([any_port, bound[0]], echo):
                    raise AssertionError("not reached")
        with pytest.raises(TransportError, match="node2 is not an address of this machine, node1"):
            async with transport.listen([Address("memory", "node2", 5)], echo):
                raise AssertionError("not reached")
        with pytest.raises(TransportError, match="nothing listens on memory:node1:"):
            await transport.dial(bound[0])

    run(main)
