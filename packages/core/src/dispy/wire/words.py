"""Words of a peer that are shown to people, made fit for that as they come in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import msgspec

from dispy.printable import printable, printable_lines
from dispy.wire import messages as msg

NAME_CHARS = 255
"""Names of hosts are no longer (RFC 1035)."""

REASONS: Mapping[type, str] = {
    msg.Goodbye: "reason",
    msg.StreamEnded: "reason",
    msg.ComputationFailed: "reason",
    msg.ComputationClosed: "problem",
    msg.JobsRejected: "reason",
    msg.NodeChanged: "reason",
    msg.FileTaken: "reason",
    msg.DataLost: "reason",
}
"""Message -> its field that says why; it may have several lines."""

AnyMessage = TypeVar("AnyMessage", bound=msg.Message)


def clean_greeting(hello: msg.Hello) -> msg.Hello:
    """Return a greeting whose words for people are printable, on one line, and not too long."""
    return msgspec.structs.replace(
        hello,
        name=printable(hello.name, NAME_CHARS),
        version=printable(hello.version, NAME_CHARS),
        platform=printable(hello.platform, NAME_CHARS),
        addresses=[printable(address, NAME_CHARS) for address in hello.addresses],
        refusal=printable(hello.refusal, NAME_CHARS),
        resources={
            name: count for name, count in hello.resources.items() if printable(name, NAME_CHARS) == name
        },
    )


def clean_reason(message: AnyMessage) -> AnyMessage:
    """Return a message whose reason, if it has one, is printable; see `dispy.printable.printable_lines`."""
    field = REASONS.get(type(message))
    if field is None or getattr(message, field).isprintable():
        return message
    return msgspec.structs.replace(message, **{field: printable_lines(getattr(message, field))})
