"""Runs a node daemon that listens on the network, until it is told to end."""

from __future__ import annotations

import logging
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import trio

from dispy.errors import DispyError, SecurityError, UsageError
from dispy.interfaces import Address, Peer, Transport
from dispy.model import OPEN, AccessRole
from dispy.plugins import PluginManager
from dispy.runtime.door import Door, Visit
from dispy.runtime.trust import Trust, TrustStore, make_request, refuse_public
from dispy_node.addresses import listening_addresses
from dispy_node.avail import choose_cpus
from dispy_node.confine.confinement import Confinement
from dispy_node.control.client import end_other
from dispy_node.control.operator import Operator
from dispy_node.control.server import control_socket
from dispy_node.daemon import NodeDaemon, NodeIdentity
from dispy_node.presence import announce
from dispy_node.resources import parse_resources
from dispy_node.rules import local_time_s, make_rules
from dispy_node.settings import NodeSettings
from dispy_node.storage import StateFolder
from dispy_node.temporary import temporary_folder

log = logging.getLogger("dispy.node")

# A terminal that closes (SIGHUP) or its quit key must not take the node away without a word to its clients.
ENDS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
"""Signals that end the node."""

OPEN_WARNING = """\
THIS NODE IS OPEN: whoever can reach %s can run programs here as this user.
Connections are neither authenticated nor encrypted. Use --open only on a network where you trust everybody."""

HOMELESS = (
    "this user has no home folder, so the node's files are in %s, made anew and removed at its end; "
    "to keep who the node is, name a folder with --dest-path-prefix"
)


async def serve(settings: NodeSettings, secret: str | None = None, *, clean: bool = False) -> None:
    """Run a node until a signal of `ENDS` has drained it, or a second one ends it at once.

    Further signals change nothing: what is left to do then is short, and nobody else would do it.

    Args:
        secret: key or passphrase that clients must have too, if it was given; it is never saved with the settings.
        clean: end the node that uses the folder, with its jobs, if there is one.

    Raises:
        DispyError: the settings do not fit this machine, the folder is in use, or the port is.
    """
    folder = settings.folder()
    if folder is not None:
        if clean:
            await trio.to_thread.run_sync(end_other, folder)
        await _serve_in(folder, settings, secret)
        return
    with temporary_folder() as folder:
        log.warning(HOMELESS, folder)
        await _serve_in(folder, settings, secret)


async def _serve_in(folder: Path, settings: NodeSettings, secret: str | None) -> None:
    """Do as `serve`, with the node's state in *folder*."""
    cpus = choose_cpus(settings.cpus)
    rules = make_rules(settings, local_time_s())
    addresses = settings.listen_addresses()
    plugins = PluginManager.load()
    transports = {address.scheme: plugins.transport(address.scheme) for address in addresses}
    trust = choose_trust(settings, plugins, secret)
    confinement = Confinement.parse(settings.confine, plugins.executor, settings.secret_paths(), settings.env)
    max_file_bytes = settings.max_file_bytes()
    resources = parse_resources(settings.resource)
    state = StateFolder(folder)
    if rules.serve == 0:  # the folder is clean now
        state.close()
        return
    reachable = tuple(settings.ext_host) or tuple(settings.host)
    identity = NodeIdentity(settings.node_name(), cpus, reachable, resources)
    daemon = NodeDaemon(
        identity,
        state,
        plugins.executor,
        confinement,
        rules=rules,
        max_file_bytes=max_file_bytes,
        force_cleanup=settings.force_cleanup,
    )
    # The receiver stays until all is cleaned up; without it, a further signal would kill this process before.
    with trio.open_signal_receiver(*ENDS) as signals:
        async with trio.open_nursery() as watchers:
            at_once = trio.CancelScope()
            watchers.start_soon(_watch_signals, signals, daemon, at_once)
            try:
                with at_once:
                    if confinement.layers:
                        await trio.to_thread.run_sync(confinement.check, state)
                    announcing = partial(announce, settings, trust, plugins, state)
                    await _serve(daemon, trust, addresses, transports, state, announcing, at_once.cancel)
            finally:
                with trio.CancelScope(shield=True):
                    await trio.to_thread.run_sync(state.close)
            watchers.cancel_scope.cancel()
        log.info("node %s has ended", identity.name)


def choose_trust(settings: NodeSettings, plugins: PluginManager, secret: str | None = None) -> Trust:
    """Read keys and certificates as the settings say.

    Raises:
        UsageError: settings contradict each other.
        SecurityError: an open node would listen on a public address.
        CredentialsError: a key or certificate cannot be used.
        PluginNotInstalled: what is needed for them is not installed.
    """
    if settings.open and secret:
        raise UsageError("--open and --secret exclude each other: leave one of them out")
    request = make_request(
        AccessRole.NODE,
        secret=OPEN if settings.open else secret,
        secret_file=settings.secret_file,
        certfile=settings.certfile,
        keyfile=settings.keyfile,
        cafile=settings.cafile,
    )
    if settings.open:
        _refuse_public_addresses(settings)
    trust = TrustStore(plugins).get(request)
    trust.require()
    trust.check_role(AccessRole.NODE)
    return trust


def _refuse_public_addresses(settings: NodeSettings) -> None:
    """Let an open node listen on no address of the internet, whether it is named, or one of all that there are.

    Raises:
        SecurityError: it would.
    """
    for named in settings.listen_addresses():
        if named.port == 0 and named.host.startswith("/"):
            continue  # a path
        for address in listening_addresses(named.host):
            try:
                refuse_public(address, "--open")
            except SecurityError as error:
                if address == named.host:
                    raise
                raise SecurityError(
                    f"listening on {named.host}: {error}; or name addresses that are not public with -i"
                ) from None


async def _serve(
    daemon: NodeDaemon,
    trust: Trust,
    addresses: list[Address],
    transports: dict[str, Transport],
    state: StateFolder,
    announcing: Callable[[Sequence[Address]], Awaitable[None]],
    end: Callable[[], object],
) -> None:
    """Listen until a drain is complete.

    Args:
        announcing: lets clients find who listens at these addresses, until it is cancelled.
        end: ends the node at once.
    """
    door = Door(log)

    async def handle(stream: trio.abc.Stream, peer: Peer) -> None:
        try:
            if not await door.receive(partial(_receive, daemon, trust, door, stream, peer)):
                reason = "it did not prove who it is in time"
                door.tell_refusal(logging.INFO, "connection from %s refused: %s", peer.host, reason)
        finally:
            await trio.aclose_forcefully(stream)

    async with AsyncExitStack() as stack:
        nursery = await stack.enter_async_context(trio.open_nursery())
        bound: list[Address] = []
        for scheme, transport in transports.items():
            mine = [address for address in addresses if address.scheme == scheme]
            bound += await stack.enter_async_context(transport.listen(mine, handle))
        await nursery.start(daemon.run)
        operator = Operator(daemon, state, [str(address) for address in bound], end)
        await stack.enter_async_context(control_socket(state.path, operator.answer))
        where = ", ".join(str(address) for address in bound)
        if trust.is_open:
            log.warning(OPEN_WARNING, where)
        else:
            log.info("connections are secured by %s", trust.describe())
        name, cpus = daemon.identity.name, daemon.identity.cpus
        log.info("node %s listens on %s with %d slots; its folder is %s", name, where, cpus, state.path)
        nursery.start_soon(_announce_until_drain, daemon, announcing, bound)
        await daemon.drained.wait()
        nursery.cancel_scope.cancel()


async def _announce_until_drain(
    daemon: NodeDaemon, announcing: Callable[[Sequence[Address]], Awaitable[None]], bound: Sequence[Address]
) -> None:
    """Let clients find the node as long as it takes jobs."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(announcing, bound)
        await daemon.drain_begun.wait()
        nursery.cancel_scope.cancel()


async def _receive(
    daemon: NodeDaemon, trust: Trust, door: Door, stream: trio.abc.Stream, peer: Peer, visit: Visit
) -> None:
    """Let a client prove who it is, and serve it."""
    try:
        stream, known = await trust.accept(stream, peer)
    except SecurityError as error:
        door.tell_refusal(logging.WARNING, "connection from %s refused: %s", peer.host, error)
    except DispyError as error:  # a certificate file that was replaced by a bad one, say
        door.tell_refusal(logging.ERROR, "nobody can connect: %s", error)
    else:
        await daemon.serve_link(stream, known, visit=visit, door=door)


async def _watch_signals(signals: AsyncIterator[int], daemon: NodeDaemon, at_once: trio.CancelScope) -> None:
    """Drain at the first signal, end at the second, and say so at each further one."""
    async for number in signals:
        name = signal.Signals(number).name
        if at_once.cancel_called or daemon.drained.is_set():
            log.info("%s: ending already", name)
        elif daemon.drain_begun.is_set():
            log.warning("%s again: ending at once, running jobs are killed", name)
            at_once.cancel()
        else:
            log.info("%s: taking no more jobs, ending when those that run are done; again to end now", name)
            daemon.drain()
