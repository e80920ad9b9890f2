"""The greeting that this installation sends."""

from __future__ import annotations

import platform
from collections.abc import Mapping

from dispy import __version__
from dispy.model import MAX_FRAME_BYTES, Role
from dispy.wire.messages import PROTOCOL_VERSION, Hello

HEARTBEAT_S = 5.0
"""Default time between signs of life; three times that without one means lost (HTCondor: 300 s, Ray: 5 s)."""


def make_hello(
    role: Role,
    ident: str,
    *,
    name: str,
    epoch: int = 1,
    cpus: int = 0,
    addresses: tuple[str, ...] = (),
    avail: tuple[float, int, int, float] | None = None,
    proof: bytes = b"",
    refusal: str = "",
    resources: Mapping[str, int] | None = None,
) -> Hello:
    """Make the first message of a link; for *proof* see `dispy.wire.owner`."""
    return Hello(
        protocol_min=PROTOCOL_VERSION,
        protocol_max=PROTOCOL_VERSION,
        role=role.value,
        ident=ident,
        epoch=epoch,
        name=name,
        version=__version__,
        python=platform.python_version().rstrip("+"),
        platform=platform.platform(),
        max_frame_bytes=MAX_FRAME_BYTES,
        heartbeat_s=HEARTBEAT_S,
        cpus=cpus,
        addresses=list(addresses),
        avail=avail,
        proof=proof,
        refusal=refusal,
        resources=dict(resources or {}),
    )
