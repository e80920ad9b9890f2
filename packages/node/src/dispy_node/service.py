"""Runs a node daemon that listens on the network, until it is told to end."""

from __future__ import annotations

import logging
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import trio

from dispy.interfaces import Address, Peer, Transport
from dispy.plugins import PluginManager
from dispy_node.avail import choose_cpus
from dispy_node.daemon import NodeDaemon, NodeIdentity
from dispy_node.settings import NodeSettings
from dispy_node.storage import StateFolder

log = logging.getLogger("dispy.node")

# A terminal that closes (SIGHUP) or its quit key must not take the node away without a word to its clients.
ENDS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
"""Signals that end the node."""

OPEN_WARNING = """\
THIS NODE IS OPEN: whoever can reach %s can run programs here as this user.
Connections are neither authenticated nor encrypted. Use --open only on a network where you trust everybody."""


async def serve(settings: NodeSettings) -> None:
    """Run a node until a signal of `ENDS` has drained it, or a second one ends it at once.

    Further signals change nothing: what is left to do then is short, and nobody else would do it.

    Raises:
        DispyError: the settings do not fit this machine, the folder is in use, or the port is.
    """
    cpus = choose_cpus(settings.cpus)
    addresses = settings.listen_addresses()
    plugins = PluginManager.load()
    transports = {address.scheme: plugins.transport(address.scheme) for address in addresses}
    state = StateFolder(settings.folder())
    identity = NodeIdentity(settings.node_name(), cpus, tuple(settings.ext_host) or tuple(settings.host))
    daemon = NodeDaemon(identity, state, plugins.executor)
    # The receiver stays until all is cleaned up; without it, a further signal would kill this process before.
    with trio.open_signal_receiver(*ENDS) as signals:
        async with trio.open_nursery() as watchers:
            at_once = trio.CancelScope()
            watchers.start_soon(_watch_signals, signals, daemon, at_once)
            try:
                with at_once:
                    await _serve(settings, daemon, addresses, transports, state)
            finally:
                with trio.CancelScope(shield=True):
                    await trio.to_thread.run_sync(state.close)
            watchers.cancel_scope.cancel()
        log.info("node %s has ended", identity.name)


async def _serve(
    settings: NodeSettings,
    daemon: NodeDaemon,
    addresses: list[Address],
    transports: dict[str, Transport],
    state: StateFolder,
) -> None:
    """Listen until a drain is complete."""

    async def handle(stream: trio.abc.Stream, peer: Peer) -> None:
        await daemon.serve_link(stream, peer)

    async with AsyncExitStack() as stack:
        nursery = await stack.enter_async_context(trio.open_nursery())
        bound: list[Address] = []
        for scheme, transport in transports.items():
            mine = [address for address in addresses if address.scheme == scheme]
            bound += await stack.enter_async_context(transport.listen(mine, handle))
        await nursery.start(daemon.run)
        where = ", ".join(str(address) for address in bound)
        if settings.open:
            log.warning(OPEN_WARNING, where)
        name, cpus = daemon.identity.name, daemon.identity.cpus
        log.info("node %s listens on %s with %d slots; its folder is %s", name, where, cpus, state.path)
        await daemon.drained.wait()
        nursery.cancel_scope.cancel()


async def _watch_signals(signals: AsyncIterator[int], daemon: NodeDaemon, at_once: trio.CancelScope) -> None:
    """Drain at the first signal, end at the second, and say so at each further one."""
    async for number in signals:
        name = signal.Signals(number).name
        if at_once.cancel_called or daemon.drained.is_set():
            log.info("%s: ending already", name)
        elif daemon.draining:
            log.warning("%s again: ending at once, running jobs are killed", name)
            at_once.cancel()
        else:
            log.info("%s: taking no more jobs, ending when those that run are done; again to end now", name)
            daemon.drain()
