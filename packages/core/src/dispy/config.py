"""Settings for the whole process. Assign to them before the first cluster is made: ``dispy.config.NodePort = 9701``.

* ``DispyPort``: base of the ports below.
* ``ClientPort``: of programs that make clusters; DispyPort unless assigned.
* ``NodePort``: of nodes; DispyPort + 1 unless assigned.
* ``MsgTimeout``: how long a participant may take to answer, in seconds.

Names are those of the original. There, ports other than DispyPort are expressions in strings; here they are
numbers that follow DispyPort until they are assigned.
"""

from __future__ import annotations

from typing import Any

from dispy.errors import UsageError

DispyPort: int = 51347
"""As in the founding document; the same number is used for TCP and UDP."""

MsgTimeout: float = 10
"""Seconds, as in the original."""

OFFSETS = {"ClientPort": 0, "NodePort": 1}
"""Distance of a port from DispyPort."""


def __getattr__(name: str) -> int:
    """Compute a port that was not assigned."""
    if name in OFFSETS:
        return port("DispyPort") + OFFSETS[name]
    raise AttributeError(f"module 'dispy.config' has no attribute {name!r}")


def port(name: str) -> int:
    """Return the port called *name* (``"NodePort"``), checked.

    Raises:
        UsageError: what was assigned to it, or to DispyPort, is no port number.
    """
    value = globals()[name] if name in globals() else __getattr__(name)
    return checked_port(value, f"dispy.config.{name}")


def node_port() -> int:
    """Return the port of nodes; raises UsageError as `port`."""
    return port("NodePort")


def client_port() -> int:
    """Return the port of clients; raises UsageError as `port`."""
    return port("ClientPort")


def set_port(number: object) -> None:
    """Set DispyPort.

    Raises:
        UsageError: *number* is no port number.
    """
    checked = checked_port(number, "dispy_port", most=65535 - max(OFFSETS.values()))
    globals()["DispyPort"] = checked


def checked_port(value: Any, label: str, *, most: int = 65535) -> int:
    """Return *value* if it is a port number, at most *most*.

    Raises:
        UsageError: it is not; *label* tells what it is.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= most:
        raise UsageError(f"{label} must be a number from 1 to {most}, not {value!r}")
    return value
