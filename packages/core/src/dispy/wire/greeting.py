"""Whether two greetings fit together."""

from __future__ import annotations

from dispy.errors import RemoteProtocolError
from dispy.model import MAX_FRAME_BYTES, Role
from dispy.printable import SHOWN_CHARS, printable
from dispy.wire.messages import Hello

MIN_FRAME_BYTES = MAX_FRAME_BYTES
"""Smallest limit that a peer may set: what is sent is bounded by ours, so an answer might not fit into less."""

MIN_HEARTBEAT_S = 0.05
"""Below this the timers of a loaded machine are late by more than the interval."""

MAX_HEARTBEAT_S = 3600.0
"""Above this a lost peer is as good as never noticed."""

IDENT_CHARS = 64
"""Longest ident; ours have half of that."""


def check_greeting(ours: Hello, theirs: Hello, accepts: frozenset[Role]) -> int:
    """Return the highest version of the protocol that both speak.

    Raises:
        RemoteProtocolError: there is none (the text names both sides and the one to upgrade), the peer's role is
            not in *accepts*, or its greeting breaks the protocol's limits.
    """
    peer = describe_peer(theirs)
    version = min(ours.protocol_max, theirs.protocol_max)
    if version < max(ours.protocol_min, theirs.protocol_min):
        older = f"this {ours.role}" if ours.protocol_max < theirs.protocol_max else f"the {peer}"
        raise RemoteProtocolError(
            f"this {ours.role} ({_describe_versions(ours)}) and the {peer} ({_describe_versions(theirs)}) "
            f"have no protocol version in common; upgrade dispy of {older}"
        )
    if theirs.role not in accepts:
        wanted = " or ".join(sorted(accepts))
        raise RemoteProtocolError(f"peer is the {peer}, but this {ours.role} expects a {wanted} there")
    defect = find_defect(theirs)
    if defect:
        raise RemoteProtocolError(f"greeting of the {peer} has {defect}")
    return version


def find_defect(hello: Hello) -> str:
    """Return what is wrong with the figures or the ident of a greeting, ``""`` if nothing is."""
    if not 1 <= hello.protocol_min <= hello.protocol_max:
        return f"protocol versions {hello.protocol_min} to {hello.protocol_max}, which is no range"
    if not MIN_HEARTBEAT_S <= hello.heartbeat_s <= MAX_HEARTBEAT_S:  # not a number is refused too
        return (
            f"a heartbeat of {hello.heartbeat_s:g} s, not within {MIN_HEARTBEAT_S:g} to {MAX_HEARTBEAT_S:g} s"
        )
    if hello.max_frame_bytes < MIN_FRAME_BYTES:
        return f"a frame limit of {hello.max_frame_bytes} bytes, less than {MIN_FRAME_BYTES}"
    if len(hello.ident) > IDENT_CHARS or not hello.ident.isprintable():
        return f"an ident that is longer than {IDENT_CHARS} characters, or cannot be printed"
    return ""


def describe_peer(hello: Hello) -> str:
    """Return role and name of a participant, for people."""
    return f"{printable(hello.role, SHOWN_CHARS)} {hello.name[:SHOWN_CHARS]!r}"


def _describe_versions(hello: Hello) -> str:
    versions = sorted({hello.protocol_min, hello.protocol_max})
    return f"dispy {printable(hello.version, SHOWN_CHARS)}, protocol {' to '.join(map(str, versions))}"
