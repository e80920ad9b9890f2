"""Lets clients find this node."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Sequence

import trio

from dispy import config
from dispy.discovery import Discovery, DiscoveryScope, Presence
from dispy.errors import DispyError
from dispy.interfaces import Address
from dispy.plugins import PluginManager
from dispy.runtime.trust import Trust
from dispy_node.settings import NodeSettings
from dispy_node.storage import StateFolder

log = logging.getLogger("dispy.node")

NOT_FOUND = "clients find this node only if they name it: %s"


def make_scope(settings: NodeSettings, trust: Trust, bound: Sequence[Address]) -> DiscoveryScope:
    """Tell where clients may find a node that listens at the addresses *bound*.

    Raises:
        UsageError: an address of multicast in `dispy.config` is none.
    """
    ipv4_group, ipv6_group = config.multicast_groups()
    return DiscoveryScope(
        keys=trust.discovery_keys,
        node_ports=(settings.base_port + 1,),
        client_port=settings.base_port,
        hosts=_own_hosts(bound),
        multicast=settings.ipv4_udp_multicast,
        ipv4_group=ipv4_group,
        ipv6_group=ipv6_group,
        ping_interval_s=float(settings.ping_interval) or None,
    )


async def make_presence(settings: NodeSettings, state: StateFolder, port: int) -> Presence:
    """Tell who the node is, and where others reach it; names of its own addresses are looked up."""
    addresses = [address for host in settings.ext_host for address in await _resolve(host)]
    return Presence(
        state.node, state.epoch, port, tuple(dict.fromkeys(addresses)), tuple(settings.scheduler_host)
    )


async def announce(
    settings: NodeSettings, trust: Trust, plugins: PluginManager, state: StateFolder, bound: Sequence[Address]
) -> None:
    """Let clients find the node until cancelled; if they cannot, log why, and return."""
    ports = [address.port for address in bound if address.scheme == "tcp" and address.port]
    if settings.no_discovery or not ports:
        return
    try:
        scope = make_scope(settings, trust, bound)
        keys = await trust.discovery_keys()
    except DispyError as error:
        log.warning(NOT_FOUND, error)
        return
    discoveries = plugins.discoveries()
    if not discoveries:
        log.info(NOT_FOUND, "the part for it comes with: pip install 'dispy-core[std]'")
    elif not (keys.is_open or keys.keys):
        log.info(NOT_FOUND, "certificates alone have no key by which both sides would know each other")
    else:
        presence = await make_presence(settings, state, ports[0])
        async with trio.open_nursery() as nursery:
            for discovery in discoveries:
                nursery.start_soon(_announce, discovery, scope, presence)


async def _announce(discovery: Discovery, scope: DiscoveryScope, presence: Presence) -> None:
    """Run one discovery; what it raises ends that one only."""
    try:
        await discovery.announce(scope, presence)
    except* Exception:
        log.exception("a bug in dispy, or in a plugin, has ended the announcements by %r", discovery.NAME)


def _own_hosts(bound: Sequence[Address]) -> tuple[str, ...]:
    """Return the addresses that the node listens on; none stands for all."""
    hosts = [address.host for address in bound if address.scheme == "tcp"]
    if any(ipaddress.ip_address(host.partition("%")[0]).is_unspecified for host in hosts):
        return ()
    return tuple(hosts)


async def _resolve(host: str) -> list[str]:
    try:
        found = await trio.socket.getaddrinfo(host, None, type=trio.socket.SOCK_STREAM)
    except OSError as error:
        log.warning(
            "--ext-host %s: clients are not told of it, since it has no address: %s", host, error.strerror
        )
        return []
    return [str(entry[4][0]).partition("%")[0] for entry in found]
