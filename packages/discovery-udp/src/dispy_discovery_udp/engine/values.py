"""What goes into the engines, and what comes out of them."""

from __future__ import annotations

from dataclasses import dataclass

from dispy.discovery import Sighting
from dispy_discovery_udp.engine.datagrams import Mode, Ring


@dataclass(frozen=True, slots=True)
class Source:
    """Who has sent a datagram.

    Attributes:
        path: names the network that it came in on; opaque to the engines.
        host: its address, with a zone if it is of one link only.
        is_own: the address is one of this machine, loopback included.
    """

    path: str
    host: str
    port: int
    is_own: bool = False


# ---- what has happened


@dataclass(frozen=True, slots=True)
class PathsChanged:
    """The networks of this machine are known, or some have come; whoever is new there has not heard us yet.

    Attributes:
        addresses: all of this machine on these networks, without zones and without loopback.
    """

    addresses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class KeysChanged:
    """There are other keys than before."""

    ring: Ring


@dataclass(frozen=True, slots=True)
class DatagramReceived:
    """Somebody has sent something."""

    data: bytes
    source: Source


@dataclass(frozen=True, slots=True)
class TimePassed:
    """The deadline of the engine is reached."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The node takes no more work."""


Event = PathsChanged | KeysChanged | DatagramReceived | TimePassed | Ended

# ---- what is to be done


@dataclass(frozen=True, slots=True)
class Shout:
    """Send to everybody at *port*, on all paths."""

    data: bytes
    port: int


@dataclass(frozen=True, slots=True)
class Whisper:
    """Send to one source, by the path that it is on."""

    data: bytes
    source: Source


@dataclass(frozen=True, slots=True)
class TellSighted:
    """A node has answered."""

    sighting: Sighting


@dataclass(frozen=True, slots=True)
class TellDeparted:
    """A node that was sighted in this epoch, or in an earlier one, ends."""

    ident: str
    epoch: int


@dataclass(frozen=True, slots=True)
class TellRefused:
    """At an address there seems to be a node with another key, or in another mode."""

    host: str
    mode: Mode


Effect = Shout | Whisper | TellSighted | TellDeparted | TellRefused
