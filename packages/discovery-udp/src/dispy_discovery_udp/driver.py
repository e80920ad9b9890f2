"""Carries out what an engine decides: sockets on every network, also on those that come later, and its clock."""

from __future__ import annotations

import contextlib
import errno
import logging
import socket
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import trio

from dispy.discovery import DiscoveryKeys, DiscoveryScope
from dispy.errors import DispyError
from dispy_discovery_udp.engine.datagrams import SIZE, Ring
from dispy_discovery_udp.engine.values import (
    DatagramReceived,
    Effect,
    Ended,
    Event,
    KeysChanged,
    PathsChanged,
    Shout,
    Source,
    TimePassed,
    Whisper,
)
from dispy_discovery_udp.interfaces import Path, list_paths
from dispy_discovery_udp.sockets import Groups, open_direct_ear, open_ears, open_talker

log = logging.getLogger("dispy")

POLL_S = 2.0
"""How often it is looked for networks that have come or gone, and for other keys."""

TRIES = 3
"""An address that is not usable for so many looks in a row is complained of."""

BATCH_MAX = 64
"""Datagrams that are taken from a socket before others have their turn."""


class Engine(Protocol):
    """`engine.seeker.Seeker` or `engine.beacon.Beacon`."""

    @property
    def deadline(self) -> float:
        """When `TimePassed` is due."""

    def handle(self, event: Event, now: float) -> list[Effect]:
        """Take in what has happened; return what is to be done."""


@dataclass(slots=True)
class _Station:
    """The sockets on one path."""

    path: Path
    talker: socket.socket
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)


class Driver:
    """Runs one engine.

    Args:
        ports: at which it hears what is sent to everybody.
        tell: called with each effect that is for others.
        looking: called with the networks that are used, when they are known and when they change.
        clients: addresses elsewhere that get whatever is shouted, too.
        hears_directly: what is sent to this machine alone is heard at *ports*, too.
    """

    def __init__(
        self,
        engine: Engine,
        scope: DiscoveryScope,
        ports: Sequence[int],
        *,
        tell: Callable[[Effect], None] = lambda effect: None,
        looking: Callable[[Sequence[Path]], None] = lambda paths: None,
        clients: Sequence[str] = (),
        hears_directly: bool = False,
    ) -> None:
        self._engine = engine
        self._scope = scope
        self._ports = ports
        self._tell = tell
        self._looking = looking
        self._clients = clients
        self._hears_directly = hears_directly
        self._tries: Counter[str] = Counter()
        self._groups = Groups(scope.ipv4_group, scope.ipv6_group, scope.multicast)
        self._stations: dict[str, _Station] = {}
        self._troubles: set[tuple[str, str]] = set()
        self._own: set[str] = set()
        self._wake = trio.Event()

    async def run(self, keys: DiscoveryKeys) -> None:
        """Run until cancelled; then the engine has the last word."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._keep_time)
                nursery.start_soon(self._watch_keys, keys)
                while True:
                    self._refresh(nursery)
                    await trio.sleep(POLL_S)
        finally:
            self.handle(Ended())
            for station in self._stations.values():
                station.talker.close()

    def handle(self, event: Event) -> None:
        """Feed the engine and do what it says."""
        for effect in self._engine.handle(event, trio.current_time()):
            match effect:
                case Shout(data, port):
                    self._shout(data, port)
                case Whisper(data, source):
                    station = self._stations.get(source.path)
                    if station is not None:
                        self._send(station, data, (source.host, source.port), level=logging.DEBUG)
                case _:
                    self._tell(effect)
        self._wake.set()

    async def _keep_time(self) -> None:
        while True:
            self._wake = trio.Event()
            with trio.move_on_at(self._engine.deadline) as scope:
                await self._wake.wait()
            if scope.cancelled_caught:
                self.handle(TimePassed())

    async def _watch_keys(self, keys: DiscoveryKeys) -> None:
        told = ""
        while True:
            await trio.sleep(POLL_S)
            try:
                found = await self._scope.keys()
            except DispyError as error:  # half written just now, say: the old ones serve until it can be read
                if str(error) != told:
                    log.warning("nodes are looked for with the keys known so far: %s", error)
                told = str(error)
                continue
            told = ""
            if found != keys:
                keys = found
                self.handle(KeysChanged(Ring.make(found.keys, is_open=found.is_open)))

    # ---- networks

    def _refresh(self, nursery: trio.Nursery) -> None:
        """Open sockets on networks that have come, close those on networks that have gone, and tell the engine."""
        paths = {path.key: path for path in list_paths(self._scope.hosts)}
        gone = [key for key, station in self._stations.items() if paths.get(key) != station.path]
        for key in gone:
            self._stations.pop(
                key
            ).scope.cancel()  # its task closes the sockets, when it waits for none any more
        come = [
            path for key, path in paths.items() if key not in self._stations and self._open(path, nursery)
        ]
        if not (come or gone):
            return
        here = [station.path for station in self._stations.values()]
        self._own = {address for path in here for address in path.addresses}
        self._looking(here)
        if come:
            addresses = [address for path in here if not path.is_loopback for address in path.addresses]
            self.handle(PathsChanged(tuple(dict.fromkeys(addresses))))

    def _open(self, path: Path, nursery: trio.Nursery) -> bool:
        with contextlib.ExitStack() as stack:
            try:
                talker = stack.enter_context(open_talker(path))
                ears: list[socket.socket] = []
                for port in self._ports:
                    ears += map(stack.enter_context, open_ears(path, port, self._groups))
                    if self._hears_directly and not path.is_loopback:
                        ears.append(stack.enter_context(open_direct_ear(path, port)))
            except OSError as error:  # it is tried again with the next look
                self._tries[path.key] += 1
                # A new IPv6 address cannot be used for a second or two, until nobody else turns out to have it.
                if error.errno != errno.EADDRNOTAVAIL or self._tries[path.key] >= TRIES:
                    self._complain(path, f"cannot be used to find nodes: {error.strerror or error}")
                return False
            stack.pop_all()
        station = self._stations[path.key] = _Station(path, talker)
        nursery.start_soon(self._hear_all, station, [talker, *ears])
        return True

    async def _hear_all(self, station: _Station, socks: Sequence[socket.socket]) -> None:
        try:
            with station.scope:
                async with trio.open_nursery() as nursery:
                    for sock in socks:
                        nursery.start_soon(self._hear, station, sock)
        finally:
            still_there = self._stations.get(station.path.key) is station
            for sock in socks[still_there:]:  # the first one is the talker, which is needed for the last word
                sock.close()

    async def _hear(self, station: _Station, sock: socket.socket) -> None:
        while True:
            await trio.lowlevel.wait_readable(sock)
            for _ in range(BATCH_MAX):
                try:
                    data, address = sock.recvfrom(SIZE + 1)
                except BlockingIOError:
                    break
                except OSError as error:  # news of an earlier datagram, or the network has gone
                    self._complain(station.path, f"could not be heard on: {error.strerror or error}")
                    break
                host = str(address[0])
                is_own = host in self._own
                if len(address) == 4 and address[3]:  # an address of the link, whose zone Python tells apart
                    host = f"{host}%{station.path.interface}"
                self.handle(DatagramReceived(data, Source(station.path.key, host, int(address[1]), is_own)))

    # ---- sending

    def _shout(self, data: bytes, port: int) -> None:
        for station in self._stations.values():
            self._send(station, data, (self._groups.target(station.path), port))
        for client in self._clients:
            self._send_afar(data, client, port)

    def _send_afar(self, data: bytes, client: str, port: int) -> None:
        """Send to a machine that may be elsewhere; from where, the system cannot choose for us, so each tries."""
        family = socket.AF_INET6 if ":" in client else socket.AF_INET
        for station in self._stations.values():
            if station.path.family == family and not (
                station.path.is_loopback or "%" in station.path.address
            ):
                self._send(station, data, (client, port))

    def _send(
        self, station: _Station, data: bytes, address: tuple[str, int], *, level: int = logging.WARNING
    ) -> None:
        """Send; what goes wrong is told on *level*: one who cannot be answered is no trouble of the network."""
        try:
            station.talker.sendto(data, address)
        except BlockingIOError:
            pass  # the network is busy: this is one more datagram that is lost
        except OSError as error:
            self._complain(station.path, f"did not take a datagram: {error.strerror or error}", level)

    def _complain(self, path: Path, what: str, level: int = logging.WARNING) -> None:
        """Log what is wrong with a network, once."""
        if (path.key, what) not in self._troubles:
            self._troubles.add((path.key, what))
            log.log(level, "network %s (%s) %s", path.interface, path.address, what)
