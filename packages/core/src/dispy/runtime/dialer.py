"""Keeps a link to every node address that some cluster names, for as long as one does.

A target is dialled at once, and again and again with growing pauses when it does not answer or is lost, so a
node that starts later, or restarts, is used then.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import trio

from dispy.errors import DispyError, TransportError
from dispy.interfaces import Address, Peer, Transport
from dispy.model import ComputationId
from dispy.runtime.embedded import LOCAL_HOST, EmbeddedNode
from dispy.runtime.resolver import Resolver

Target = tuple[str, str, int]
"""Scheme, host as the user wrote it, port."""

LOCAL_TARGET: Target = (LOCAL_HOST, LOCAL_HOST, 0)
"""Stands for the embedded node."""

FIRST_PAUSE_S = 0.1
LAST_PAUSE_S = 3.0
"""Pauses between attempts grow by half from the first to the last: a late node is found within seconds."""

DIAL_S = 5.0
"""A host that neither accepts nor refuses for so long counts as not there."""

Serve = Callable[[trio.abc.Stream, Peer, Target], Awaitable[str]]
"""Serves a connection until it ends, and returns why."""


@dataclass(slots=True)
class Attempted:
    """What is known about a target, for reports to the user."""

    wanted_by: set[ComputationId] = field(default_factory=set)
    connected: bool = False
    failed: bool = False
    """The latest attempt to reach it has failed."""
    last: str = "not tried yet"
    scope: trio.CancelScope | None = None


class Dialer:
    """Dials targets and serves the connections; runs inside the nursery it is given.

    Args:
        transport: gives the transport for a scheme, or raises PluginNotInstalled.
        serve: called with each new connection.
        may_dial: asked before each attempt; False while the node is reached by another address.
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

    def want(self, target: Target, computation: ComputationId) -> None:
        """Keep a link to *target* while *computation* lives."""
        attempted = self.targets.get(target)
        if attempted is None:
            attempted = self.targets[target] = Attempted()
            self._nursery.start_soon(self._keep_linked, target, attempted)
        attempted.wanted_by.add(computation)

    def unwant(self, computation: ComputationId) -> None:
        """Forget a computation; targets that nobody else wants are let go."""
        for target in list(self.targets):
            self.unwant_target(target, computation)

    def unwant_target(self, target: Target, computation: ComputationId) -> None:
        """Forget one target of a computation."""
        attempted = self.targets[target]
        attempted.wanted_by.discard(computation)
        if not attempted.wanted_by:
            del self.targets[target]
            if attempted.scope is not None:
                attempted.scope.cancel()

    async def _keep_linked(self, target: Target, attempted: Attempted) -> None:
        pause_s = FIRST_PAUSE_S
        with trio.CancelScope() as attempted.scope:
            while attempted.wanted_by:
                if self._may_dial(target):
                    began = trio.current_time()
                    attempted.last = await self._connect(target, attempted)
                    attempted.connected, attempted.failed = False, True
                    if trio.current_time() - began > LAST_PAUSE_S:
                        pause_s = FIRST_PAUSE_S
                # Jitter, so that a thousand clients of a node that restarts do not come at one moment.
                await trio.sleep(pause_s * random.uniform(0.8, 1.2))
                pause_s = min(pause_s * 1.5, LAST_PAUSE_S)

    async def _connect(self, target: Target, attempted: Attempted) -> str:
        try:
            if target == LOCAL_TARGET:
                return await self._serve_embedded(attempted)
            stream, peer = await self._dial(target)
        except (DispyError, OSError) as error:
            return str(error)
        attempted.connected, attempted.failed = True, False
        return await self._serve(stream, peer, target)

    async def _dial(self, target: Target) -> tuple[trio.abc.Stream, Peer]:
        scheme, host, port = target
        transport = self._transport(scheme)
        addresses = await self._resolver.resolve(host) if port else [host]
        error: TransportError | None = None
        for address in addresses:
            try:
                with trio.fail_after(DIAL_S):
                    return await transport.dial(Address(scheme, address, port))
            except trio.TooSlowError:
                error = TransportError(
                    f"no answer from {host}:{port} within {DIAL_S:g} s: is the machine on, "
                    f"and does its firewall let port {port} through?"
                )
            except TransportError as failed:
                error = failed
        assert error is not None  # a resolved name has at least one address
        raise error

    async def _serve_embedded(self, attempted: Attempted) -> str:
        node = EmbeddedNode.start()
        self.embedded = node
        attempted.connected, attempted.failed = True, False
        try:
            return await self._serve(node.stream, node.peer, LOCAL_TARGET)
        finally:
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(node.stream)
            await node.wait_ended()
            self.embedded = None
