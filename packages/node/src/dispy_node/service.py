"""Runs a node daemon that listens on the network, until it is told to end."""

from __future__ import annotations

import logging
import signal
from contextlib import AsyncExitStack

import trio

from dispy.interfaces import Address, Peer
from dispy.plugins import PluginManager
from dispy_node.avail import choose_cpus
from dispy_node.daemon import NodeDaemon, NodeIdentity
from dispy_node.settings import NodeSettings
from dispy_node.storage import StateFolder

log = logging.getLogger("dispy.node")

OPEN_WARNING = """\
THIS NODE IS OPEN: whoever can reach %s can run programs here as this user.
Connections are neither authenticated nor encrypted. Use --open only on a network where you trust everybody."""


async def serve(settings: NodeSettings) -> None:
    """Run a node until SIGTERM or SIGINT has drained it, or a second one ends it at once.

    Raises:
        DispyError: the settings do not fit this machine, the folder is in use, or the port is.
    """
    cpus = choose_cpus(settings.cpus)
    addresses = settings.listen_addresses()
    plugins = PluginManager.load()
    transports = {address.scheme: plugins.transport(address.scheme) for address in addresses}
    state = StateFolder(settings.folder())
    try:
        identity = NodeIdentity(settings.node_name(), cpus, tuple(settings.ext_host) or tuple(settings.host))
        async with AsyncExitStack() as stack:
            nursery = await stack.enter_async_context(trio.open_nursery())
            daemon = NodeDaemon(identity, state, plugins.executor)

            async def handle(stream: trio.abc.Stream, peer: Peer) -> None:
                await daemon.serve_link(stream, peer)

            bound: list[Address] = []
            for scheme, transport in transports.items():
                mine = [address for address in addresses if address.scheme == scheme]
                bound += await stack.enter_async_context(transport.listen(mine, handle))
            await nursery.start(daemon.run)
            where = ", ".join(str(address) for address in bound)
            if settings.open:
                log.warning(OPEN_WARNING, where)
            log.info("node %s listens on %s with %d slots; its folder is %s", identity.name, where, cpus, state.path)
            await _wait_for_end(daemon)
            nursery.cancel_scope.cancel()
        log.info("node %s has ended", identity.name)
    finally:
        state.close()


async def _wait_for_end(daemon: NodeDaemon) -> None:
    """Return when a drain is complete, or at the second signal."""
    # A terminal that closes (SIGHUP) or its quit key must not take the node away without a word to its clients.
    ends = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
    with trio.open_signal_receiver(*ends) as signals:
        async with trio.open_nursery() as nursery:

            async def watch() -> None:
                async for number in signals:
                    name = signal.Signals(number).name
                    if daemon.draining:
                        log.warning("%s again: ending at once, running jobs are killed", name)
                        nursery.cancel_scope.cancel()
                        return
                    log.info("%s: taking no more jobs, ending when those that run are done; again to end now", name)
                    daemon.drain()

            nursery.start_soon(watch)
            await daemon.drained.wait()
            nursery.cancel_scope.cancel()
