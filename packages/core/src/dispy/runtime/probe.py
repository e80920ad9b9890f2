"""Asks nodes who they are: greets, listens to the greeting that comes back, and says goodbye.

Nothing is assigned and nothing is left behind; a node logs that a client came and left.
"""

from __future__ import annotations

import os
import platform
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import trio

from dispy.errors import DispyError
from dispy.interfaces import Peer, Transport
from dispy.model import LinkId, Role
from dispy.runtime.dialer import LOCAL_TARGET, Target, connect_target
from dispy.runtime.greeting import make_hello
from dispy.runtime.link import Link
from dispy.runtime.resolver import Resolver
from dispy.runtime.trust import roles_of
from dispy.wire.messages import Hello
from dispy.wire.session import Greeted, Session, SessionEvent

GOODBYE = "it only asked what is here"


@dataclass(frozen=True, slots=True)
class Probed:
    """What is known about a target after a probe.

    Attributes:
        hello: the node's greeting; None if there is no node.
        host: the address that it was reached at; empty if none answered.
        reason: why there is no greeting, and what to do; empty if there is one.
    """

    target: Target
    hello: Hello | None
    host: str
    reason: str


def probe_nodes(targets: Sequence[Target], transport: Callable[[str], Transport]) -> list[Probed]:
    """Probe all targets at once, in an event loop of its own; return one answer for each, in order.

    It takes at most the time for dialling each address of a host, and for a greeting (5 s each).

    Args:
        transport: gives the transport for a scheme, or raises a DispyError.
    """
    resolver = Resolver()
    try:
        return trio.run(probe_all, targets, transport, resolver, strict_exception_groups=True)
    finally:
        resolver.close()


async def probe_all(
    targets: Sequence[Target], transport: Callable[[str], Transport], resolver: Resolver
) -> list[Probed]:
    """Do the work of `probe_nodes`. Cancellation leaves nothing open."""
    found: dict[int, Probed] = {}

    async def probe(place: int, target: Target) -> None:
        found[place] = await probe_node(target, transport, resolver)

    async with trio.open_nursery() as nursery:
        for place, target in enumerate(targets):
            nursery.start_soon(probe, place, target)
    return [found[place] for place in range(len(targets))]


async def probe_node(target: Target, transport: Callable[[str], Transport], resolver: Resolver) -> Probed:
    """Probe one target. Cancellation leaves nothing open."""
    if target == LOCAL_TARGET:
        reason = "a node of this kind is started by each program that uses it, and ends with the program"
        return Probed(target, None, "", reason)
    try:
        stream, peer = await connect_target(target, transport, resolver)
    except DispyError as error:
        return Probed(target, None, "", str(error))
    hello, reason = await _greet(stream, peer)
    return Probed(target, hello, peer.host, reason)


async def _greet(stream: trio.abc.Stream, peer: Peer) -> tuple[Hello | None, str]:
    """Return the greeting of who is there, or None and why there is none."""
    hello = make_hello(Role.CLIENT, uuid.uuid4().hex, name=f"{platform.node()}:{os.getpid()}")
    session = Session(hello, now=trio.current_time(), accepts=frozenset({Role.NODE}), roles=roles_of(peer))

    def receive(link: Link, events: Sequence[SessionEvent]) -> None:
        if any(isinstance(event, Greeted) for event in events):
            link.close_soon(GOODBYE, final=True)

    reason = await Link(LinkId(1), stream, peer, session).run(receive)
    return session.peer, "" if session.peer else reason
