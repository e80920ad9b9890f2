"""Keeps a link to every node address that some cluster names, for as long as one does.

A target is dialled at once, and again and again with growing pauses when it does not answer or is lost, so a
node that starts later, or restarts, is used then.
"""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NamedTuple

import trio

from dispy import config
from dispy.errors import CredentialsError, DispyError, PluginError, SecurityError, TransportError
from dispy.interfaces import Address, Peer, Transport
from dispy.logger import logger
from dispy.model import ComputationId
from dispy.runtime.embedded import LOCAL_HOST, EmbeddedNode
from dispy.runtime.racing import first_of
from dispy.runtime.resolver import Resolver
from dispy.runtime.trust import OWN_CHILD, Trust


class Target(NamedTuple):
    """Where a node is, and what is asked of it.

    Attributes:
        host: as the user wrote it, or a path.
        port: 0 where there is none.
        trust: what both sides prove; None for the embedded node, which nobody else can reach.
    """

    scheme: str
    host: str
    port: int
    trust: Trust | None = None

    @property
    def place(self) -> tuple[str, int]:
        """Host and port, by which the engine knows a target."""
        return self.host, self.port

    def __str__(self) -> str:
        if self == LOCAL_TARGET:
            return "this machine"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}" if self.port else self.host


LOCAL_TARGET = Target(LOCAL_HOST, LOCAL_HOST, 0)
"""Stands for the embedded node."""

NOT_TRIED = "not tried yet"

FIRST_PAUSE_S = 0.1
LAST_PAUSE_S = 3.0
"""Pauses between attempts grow by half from the first to the last: a late node is found within seconds."""

Serve = Callable[[trio.abc.Stream, Peer, Target], Awaitable[str]]
"""Serves a connection until it ends, and returns why."""


@dataclass(slots=True)
class Attempted:
    """What is known about a target, for reports to the user."""

    wanted_by: set[ComputationId] = field(default_factory=set)
    connected: bool = False
    failed: bool = False
    """The latest attempt to reach it has failed."""
    refused: bool = False
    """It failed since one side does not accept the other, which trying again does not mend."""
    last: str = NOT_TRIED
    local_hosts: Sequence[str] = ()
    """Addresses of this machine to dial from, where one fits."""
    addresses: Sequence[str] = ()
    """Addresses to try; empty: those of the host's name."""
    hurry: trio.Event = field(default_factory=trio.Event)
    """Set when the pause before the next attempt is not to be waited for."""
    scope: trio.CancelScope | None = None


async def dial_target(
    target: Target,
    transport: Callable[[str], Transport],
    resolver: Resolver,
    *,
    local_hosts: Sequence[str] = (),
    addresses: Sequence[str] = (),
) -> tuple[trio.abc.Stream, Peer]:
    """Connect to the first address of a target that answers within `dispy.config.MsgTimeout`.

    *addresses* are tried almost at the same time, if they are given: of a machine with several, some may lead nowhere
    from here. Cancellation leaves nothing open.

    Raises:
        DispyError: none does (the message is about the last that was tried), or the transport is not there.
    """
    attempt = partial(_dial_address, target, transport(target.scheme), local_hosts)
    if addresses:
        return await first_of([partial(attempt, address) for address in addresses], _close)
    last = TransportError(f"unknown host {target.host!r}: it has no address")
    for address in await resolver.resolve(target.host) if target.port else [target.host]:
        try:
            return await attempt(address)
        except TransportError as error:
            last = error
    raise last


async def _dial_address(
    target: Target, transport: Transport, local_hosts: Sequence[str], address: str
) -> tuple[trio.abc.Stream, Peer]:
    """Connect to one address of a target within `dispy.config.MsgTimeout`, or raise a TransportError."""
    scheme, host, port, _trust = target
    timeout_s = config.msg_timeout_s()
    try:
        with trio.fail_after(timeout_s):
            return await transport.dial(
                Address(scheme, address, port), local_host=choose_local_host(address, local_hosts)
            )
    except trio.TooSlowError:
        place = f"{host}:{port}" if port else host
        raise TransportError(
            f"no answer from {place} within {timeout_s:g} s: is the machine on, and does its firewall let "
            f"{f'port {port}' if port else 'it'} through?"
        ) from None


async def _close(connection: tuple[trio.abc.Stream, Peer]) -> None:
    await trio.aclose_forcefully(connection[0])


async def connect_target(
    target: Target,
    transport: Callable[[str], Transport],
    resolver: Resolver,
    *,
    local_hosts: Sequence[str] = (),
    addresses: Sequence[str] = (),
) -> tuple[trio.abc.Stream, Peer]:
    """Do as `dial_target`, and have both sides prove who they are.

    Raises:
        SecurityError: one does not accept the other.
        DispyError: as `dial_target`, or a key or certificate cannot be used.
    """
    dial = partial(dial_target, target, transport, resolver, local_hosts=local_hosts, addresses=addresses)
    return await dial() if target.trust is None else await target.trust.connect(dial)


def choose_local_host(address: str, local_hosts: Sequence[str]) -> str | None:
    """Return the first of *local_hosts* that connections to *address* can come from, None if none can.

    It can if both are IPv4 or both IPv6, and both are of loopback or neither is. *local_hosts* are addresses.
    """
    kind = _kind(address)
    return None if kind is None else next((host for host in local_hosts if _kind(host) == kind), None)


def _kind(address: str) -> tuple[int, bool] | None:
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return None  # of a transport that has no such addresses
    return parsed.version, parsed.is_loopback


class Dialer:
    """Dials targets and serves the connections; runs inside the nursery it is given.

    Args:
        transport: gives the transport for a scheme, or raises PluginNotInstalled.
        serve: called with each new connection.
        may_dial: asked before each attempt; False while the node is reached by another address.
        report: called with what the user should know.
    """

    def __init__(
        self,
        nursery: trio.Nursery,
        resolver: Resolver,
        *,
        transport: Callable[[str], Transport],
        serve: Serve,
        may_dial: Callable[[Target], bool],
        report: Callable[[str], None],
    ) -> None:
        self._nursery = nursery
        self._resolver = resolver
        self._transport = transport
        self._serve = serve
        self._may_dial = may_dial
        self._report = report
        self.targets: dict[Target, Attempted] = {}
        self.embedded: EmbeddedNode | None = None

    def want(
        self,
        target: Target,
        computation: ComputationId,
        *,
        local_hosts: Sequence[str] = (),
        addresses: Sequence[str] = (),
    ) -> None:
        """Keep a link to *target* while *computation* lives.

        It is shared by all that want it; the first that gives *local_hosts* decides where it comes from, and the last
        that gives *addresses* where they are tried.
        """
        attempted = self.targets.get(target)
        if attempted is None:
            attempted = self.targets[target] = Attempted()
            self._nursery.start_soon(self._keep_linked, target, attempted)
        attempted.wanted_by.add(computation)
        attempted.local_hosts = attempted.local_hosts or tuple(local_hosts)
        attempted.addresses = tuple(addresses) or attempted.addresses

    def hurry(self, target: Target) -> None:
        """Make the next attempt at once, if one is waited for: the node there has been heard of."""
        attempted = self.targets.get(target)
        if attempted is not None:
            attempted.hurry.set()

    def unwant(self, computation: ComputationId) -> None:
        """Forget a computation; targets that nobody else wants are let go."""
        for target in list(self.targets):
            self.unwant_target(target, computation)

    def unwant_target(self, target: Target, computation: ComputationId) -> None:
        """Forget one target of a computation, if it is there."""
        attempted = self.targets.get(target)
        if attempted is None:
            return
        attempted.wanted_by.discard(computation)
        if not attempted.wanted_by:
            del self.targets[target]
            if attempted.scope is not None:
                attempted.scope.cancel()

    async def _keep_linked(self, target: Target, attempted: Attempted) -> None:
        pause_s = FIRST_PAUSE_S
        with trio.CancelScope() as attempted.scope:
            while attempted.wanted_by:
                if not self._may_dial(target):
                    attempted.last = "the node there is already connected under another address"
                else:
                    began = trio.current_time()
                    attempted.last = await self._connect(target, attempted)
                    attempted.connected, attempted.failed = False, True
                    if trio.current_time() - began > LAST_PAUSE_S:
                        pause_s = FIRST_PAUSE_S
                attempted.hurry = trio.Event()
                # Jitter, so that a thousand clients of a node that restarts do not come at one moment.
                with trio.move_on_after(pause_s * random.uniform(0.8, 1.2)):
                    await attempted.hurry.wait()
                pause_s = FIRST_PAUSE_S if attempted.hurry.is_set() else min(pause_s * 1.5, LAST_PAUSE_S)

    async def _connect(self, target: Target, attempted: Attempted) -> str:
        """Make one attempt; return why it failed, or why the link that it made has ended.

        What one link raises ends that link only: this is the place of a client that catches everything.
        """
        reason = "internal error; see the log"
        try:
            reason = await self._open_and_serve(target, attempted)
        except* Exception:
            logger.exception("a bug in dispy, or in a plugin, has ended the link to %s", target)
            self._report(
                f"the link to {target} has ended by an internal error; it is made again (see the log)"
            )
        return reason

    async def _open_and_serve(self, target: Target, attempted: Attempted) -> str:
        try:
            node = EmbeddedNode.start() if target == LOCAL_TARGET else None
            stream, peer = (
                (node.stream, replace(node.peer, identity=OWN_CHILD))
                if node is not None
                else await connect_target(
                    target,
                    self._transport,
                    self._resolver,
                    local_hosts=attempted.local_hosts,
                    addresses=attempted.addresses,
                )
            )
        except (SecurityError, CredentialsError, PluginError) as error:
            attempted.refused = True
            if attempted.last != str(error):  # it is said at once, and once
                self._report(f"{target}: {error}")
            return str(error)
        except (DispyError, OSError) as error:
            attempted.refused = False
            return str(error)
        attempted.connected, attempted.failed, attempted.refused = True, False, False
        if attempted.last == NOT_TRIED:
            attempted.last = "it answers, but has not greeted yet"
        self.embedded = node or self.embedded
        try:
            return await self._serve(stream, peer, target)
        finally:
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(stream)
                if node is not None:
                    await node.wait_ended()
                    self.embedded = None
