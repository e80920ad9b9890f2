"""Settings for the whole process. Assign to them before the first cluster is made: ``dispy.config.NodePort = 9701``.

* ``DispyPort``: base of the port below.
* ``NodePort``: of nodes; DispyPort + 1 unless assigned.
* ``ClientPort``: where nodes announce themselves; DispyPort unless assigned.
* ``IPv4MulticastGroup``, ``IPv6MulticastGroup``: addresses that nodes are asked at; the same on all machines.
* ``MsgTimeout``: how long a machine may take to accept a connection, in seconds.
* ``ResultMemory``: how much memory nodes may fill with large results, in bytes; 0 means as much as this machine has.
* ``ClusterOrder``: whose jobs go first where several clusters of this process want the same slots: ``"first"``, those
  submitted first; ``"fair"``, of the cluster that was served least recently; ``"early"``, of the one created first.
* ``MaxFileSize``: largest file that is sent or taken, in bytes; 0 for no limit.

Names are those of the original. There, ports other than DispyPort are expressions in strings; here they are
numbers that follow DispyPort until they are assigned. Of its other names none has a use here: who assigns to one is
warned.
"""

from __future__ import annotations

import ipaddress
import math
import os
import sys
from types import ModuleType
from typing import Any

from dispy import model
from dispy.errors import UsageError
from dispy.logger import logger
from dispy.sizes import parse_size

DispyPort: int = 51347
"""As in the founding document; the same number is used for TCP and UDP."""

MsgTimeout: float = 10
"""Seconds, as in the original."""

ResultMemory: int = 0
"""Bytes of results above 64 KiB, and of intermediate results, that arrive or have not been looked at; of these, those
of one node may fill half. The job of one that does not fit ends without it. 0: as many as the machine has memory."""

ClusterOrder: str = "first"
"""A value of `dispy.model.ClusterOrder`."""

UNKNOWN_MEMORY = 4 * 1024**3
"""Where the system does not tell how much it has."""
MaxFileSize: int | str = 0
"""Bytes, or text such as ``"10m"``; 0 for no limit, as in the original."""

MOST_TIMEOUT_S = 600.0
"""Longest `MsgTimeout`: systems themselves give up a connection after some minutes."""

IPv4MulticastGroup: str = "239.255.61.59"
IPv6MulticastGroup: str = "ff05::b409:3171:9705:5134:6159"
"""As in the original."""

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
    """Return the port where clients hear nodes announce themselves; raises UsageError as `port`."""
    return port("ClientPort")


def multicast_groups() -> tuple[str, str]:
    """Return the groups of IPv4 and IPv6, checked.

    Raises:
        UsageError: what was assigned to one is no address of multicast of that kind.
    """
    found = []
    for name, version in (("IPv4MulticastGroup", 4), ("IPv6MulticastGroup", 6)):
        value: Any = globals()[name]
        try:
            address = ipaddress.ip_address(value)
        except ValueError:
            address = None
        if address is None or address.version != version or not address.is_multicast:
            example = "239.255.1.2" if version == 4 else "ff05::1234"
            raise UsageError(
                f"dispy.config.{name} must be an IPv{version} address of multicast such as {example!r}, not {value!r}"
            )
        found.append(str(address))
    return found[0], found[1]


def msg_timeout_s() -> float:
    """Return `MsgTimeout`, checked.

    Raises:
        UsageError: what was assigned to it is no such time.
    """
    value: Any = MsgTimeout
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not math.isfinite(value)
        or not 0 < value <= MOST_TIMEOUT_S
    ):
        raise UsageError(
            f"dispy.config.MsgTimeout must be a number of seconds above 0, at most {MOST_TIMEOUT_S:g}, not {value!r}"
        )
    return float(value)


def result_memory_bytes() -> int:
    """Return `ResultMemory`, checked; if it is 0, what the machine has.

    Raises:
        UsageError: what was assigned to it is no number of bytes.
    """
    value: Any = ResultMemory
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise UsageError(f"dispy.config.ResultMemory must be a number of bytes, or 0, not {value!r}")
    if value:
        return value
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return UNKNOWN_MEMORY


def cluster_order() -> model.ClusterOrder:
    """Return `ClusterOrder`, checked.

    Raises:
        UsageError: what was assigned to it is no such order.
    """
    try:
        return model.ClusterOrder(ClusterOrder)
    except ValueError:
        names = ", ".join(repr(order.value) for order in model.ClusterOrder)
        raise UsageError(f"dispy.config.ClusterOrder must be one of {names}, not {ClusterOrder!r}") from None


def max_file_bytes(given: object = None) -> int:
    """Return *given*, or `MaxFileSize` if that is None, as a number of bytes; 0 for no limit.

    Raises:
        UsageError: it is no size.
    """
    if given is None:
        return parse_size(MaxFileSize, "dispy.config.MaxFileSize")
    return parse_size(given, "max_file_size")


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


class _Config(ModuleType):
    """This module, which tells who assigns to what nothing reads."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in OFFSETS and name not in vars(self):
            logger.warning("dispy.config.%s has no effect: nothing of this version uses it", name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Config
